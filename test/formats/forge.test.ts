/** The forge itself: an image that is only taken apart and sealed again is the same to the byte. */
import test from 'ava';
import type { CodecName } from '../../lib/index.js';
import { workspace } from '../lib/support/workspace.js';
import { seal, takeApart } from './forge.js';
import { smallImage } from './support/smallImages.js';

for (const codec of ['zstd', 'zlib', 'none'] satisfies CodecName[]) {
  test(`an image of codec ${codec} that is taken apart and sealed again is the same`, async (t) => {
    const { bytes } = await smallImage(workspace(t), { codec });
    t.true(seal(takeApart(bytes)).equals(bytes));
  });
}
