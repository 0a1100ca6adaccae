/** Seals the chunks of one record after the other, in the buffer in which it is made. One a thread. */
import { SEAL_NUMBER_BYTES, TAG_BYTES } from '../../formats/vmsnap/layout.js';
import { writeU64 } from '../../formats/vmsnap/record.js';
import { ChunkSealer, type SealKeys } from '../../formats/vmsnap/seal.js';
import { type SharedControl, takeSealNumber } from './control.js';

const NO_RECORD = Buffer.alloc(0);

export class PayloadSealing {
  readonly #sealer: ChunkSealer;
  readonly #control: SharedControl;
  #record: Buffer = NO_RECORD;
  #number = 0;
  #tagsAt = 0;

  constructor(keys: SealKeys, control: SharedControl) {
    this.#sealer = new ChunkSealer(keys);
    this.#control = control;
  }

  /** Begins a record under a seal number of its own; its seal stands at `sealAt`, in its tables. */
  begin(record: Buffer, sealAt: number): void {
    this.#record = record;
    this.#number = takeSealNumber(this.#control);
    writeU64(record, this.#number, sealAt);
    this.#tagsAt = sealAt + SEAL_NUMBER_BYTES;
  }

  /** Each chunk of the record once. */
  seal(chunk: number, at: number, length: number): void {
    const bytes = this.#record.subarray(at, at + length);
    this.#sealer.seal(bytes, this.#number, chunk, this.#record, this.#tagsAt + TAG_BYTES * chunk);
  }
}
