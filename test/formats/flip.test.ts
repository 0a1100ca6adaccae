/** Every byte of a small image is changed in turn; none of it goes unseen, and no load gives wrong memory. */
import test from 'ava';
import type { CodecName } from '../../lib/index.js';
import { workspace } from '../lib/support/workspace.js';
import { takeApart } from './forge.js';
import { Judge } from './support/judge.js';
import { smallImage } from './support/smallImages.js';

/** Each byte loses or gains one bit, another one from byte to byte. */
function flipped(image: Buffer, at: number): Buffer {
  const copy = Buffer.from(image);
  copy[at]! ^= 1 << at % 8;
  return copy;
}

/** One test for each of these parts, so that none takes long on a slow machine. */
const PARTS = 4;

for (const codec of ['zstd', 'none'] satisfies CodecName[]) {
  for (let part = 0; part < PARTS; part++) {
    test(`codec ${codec}: verify sees a flip of any byte, and load never gives wrong memory (part ${part + 1} of ${PARTS})`, async (t) => {
      const folder = workspace(t);
      const { bytes, memory } = await smallImage(folder, { codec });
      const judge = new Judge(folder);
      for (const at of positions(bytes, part)) {
        judge.put(flipped(bytes, at));
        const verdict = await judge.verify();
        if (verdict !== 'damaged') t.fail(`flip at ${at}: verify says ${verdict}`);
        const loaded = await judge.load();
        const right = loaded === 'CORRUPT' || (Buffer.isBuffer(loaded) && loaded.equals(memory));
        if (!right) t.fail(`flip at ${at}: load gives ${typeof loaded === 'string' ? loaded : 'wrong memory'}`);
      }
      t.pass();
    });
  }
}

/** Every byte of the part; of long runs of padding zeros (codec none) every 61st. */
function positions(image: Buffer, part: number): number[] {
  const alignment = takeApart(image).header.readUInt32LE(12);
  const from = Math.floor((image.length * part) / PARTS);
  const to = Math.floor((image.length * (part + 1)) / PARTS);
  const found: number[] = [];
  for (let at = from; at < to; at++) {
    const isLongPadding = alignment > 8 && at > 64 && isZeroAround(image, at);
    if (!isLongPadding || at % 61 === 0) found.push(at);
  }
  return found;
}

function isZeroAround(image: Buffer, at: number): boolean {
  return image.subarray(Math.max(0, at - 64), at + 64).every((byte) => byte === 0);
}
