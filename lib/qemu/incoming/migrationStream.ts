/**
 * The migration stream of a machine as the target of a load: the head, records of pages from all threads, the end of RAM, and
 * the state of devices, which is sent only after the memory is proven. Without it no machine runs.
 */
import { write } from 'node:fs';
import { promisify } from 'node:util';
import type { BlockPlace } from '../../../formats/qemu/pageRecords.js';
import { streamFrame } from '../../../formats/qemu/streamFrame.js';
import { wrapSystemError } from '../../../native/errors.js';
import { loadParts } from '../../load.js';
import type { RegionSelection } from '../../pipeline/readJob.js';
import type { LoadTarget } from '../../target.js';
import type { CommonOptions, LoadResult } from '../../types.js';
import type { MachineImage } from './machineImage.js';

// Not writeSync: a reader that is slow, or hangs, must not keep signals from being heard.
const writePart = promisify(write);

export interface StreamOutput {
  readonly fd: number;
  /** How messages call it. */
  readonly path: string;
}

/** Sends the whole stream; the descriptor stays the caller's. */
export async function sendStream(
  image: MachineImage,
  output: StreamOutput,
  options: CommonOptions,
): Promise<LoadResult> {
  const { start, end } = streamFrame(image.headBytes);
  const { selection, records } = streamedRegions(image);
  await writeAll(output, start);
  const target: LoadTarget = {
    sink: { kind: 'stream', fd: output.fd, path: output.path, records },
    inPlace: false,
    resize: () => {},
    finish: async () => {
      await writeAll(output, end);
      for await (const part of image.tail()) {
        options.signal?.throwIfAborted();
        await writeAll(output, part);
      }
    },
    discard: () => {},
  };
  return await loadParts(image.opened, image.bases, { selection, target, name: output.path }, options);
}

function streamedRegions({ opened, blocks }: MachineImage): {
  selection: (RegionSelection | undefined)[];
  records: (BlockPlace | undefined)[];
} {
  const regionCount = opened.input.head.start.regions.length;
  const selection = new Array<RegionSelection | undefined>(regionCount).fill(undefined);
  const records = new Array<BlockPlace | undefined>(regionCount).fill(undefined);
  for (const { name, contents, parts } of blocks) {
    if (contents !== 'stream') continue;
    for (const { region, blockOffset, sizeBytes } of parts) {
      selection[region] = { from: 0, to: sizeBytes, targetOffset: 0 };
      records[region] = { block: name, blockOffset };
    }
  }
  return { selection, records };
}

async function writeAll({ fd, path }: StreamOutput, bytes: Buffer): Promise<void> {
  try {
    for (let done = 0; done < bytes.length; ) done += (await writePart(fd, bytes, done)).bytesWritten;
  } catch (error) {
    throw wrapSystemError(error, 'write to', path);
  }
}
