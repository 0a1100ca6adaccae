/** `verify` of an encrypted image without its key: its structure and the checksums of what is stored (sealedWalkWorker.ts). */
import { abortReason, linkSignal } from './abort.js';
import type { ImageInput } from './imageInput.js';
import { createControl } from './pipeline/control.js';
import type { SealedWalkResult } from './pipeline/sealedWalkWorker.js';
import { runJobs } from './pipeline/workerPool.js';
import { reportProgress } from './progress.js';
import type { VerifyOptions, VerifyResult } from './types.js';

/** What the image's bases are is not looked at: they are to be checked themselves. */
export async function verifySealed(
  image: string,
  { fd, path, isStream, head, fileBytes }: ImageInput,
  options: VerifyOptions,
  started: number,
): Promise<VerifyResult> {
  const control = createControl(1);
  const unlink = linkSignal(options.signal, control);
  const endReports = reportProgress('verify', control, fileBytes, options);
  const structureOnly = options.structureOnly ?? false;
  const job = {
    kind: 'sealedWalk',
    control,
    image: { fd, path, isStream },
    headBytes: head.bytes,
    structureOnly,
  } as const;
  try {
    const [result] = await runJobs<SealedWalkResult>([job], control);
    const { findings, findingCount, records, end } = result!;
    return {
      image,
      intact: findingCount === 0,
      sealed: true,
      findings: findings.map(({ structure, error }) => {
        return { path: error.path ?? image, structure, offset: error.offset ?? 0, message: error.message };
      }),
      findingCount,
      bases: [],
      imageBytes: fileBytes ?? end?.fileBytes ?? 0,
      identity: end?.identity,
      digest: undefined,
      checked: { records, chunks: 0, memoryBytes: 0 },
      run: { threads: 1, durationSeconds: (performance.now() - started) / 1000 },
    };
  } catch (error) {
    throw abortReason(error, options.signal);
  } finally {
    endReports();
    unlink();
  }
}
