/**
 * One operation of the library, told as JSON in the first argument and answered over IPC, so that standard input and
 * output are free for memory and images.
 */
import {
  type LoadOptions,
  type LoadResult,
  load,
  type SaveOptions,
  type SaveResult,
  save,
  type VerifyOptions,
  type VerifyResult,
  VmsnapError,
  verify,
} from '../../../lib/index.js';
import { peakMemoryBytes } from '../../../lib/limits.js';

type Plain<T> = Omit<T, 'signal' | 'onProgress' | 'onWarning' | 'labels'>;

export type Work =
  | {
      readonly operation: 'save';
      readonly source: string | undefined;
      readonly image: string;
      readonly options?: Plain<SaveOptions>;
    }
  | {
      readonly operation: 'load';
      readonly image: string;
      readonly target: string;
      readonly options?: Plain<LoadOptions>;
    }
  | { readonly operation: 'verify'; readonly image: string; readonly options?: Plain<VerifyOptions> };

export type Outcome =
  | { readonly ok: true; readonly result: SaveResult | LoadResult | VerifyResult; readonly peakBytes: number }
  | {
      readonly ok: false;
      /** The error's code, the name of another error, or of the signal that ended the process. */
      readonly code: string;
      readonly message: string;
      readonly path: string | undefined;
      readonly hint: string | undefined;
    };

export type WorkEvent = { readonly event: 'started' | 'moved' } | { readonly event: 'done'; readonly outcome: Outcome };

const PROGRESS_SECONDS = 0.005;

const work = JSON.parse(process.argv[2]!) as Work;
const controller = new AbortController();
process.once('message', () => controller.abort(new Error('told to stop')));
// Listening must not keep the process alive once the work is done.
process.channel?.unref();

function tell(event: WorkEvent): Promise<void> {
  return new Promise((resolve) => {
    process.send!(event, () => resolve());
  });
}

async function run(): Promise<Outcome> {
  try {
    const result = await start();
    return { ok: true, result, peakBytes: peakMemoryBytes() };
  } catch (error) {
    const { code, path, hint } = error instanceof VmsnapError ? error : { code: (error as Error).name };
    return { ok: false, code, message: (error as Error).message, path, hint };
  }
}

function start(): Promise<SaveResult | LoadResult | VerifyResult> {
  let moved = false;
  const common = {
    signal: controller.signal,
    progressIntervalSeconds: PROGRESS_SECONDS,
    onProgress: ({ doneBytes }: { doneBytes: number }) => {
      if (moved || doneBytes === 0) return;
      moved = true;
      void tell({ event: 'moved' });
    },
  };
  if (work.operation === 'save') return save(work.source, work.image, { ...work.options, ...common });
  if (work.operation === 'load') return load(work.image, work.target, { ...work.options, ...common });
  return verify(work.image, { ...work.options, ...common });
}

await tell({ event: 'started' });
const outcome = await run();
await tell({ event: 'done', outcome });
process.disconnect();
