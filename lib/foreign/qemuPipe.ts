/** A migration stream that comes through a pipe or a socket: its regions are known from its head, its end is stored as it comes. */
import { corruptStream } from '../../formats/qemu/fault.js';
import { machineOf, machineTypeOf, QEMU_HEAD, QEMU_TAIL } from '../../formats/qemu/openStream.js';
import { type BlockRegion, blockRegions } from '../../formats/qemu/ramRegions.js';
import { QEMU_PAGE_BYTES } from '../../formats/qemu/streamPages.js';
import { endsLikeStream } from '../../formats/qemu/streamTail.js';
import { native } from '../../native/binding.js';
import type { QemuOpened } from '../pipeline/qemuReadWorker.js';
import type { PipeInput, PipeSource } from './pipeInput.js';

export interface QemuPipeSource extends PipeSource {
  readonly machineType: string | undefined;
  readonly blockRegions: readonly BlockRegion[];
}

export async function openQemuPipe(input: PipeInput): Promise<QemuPipeSource> {
  const { fd, path, start } = input;
  const opened = await input.run<QemuOpened>((control) => ({ kind: 'qemuOpen', control, fd, path, start }));
  const { reader, head } = opened;
  const close = () => native.qemuClose(reader);
  try {
    const regions = blockRegions(head, path, () => false);
    return {
      format: 'qemu-stream',
      version: '3',
      machine: machineOf(head),
      machineType: machineTypeOf(head),
      blockRegions: regions,
      pageSize: QEMU_PAGE_BYTES,
      // Whether it leaves out pages is known at its end.
      mayHaveAbsent: true,
      regions: regions.map(({ name, gpa, sizeBytes }) => ({ name, gpa, sizeBytes })),
      attachments: [
        { name: QEMU_HEAD, bytes: head.bytes },
        { name: QEMU_TAIL, read: tailOf(input, reader) },
      ],
      description: {
        kind: 'qemu-stream',
        reader,
        path,
        parts: regions.flatMap(({ block, blockOffset, sizeBytes }) => [block, blockOffset, sizeBytes]),
      },
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

/** Reads the rest of the stream, part by part, and looks at its very end. */
function tailOf(input: PipeInput, reader: number): (into: Uint8Array) => Promise<number> {
  const { path } = input;
  let sizeBytes = 0;
  let last: number | undefined;
  return async (into) => {
    const { length } = into;
    const bytes = await input.run<Uint8Array>((control) => ({ kind: 'qemuRest', control, reader, path, length }));
    into.set(bytes);
    sizeBytes += bytes.length;
    last = bytes.at(-1) ?? last;
    if (bytes.length < length && !endsLikeStream(last)) {
      throw corruptStream(path, sizeBytes, 'it ends within the state of devices (offset counted from the end of RAM)');
    }
    return bytes.length;
  };
}
