/** Images of codec `none`, whose chunks lie where they can be mapped: too large for the committed samples. */
import test from 'ava';
import { workspace } from '../lib/support/workspace.js';
import { type ForgedImage, forge, recordOf, replaceChunk } from './forge.js';
import { Judge } from './support/judge.js';
import { missingTool, runSecondReader, skip } from './support/secondReader.js';
import { smallImage, tinyMemory } from './support/smallImages.js';

const DAMAGES: readonly [string, (image: ForgedImage) => void][] = [
  [
    'alignment 8',
    (image) => {
      image.header.writeUInt32LE(8, 12);
    },
  ],
  ['a chunk shorter than its pages', (image) => replaceChunk(recordOf(image, 'VSEG'), 0, Buffer.alloc(100, 1))],
  [
    'padding that is not zero',
    (image) => {
      const attachment = recordOf(image, 'VATT');
      attachment.padding = Buffer.alloc(4096 - (attachment.payload.length % 4096), 1);
    },
  ],
];

for (const [what, change] of DAMAGES) {
  test(`codec none with ${what} is refused by all readers`, async (t) => {
    const folder = workspace(t);
    const { bytes, memory } = await smallImage(folder, { codec: 'none' }, tinyMemory());
    const judge = new Judge(folder);
    judge.put(forge(bytes, change));
    t.is(await judge.verify(), 'damaged');
    const loaded = await judge.load();
    t.true(loaded === 'CORRUPT' || (loaded as Buffer).equals(memory));
    const reason = missingTool(t, ['python3']);
    if (reason !== undefined) return skip(t, reason);
    t.is((await runSecondReader([judge.imagePath])).exitCode, 1);
  });
}

test('codec none: chunks lie at multiples of 4 KiB', async (t) => {
  const { bytes } = await smallImage(workspace(t), { codec: 'none', attachments: [] }, tinyMemory());
  const page = bytes.indexOf(tinyMemory().subarray(4096, 8192));
  t.true(page > 0);
  t.is(page % 4096, 0);
});
