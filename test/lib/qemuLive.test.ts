/**
 * Live saves of a machine behind a scripted QEMU whose memory lies in a file: it writes while it is saved, fails at every command in
 * every way, has memory plugged in meanwhile. Whatever becomes of the save, the machine runs, and an image that is there is
 * what the memory was when the machine stood still.
 */
import { existsSync, readdirSync, readFileSync, unlinkSync, writeFileSync } from 'node:fs';
import test from 'ava';
import { load, openImage, save } from '../../lib/index.js';
import { failsWith, sameBytes } from './support/expect.js';
import { hasStoppedMemory, liveQemuStage } from './support/liveQemuStage.js';
import { PAGE } from './support/memory.js';
import { descriptionIn, LIMITS, runsInTheEnd, testFaults } from './support/qemuStage.js';
import { RAM_PAGES, ScriptedQemu } from './support/scriptedQemu.js';
import { workspace } from './support/workspace.js';

test('what the machine wrote meanwhile is in the image; it is stopped once, and QEMU is left as it was', async (t) => {
  const made = await liveQemuStage(t);
  const { qemu, image, folder } = made;
  const parameters = { ...qemu.parameters };
  const { machine, run, regions } = await made.save();
  await hasStoppedMemory(t, made);
  t.like(machine, { found: 'running', left: 'running', memory: 'files' });
  t.is(machine!.live!.restarts, 0);
  const { atLeast, atMost } = machine!.live!.pauseWithoutSeconds;
  t.true(atLeast > 0 && atLeast <= atMost, `${atLeast} to ${atMost}`);
  t.is(run.live!.changedPages, 20);
  t.is(qemu.log.filter((command) => command === 'stop').length, 1);
  t.deepEqual(qemu.parameters, parameters);
  t.deepEqual([...qemu.capabilities.values()], [false, true, true]);
  await runsInTheEnd(t, qemu);
  // What had no file came with the device state.
  t.deepEqual(
    regions.map(({ name }) => name),
    ['ram', 'pc.bios'],
  );
  await load(image, folder.path('rom'), { region: 'pc.bios' });
  t.true(
    readFileSync(folder.path('rom'))
      .subarray(0, PAGE)
      .some((byte) => byte !== 0),
  );
  const opened = await openImage(image);
  t.deepEqual(opened.attachments.map(({ name }) => name).sort(), ['machine.json', 'qemu-head', 'qemu-tail']);
  await opened.close();
  const description = await descriptionIn(image);
  t.deepEqual(
    description.regions.map(({ region, contents }) => [region, contents]),
    [
      ['ram', 'file'],
      ['pc.bios', 'stream'],
    ],
  );
});

test('a guard that is lost before the stop: nothing is asked of the machine', async (t) => {
  const onCommand = (command: string): void => {
    if (command !== 'query-migrate-parameters') return;
    for (const processId of guards()) process.kill(processId, 'SIGKILL');
    // Until it is gone: what is sent to it is lost then, and not only unread.
    while (guards().length > 0);
  };
  const { qemu, image, save } = await liveQemuStage(t, { onCommand });
  await failsWith(t, 'FAILED', save(), /the process that guards the machine is lost/);
  t.false(qemu.wasStopped);
  t.false(qemu.log.includes('migrate'));
  t.false(existsSync(image));
  await runsInTheEnd(t, qemu);
});

test('a machine that has written all of its memory: a longer pause, and a right image', async (t) => {
  const made = await liveQemuStage(t, {}, RAM_PAGES);
  const { run } = await made.save();
  await hasStoppedMemory(t, made);
  t.true(run.live!.segmentsStoredInPause > 0);
});

test('an encrypted image', async (t) => {
  const made = await liveQemuStage(t);
  const passphraseFile = made.folder.path('passphrase');
  writeFileSync(passphraseFile, 'a passphrase for this test alone\n', { mode: 0o600 });
  await made.save({}, { encryption: { passphraseFile } });
  await load(made.image, made.folder.path('back'), { region: 'ram', keys: { passphraseFile } });
  sameBytes(t, readFileSync(made.folder.path('back')), made.stopped);
});

for (const [after, left] of [
  ['pause', 'paused'],
  ['quit', 'ended'],
] as const) {
  test(`--after ${after}`, async (t) => {
    const made = await liveQemuStage(t);
    const { machine } = await made.save({ after });
    t.like(machine, { left, pauseSeconds: undefined });
    await hasStoppedMemory(t, made);
  });
}

test('a machine that is found paused is saved as it stands', async (t) => {
  const made = await liveQemuStage(t, { found: 'paused' });
  const { machine, run } = await made.save();
  t.deepEqual([machine!.live, run.live, machine!.left], [undefined, undefined, 'paused']);
  t.false(made.qemu.wasStopped);
});

test('--while-paused runs in the pause, --max-pause ends it, and the machine goes on', async (t) => {
  const made = await liveQemuStage(t);
  const seen = made.folder.path('seen');
  await made.save({ whilePaused: `echo ran > ${seen}` });
  t.is(readFileSync(seen, 'utf8'), 'ran\n');
  await hasStoppedMemory(t, made);
  await failsWith(t, 'FAILED', made.save({ whilePaused: 'exit 3' }, { force: true }), /ended with 3/);
  await runsInTheEnd(t, made.qemu);
  const endless = made.save({ whilePaused: 'sleep 1000', maxPauseSeconds: 0.2 }, { force: true });
  await failsWith(t, 'TIMEOUT', endless, /paused for 0.2 s/);
  await runsInTheEnd(t, made.qemu);
  t.deepEqual(made.folder.leftovers(), []);
});

test('memory that is plugged in meanwhile: the save begins anew, and has it', async (t) => {
  let isPlugged = false;
  const onCommand = (command: string, qemu: ScriptedQemu): void => {
    if (command !== 'stop' || isPlugged) return;
    isPlugged = true;
    qemu.pluggedModules = 1;
  };
  const made = await liveQemuStage(t, { onCommand });
  const { machine, regions } = await made.save();
  t.is(machine!.live!.restarts, 1);
  t.deepEqual(
    regions.map(({ name }) => name),
    ['ram', 'pc.bios', 'dimm0'],
  );
  await hasStoppedMemory(t, made);
  t.deepEqual(made.folder.leftovers(), []);
});

test('memory that is plugged in again and again: given up in the end, and the machine runs', async (t) => {
  const onCommand = (command: string, qemu: ScriptedQemu): void => {
    if (command === 'stop') qemu.pluggedModules++;
  };
  const made = await liveQemuStage(t, { onCommand });
  await failsWith(t, 'SOURCE_CHANGED', made.save(), /another layout while it was saved: dimm3 has come/);
  t.false(existsSync(made.image));
  await runsInTheEnd(t, made.qemu);
});

test('QEMU that sends all at once when asked for the layout: the machine goes on, and is saved', async (t) => {
  const made = await liveQemuStage(t, { rushes: true });
  await made.save();
  await hasStoppedMemory(t, made);
  await runsInTheEnd(t, made.qemu);
});

test('memory that goes through QEMU cannot be saved live, and the hint says what could', async (t) => {
  const folder = workspace(t);
  const qemu = await ScriptedQemu.start(folder.folder);
  t.teardown(() => qemu.close());
  const work = save(`qemu:${qemu.socket}`, folder.path('image'), { machine: { ...LIMITS, live: true } });
  const error = await failsWith(t, 'UNSUPPORTED', work, /cannot be saved while it runs: .*through QEMU only/);
  t.regex(error.hint!, /leave out --live, or .*memory-backend-file,id=ram,share=on,mem-path=FILE/);
  t.deepEqual([qemu.wasStopped, qemu.log.includes('migrate')], [false, false]);
});

test('a memory file that is gone, and a QEMU that cannot leave it out', async (t) => {
  const made = await liveQemuStage(t);
  made.qemu.capabilities.delete('x-ignore-shared');
  await failsWith(t, 'GUEST', made.save(), /has no x-ignore-shared/);
  t.false(made.qemu.wasStopped);
  unlinkSync(made.folder.path('memory'));
  await failsWith(t, 'UNSUPPORTED', made.save(), /cannot be saved while it runs: the memory file .* is gone/);
  t.false(made.qemu.wasStopped);
});

test('of a QEMU before 6.1, the backend itself is asked whether memory is shared', async (t) => {
  const made = await liveQemuStage(t, { version: [5, 2, 0] });
  t.is((await made.save()).machine!.memory, 'files');
  await hasStoppedMemory(t, made);
});

test('a QEMU that refuses to migrate is found out before the long pass, in its words', async (t) => {
  const words = "State blocked by non-migratable device '0000:00:04.0/nvme'";
  const made = await liveQemuStage(t, { command: 'migrate', fault: 'refuse', words });
  await failsWith(t, 'GUEST', made.save(), new RegExp(`refused migrate: ${words}$`));
  t.false(made.qemu.wasStopped);
  t.true(made.qemu.isRunning);
});

test('what goes not together with --live is refused before the machine is asked anything', async (t) => {
  const { save: saveLive, qemu, folder } = await liveQemuStage(t);
  await failsWith(t, 'USAGE', saveLive({}, { base: folder.path('base') }), /cannot be a difference/);
  await failsWith(t, 'USAGE', saveLive({}, { frozen: true }), /not frozen/);
  const work = save(`qemu:${qemu.socket}`, '-', { machine: { live: true } });
  await failsWith(t, 'USAGE', work, /cannot go into a pipe/);
  const attachments = [{ name: 'qemu-tail', file: folder.path('memory') }];
  t.deepEqual(qemu.log, []);
  await failsWith(t, 'USAGE', saveLive({}, { attachments }), /brings an attachment named "qemu-tail"/);
  t.false(qemu.wasStopped);
});

/** Every command of a live save; `from` tells the layout's from those of the pause. */
const STEPS: readonly (readonly [string, number])[] = [
  ['query-memdev', 1],
  ['query-migrate-capabilities', 1],
  ['migrate-set-capabilities', 1],
  ['migrate-set-parameters', 1],
  ['migrate', 1],
  ['query-migrate', 2],
  ['cont', 1],
  ['migrate_cancel', 1],
  ['migrate-set-parameters', 2],
  ['query-memdev', 2],
  ['migrate-set-parameters', 3],
  ['stop', 1],
  ['query-named-block-nodes', 1],
  ['migrate', 2],
  ['cont', 2],
  ['migrate-set-parameters', 4],
];
testFaults(STEPS, liveQemuStage, hasStoppedMemory);

/** Processes that this one has started as guards, and that live. */
function guards(): number[] {
  const processes = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return processes.map(Number).filter((processId) => {
    try {
      const [, , state, parent] = /^(\d+) \(.*\) (\S) (\d+)/.exec(readFileSync(`/proc/${processId}/stat`, 'latin1'))!;
      const words = readFileSync(`/proc/${processId}/cmdline`, 'latin1');
      return Number(parent) === process.pid && state !== 'Z' && words.includes('guardMain');
    } catch {
      return false;
    }
  });
}
