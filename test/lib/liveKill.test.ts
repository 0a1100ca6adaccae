/** SIGKILL in each phase of a live save: what stood under the name stands untouched, and the next save sweeps what was left. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test from 'ava';
import { save, verify } from '../../lib/index.js';
import { sameBytes } from './support/expect.js';
import { MIB, mixedMemory } from './support/memory.js';
import { workspace } from './support/workspace.js';

const SCRIPT = fileURLToPath(new URL('./children/liveWork.js', import.meta.url));
const MEMORY = mixedMemory(32 * MIB);
const KILLS_A_PHASE = 2;
/** Of 512 MiB beside 32 MiB: buffers that are used longer, and garbage. */
const GROWTH_MAX_BYTES = 96 * MIB;

for (const phase of ['first', 'stop', 'memoryRead', 'last']) {
  test(`killed in the phase "${phase}"`, async (t) => {
    t.timeout(240_000);
    const folder = workspace(t);
    const [memory, image] = [folder.path('memory'), folder.path('image')];
    writeFileSync(memory, MEMORY);
    await save(memory, image, { segmentSize: MIB });
    const before = readFileSync(image);
    for (let kill = 0; kill < KILLS_A_PHASE; kill++) {
      const child = fork(SCRIPT, [memory, image, phase]);
      const exited = once(child, 'exit');
      const [said] = (await once(child, 'message')) as [string];
      t.is(said, phase);
      await delay(Math.random() * 30);
      child.kill('SIGKILL');
      await exited;
      const after = readFileSync(image);
      // The two passes that go on may have come to their end.
      if (phase === 'stop' || phase === 'memoryRead') sameBytes(t, after, before, 'the image');
      else t.true((await verify(image)).intact);
      // One temporary file; copies and hashes have no names.
      const hidden = folder.leftovers();
      t.true(hidden.length === 0 || (hidden.length === 1 && hidden[0] === '.image.vmsnap-tmp'), hidden.join());
    }
    await save(memory, image, { segmentSize: MIB, force: true });
    t.deepEqual(readdirSync(folder.folder).sort(), ['image', 'memory']);
    t.true((await verify(image)).intact);
  });
}

test('peak memory of a live save does not grow with what it saves', async (t) => {
  t.timeout(240_000);
  const folder = workspace(t);
  const [memory, image] = [folder.path('memory'), folder.path('image')];
  const peaks: number[] = [];
  for (const pieces of [1, 16]) {
    writeFileSync(memory, '');
    for (let piece = 0; piece < pieces; piece++) writeFileSync(memory, MEMORY, { flag: 'a' });
    const child = fork(SCRIPT, [memory, image, 'none']);
    const [said] = (await once(child, 'message')) as [{ peakBytes: number }];
    await once(child, 'exit');
    peaks.push(said.peakBytes);
  }
  t.log(peaks.map((bytes) => `${Math.round(bytes / MIB)} MiB`).join(', '));
  t.true(peaks[1]! < peaks[0]! + GROWTH_MAX_BYTES, peaks.join());
});
