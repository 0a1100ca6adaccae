/** Every byte of a small image is changed in turn; none of it goes unseen, and no load gives wrong memory. */
import test from 'ava';
import type { CodecName } from '../../lib/index.js';
import { workspace } from '../lib/support/workspace.js';
import { Judge } from './support/judge.js';
import { smallImage, tinyMemory } from './support/smallImages.js';

/** One test for each of these parts, so that none takes long on a slow machine. */
const PARTS = 4;
/** With codec `none` most of an image is zeros up to the next 4 KiB. Of a run of them the ends and every 61st are changed. */
const PADDING_STEP = 61;
const PADDING_EDGE_BYTES = 4;

for (const codec of ['zstd', 'none'] satisfies CodecName[]) {
  for (let part = 0; part < PARTS; part++) {
    test(`codec ${codec}: no flip of a byte goes unseen or gives wrong memory (part ${part + 1} of ${PARTS})`, async (t) => {
      const folder = workspace(t);
      const { bytes, memory } = await smallImage(folder, { codec }, tinyMemory());
      const judge = new Judge(folder);
      for (const at of positions(bytes, part, codec === 'none')) {
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

/** One bit, another from byte to byte. */
function flipped(image: Buffer, at: number): Buffer {
  const copy = Buffer.from(image);
  copy[at]! ^= 1 << (at % 8);
  return copy;
}

/** Bytes of a part of the image. */
function positions(image: Buffer, part: number, thinZeros: boolean): number[] {
  const found: number[] = [];
  for (let at = part; at < image.length; at += PARTS) {
    if (!thinZeros || isNearContent(image, at) || Math.floor(at / PARTS) % PADDING_STEP === 0) found.push(at);
  }
  return found;
}

function isNearContent(image: Buffer, at: number): boolean {
  return image.subarray(Math.max(0, at - PADDING_EDGE_BYTES), at + PADDING_EDGE_BYTES + 1).some((byte) => byte !== 0);
}
