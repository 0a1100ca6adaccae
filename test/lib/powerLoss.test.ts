/**
 * Loss of power at every point: what a save or a load does to its files is recorded, and after each step the disk is brought to
 * states that it could have after a loss of power (support/diskModel.ts). What has the final name is the old file or the whole
 * new one; of a load in place, the marker is there unless the target is.
 *
 * VMSNAP_POWER_LOSS=N tries N random states at each step instead of a few.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type { ExecutionContext } from 'ava';
import { load, save } from '../../lib/index.js';
import { needing } from '../support/needing.js';
import { randomNumbers } from '../support/randomNumbers.js';
import { DiskModel, type Fate } from './support/diskModel.js';
import { KIB, MIB, mixedMemory } from './support/memory.js';
import { missingStrace } from './support/strace.js';
import { diskWorkspace, type Workspace } from './support/workspace.js';
import { type DiskEvent, traceWrites } from './support/writeTrace.js';

const STATES = Number(process.env.VMSNAP_POWER_LOSS ?? 4);
const MEMORY = Buffer.concat([
  mixedMemory(500 * KIB),
  Buffer.alloc(MIB + 12 * KIB),
  mixedMemory(300 * KIB, 9),
  Buffer.alloc(212 * KIB),
]);
const OLD_MEMORY = mixedMemory(2 * MIB, 5);
const SEGMENTS = { segmentSize: MIB } as const;
const withStrace = needing(missingStrace());

interface Setting {
  readonly folder: Workspace;
  readonly traces: Workspace;
}

function setting(t: ExecutionContext): Setting {
  process.env.SOURCE_DATE_EPOCH = '1700000000';
  t.timeout(300_000);
  const setting = { folder: diskWorkspace(t), traces: diskWorkspace(t) };
  writeFileSync(setting.folder.path('memory'), MEMORY);
  writeFileSync(setting.folder.path('old'), OLD_MEMORY);
  return setting;
}

const random = randomNumbers(20);

function fates(state: number): () => Fate {
  if (state === 0) return () => 'kept';
  if (state === 1) return () => 'lost';
  return () => (['kept', 'lost', 'torn'] as const)[random(3)]!;
}

/** @returns how many states were tried. */
function tryAll(
  events: readonly DiskEvent[],
  before: Readonly<Record<string, Buffer>>,
  check: (files: ReadonlyMap<string, Buffer>, done: boolean) => string | undefined,
): { states: number; fault: string | undefined } {
  const disk = new DiskModel(before);
  let states = 0;
  for (let step = 0; step <= events.length; step++) {
    for (let names = 0; names <= disk.pendingNameCount; names++) {
      for (let state = 0; state < STATES + 2; state++, states++) {
        const fault = check(disk.lose(names, fates(state)), step === events.length);
        if (fault !== undefined) return { states, fault: `step ${step} (${events[step - 1]?.kind}): ${fault}` };
      }
    }
    if (step < events.length) disk.apply(events[step]!);
  }
  return { states, fault: undefined };
}

async function record(t: ExecutionContext, { folder, traces }: Setting, args: readonly string[]): Promise<DiskEvent[]> {
  const { events, result } = await traceWrites(folder.folder, args, traces.path('trace'));
  t.is(result.exitCode, 0, result.stderr);
  return events;
}

/** The final name is the old file or the new one, and at the end of the command the new one. */
function oldOrNew(name: string, old: Buffer | undefined, whole: Buffer) {
  return (files: ReadonlyMap<string, Buffer>, done: boolean): string | undefined => {
    const found = files.get(name);
    if (found?.equals(whole)) return undefined;
    if (done) return `the command is done, and ${name} is not there`;
    const isOld = old === undefined ? found === undefined : found?.equals(old);
    return isOld ? undefined : `${name} is neither the old file nor the new one: ${found?.length} bytes`;
  };
}

for (const isNew of [false, true]) {
  withStrace(`save ${isNew ? 'of a new image' : 'over an old image'}`, async (t) => {
    const made = setting(t);
    const { folder } = made;
    const image = folder.path('image');
    if (!isNew) await save(folder.path('old'), image, { ...SEGMENTS, frozen: true });
    const old = isNew ? undefined : readFileSync(image);
    const args = ['save', '--quiet', '--frozen', '--force', '--segment-size', '1M', folder.path('memory'), image];
    const events = await record(t, made, args);
    const whole = readFileSync(image);
    const before = old === undefined ? {} : { image: old };
    const { states, fault } = tryAll(events, before, oldOrNew('image', old, whole));
    t.is(fault, undefined);
    t.true(events.some(({ kind }) => kind === 'syncFolder'));
    t.log(`${events.length} steps, ${states} states`);
  });
}

withStrace('load over an old file', async (t) => {
  const made = setting(t);
  const { folder } = made;
  await save(folder.path('memory'), folder.path('image'), { ...SEGMENTS, frozen: true });
  writeFileSync(folder.path('target'), OLD_MEMORY);
  const events = await record(t, made, ['load', '--quiet', '--force', folder.path('image'), folder.path('target')]);
  const { states, fault } = tryAll(events, { target: OLD_MEMORY }, oldOrNew('target', OLD_MEMORY, MEMORY));
  t.is(fault, undefined);
  t.log(`${events.length} steps, ${states} states`);
});

withStrace('load in place: without its marker the target is whole, old or new', async (t) => {
  const made = setting(t);
  const { folder } = made;
  await save(folder.path('memory'), folder.path('image'), { ...SEGMENTS, frozen: true });
  writeFileSync(folder.path('target'), OLD_MEMORY);
  const events = await record(t, made, ['load', '--quiet', '--in-place', folder.path('image'), folder.path('target')]);
  const whole = oldOrNew('target', OLD_MEMORY, MEMORY);
  const { states, fault } = tryAll(events, { target: OLD_MEMORY }, (files, done) =>
    files.has('.target.partial') && !done ? undefined : whole(files, done),
  );
  t.is(fault, undefined);
  t.log(`${events.length} steps, ${states} states`);
});

withStrace('the model finds what is wrong: a rename before the sync, a marker taken away too early', async (t) => {
  const made = setting(t);
  const { folder } = made;
  await save(folder.path('memory'), folder.path('image'), { ...SEGMENTS, frozen: true });
  const args = ['load', '--quiet', '--force', folder.path('image'), folder.path('target')];
  const unsynced = (await record(t, made, args)).filter(({ kind }) => kind !== 'sync');
  t.regex(tryAll(unsynced, {}, oldOrNew('target', undefined, MEMORY)).fault!, /neither/);
  const loaded = await load(folder.path('image'), folder.path('target'), { inPlace: true });
  t.is(loaded.memoryBytes, MEMORY.length);
});
