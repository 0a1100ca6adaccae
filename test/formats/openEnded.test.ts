/**
 * Images from a stream of unknown length, read from a pipe: how long a segment is says its own record, and only the end
 * manifest proves it. A hostile one must not shift what is written after it.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import test from 'ava';
import { load } from '../../lib/index.js';
import { cat, makeFifo } from '../lib/support/pipes.js';
import { type Workspace, workspace } from '../lib/support/workspace.js';
import { readSampleList, samplePath } from '../samples/list.js';
import { type ForgedImage, forge, recordOf, replaceStateMap, segmentLayout, xxh3Of } from './forge.js';
import { codeOf, Judge } from './support/judge.js';

const committed = readFileSync(samplePath('valid', 'stream'));
const listed = readSampleList().valid.find(({ name }) => name === 'stream')!;

/** The last run of the state map of segment record `n` is dropped, or a run of zero pages is added. */
function changeLastRun(image: ForgedImage, n: number, change: 'drop' | 'add'): void {
  const record = recordOf(image, 'VSEG', n);
  const { mapAt, mapBytes } = segmentLayout(record);
  const map = Buffer.from(record.tables.subarray(mapAt, mapAt + mapBytes));
  replaceStateMap(record, change === 'add' ? Buffer.concat([map, Buffer.from([0x70])]) : withoutLastRun(map), 8);
}

function withoutLastRun(map: Buffer): Buffer {
  let start = 0;
  for (let at = 0; at < map.length - 1; at++) if (map[at]! < 0x80) start = at + 1;
  return map.subarray(0, start);
}

async function loadFromPipe(folder: Workspace, image: Buffer): Promise<Buffer | string> {
  const [path, pipe, target] = [folder.path('image.vms'), makeFifo(folder.path('pipe')), folder.path('target.raw')];
  writeFileSync(path, image);
  const loading = codeOf(async () => {
    await load(pipe, target, { threads: 2 });
    return readFileSync(target);
  });
  return (await Promise.all([loading, cat(path, pipe)]))[0];
}

test('the sound image gives its memory', async (t) => {
  const memory = (await loadFromPipe(workspace(t), committed)) as Buffer;
  t.is(xxh3Of(memory).toString('hex'), listed.memoryXxh3);
});

const CHANGES: readonly [string, (image: ForgedImage) => void][] = [
  ['whose first segment is short', (image) => changeLastRun(image, 0, 'drop')],
  ['whose last segment is too long', (image) => changeLastRun(image, 1, 'add')],
];

for (const [what, change] of CHANGES) {
  test(`an image ${what} is refused, although its digest is right`, async (t) => {
    const folder = workspace(t);
    const forged = forge(committed, change);
    t.is(await loadFromPipe(folder, forged), 'CORRUPT');
    const judge = new Judge(folder);
    judge.put(forged);
    t.is(await judge.verify(), 'damaged');
    t.is(await judge.load(), 'CORRUPT');
  });
}
