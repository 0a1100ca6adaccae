/**
 * Saves of a machine whose QEMU fails: at every command and at every part of its stream, in every way. Whatever becomes of the
 * save, a machine that was stopped goes on; what does not end well leaves no image. With VMSNAP_CAMPAIGN=1 every command
 * fails in every way, else in half of them.
 */
import { chownSync, existsSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { load, save, VmsnapError, verify } from '../../lib/index.js';
import { NEEDED_COMMANDS } from '../../lib/qemu/requireCapable.js';
import { needing } from '../support/needing.js';
import { failsWith, sameBytes } from './support/expect.js';
import { allOrNothing, descriptionIn, LIMITS, type QemuStage, runsInTheEnd, testFaults } from './support/qemuStage.js';
import { type Script, ScriptedQemu, type StreamFault, scriptedMemory } from './support/scriptedQemu.js';
import { workspace } from './support/workspace.js';

const NOBODY = 65_534;

async function stage(t: ExecutionContext, script: Script = {}): Promise<QemuStage> {
  t.timeout(300_000);
  const folder = workspace(t);
  const qemu = await ScriptedQemu.start(folder.folder, script);
  t.teardown(() => qemu.close());
  const image = folder.path('image.vmsnap');
  return {
    folder,
    qemu,
    image,
    save: (machine = {}, options = {}) =>
      save(`qemu:${qemu.socket}`, image, { threads: 1, ...options, machine: { ...LIMITS, ...machine } }),
  };
}

async function isIntact(t: ExecutionContext, { image }: QemuStage): Promise<void> {
  t.true((await verify(image, { threads: 1 })).intact);
}

test('a machine is saved through its stream, described, left as it was, and so are the settings of QEMU', async (t) => {
  const { qemu, folder, image, save } = await stage(t);
  const parameters = { ...qemu.parameters };
  const { machine, source } = await save();
  t.like(machine, { found: 'running', left: 'running', memory: 'stream', machineType: 'pc-q35-10.0' });
  t.true(machine!.pauseSeconds! > 0);
  t.is(source.kind, 'qemu');
  await runsInTheEnd(t, qemu);
  t.deepEqual(qemu.parameters, parameters);
  t.deepEqual(
    [...qemu.capabilities],
    [
      ['x-ignore-shared', false],
      ['multifd', true],
      ['events', true],
    ],
  );
  await load(image, folder.path('memory'), { region: 'ram', threads: 1 });
  sameBytes(t, readFileSync(folder.path('memory')), scriptedMemory());
  const description = await descriptionIn(image);
  t.like(description, {
    schema: 'vmsnap.machine',
    schemaVersion: 1,
    qemuVersion: '10.0.2',
    name: 'scripted',
    foundStatus: 'running',
  });
  t.deepEqual(
    description.regions.map(({ region, block, contents }) => [region, block, contents]),
    [
      ['ram', 'ram', 'stream'],
      ['pc.bios', 'pc.bios', 'stream'],
    ],
  );
});

const asRoot = needing(process.getuid?.() === 0 ? undefined : 'a file is given to another user, which root alone can');

asRoot('a QEMU of another user, to whom its QMP socket belongs, can reach the socket for its stream', async (t) => {
  const { qemu, save } = await stage(t);
  await save();
  t.deepEqual(qemu.streamFolder, { uid: 0, mode: 0o700, socket: { uid: 0, mode: 0o600 } });
  chownSync(qemu.socket, NOBODY, NOBODY);
  await save({}, { force: true });
  // The folder stays ours: its owner could exchange what is removed from it later.
  t.deepEqual(qemu.streamFolder, { uid: 0, mode: 0o711, socket: { uid: NOBODY, mode: 0o600 } });
});

for (const [after, found, left, isRunning] of [
  ['resume', 'paused', 'running', true],
  [undefined, 'paused', 'paused', false],
  ['pause', 'running', 'paused', false],
] as const) {
  test(`found ${found}, after ${after ?? 'not given'}: left ${left}`, async (t) => {
    const { qemu, save } = await stage(t, { found });
    const { machine } = await save({ after });
    t.like(machine, { found, left, pauseSeconds: undefined });
    t.is(qemu.isRunning, isRunning);
  });
}

test('--after quit ends QEMU, once the image is there', async (t) => {
  const { qemu, image, save } = await stage(t);
  t.is((await save({ after: 'quit' })).machine?.left, 'ended');
  t.is(qemu.status, 'ended');
  t.true((await verify(image)).intact);
});

for (const found of ['postmigrate', 'inmigrate'] as const) {
  test(`a machine in the state ${found} is refused, and nothing is said to it`, async (t) => {
    const { qemu, save } = await stage(t, { found });
    const error = await failsWith(t, 'GUEST', save(), new RegExp(found));
    t.truthy(error.hint);
    t.false(qemu.wasStopped);
  });
}

/** Every command of a save, in its order; `from` tells the one before the stop from the one behind. */
const STEPS: readonly (readonly [string, number])[] = [
  ['qmp_capabilities', 1],
  ['query-status', 1],
  ['query-memdev', 1],
  ['query-migrate-capabilities', 1],
  ['query-migrate-parameters', 1],
  ['stop', 1],
  ['query-status', 2],
  ['query-named-block-nodes', 1],
  ['migrate-set-capabilities', 1],
  ['migrate-set-parameters', 1],
  ['migrate', 1],
  ['query-migrate', 2],
  ['query-migrate', 3],
  ['cont', 1],
  ['query-status', 3],
  ['migrate-set-capabilities', 2],
];
testFaults(STEPS, stage, isIntact);

const STREAM_FAULTS: readonly StreamFault[] = [
  'never-connects',
  'closes-in-ram',
  'hangs-in-ram',
  'closes-in-state',
  'garbage',
  'fails',
];

for (const stream of STREAM_FAULTS) {
  test(`a stream that ${stream} fails the save, and the machine runs`, async (t) => {
    const made = await stage(t, { stream });
    // A QEMU that is silent in the middle of its stream is waited for, as long as it may take.
    const work = made.save({ maxPauseSeconds: 6 });
    await t.throwsAsync(work, { instanceOf: VmsnapError });
    await allOrNothing(t, made, work, isIntact);
    t.true(made.qemu.log.includes('migrate'));
  });
}

test('a connection that is lost while a migration is ordered: QEMU is asked what it does, and an earlier one is not taken for it', async (t) => {
  const { qemu, image, save } = await stage(t);
  await save();
  qemu.script = { command: 'migrate', fault: 'close', from: 2 };
  const started = performance.now();
  await failsWith(t, 'GUEST', save({ answerSeconds: 60 }, { force: true }), /the connection to QEMU on .* is lost/);
  t.true(performance.now() - started < 30_000);
  await runsInTheEnd(t, qemu);
  qemu.script = { command: 'migrate', fault: 'mute', from: 3 };
  await save({}, { force: true });
  t.true((await verify(image, { threads: 1 })).intact);
  await runsInTheEnd(t, qemu);
});

test("a failed migration is told in QEMU's words", async (t) => {
  const { save } = await stage(t, { stream: 'closes-in-ram' });
  await failsWith(t, 'GUEST', save(), /scripted failure/);
});

for (const version of [
  [3, 1, 0],
  [2, 12, 1],
] as const) {
  test(`QEMU ${version.join('.')} is too old: it is told what it takes, and nothing is stopped`, async (t) => {
    const { qemu, save, image } = await stage(t, { version });
    const error = await failsWith(t, 'GUEST', save(), new RegExp(`^QEMU ${version.join('.')} on .* is too old$`));
    t.regex(error.hint!, /QEMU 4\.0 or later.*save --frozen FILE IMAGE/);
    t.deepEqual(qemu.log, ['qmp_capabilities']);
    t.false(existsSync(image));
  });
}

for (const version of [
  [4, 0, 0],
  [5, 2, 0],
] as const) {
  test(`QEMU ${version.join('.')} is old, and not too old`, async (t) => {
    const { qemu, save, image } = await stage(t, { version });
    t.is((await save()).machine!.qemuVersion, version.join('.'));
    t.true((await verify(image)).intact);
    await runsInTheEnd(t, qemu);
  });
}

test('a QEMU that lacks a command which a save needs is found out before the machine is stopped', async (t) => {
  for (const command of NEEDED_COMMANDS) {
    const { qemu, save, image } = await stage(t, { lacks: [command] });
    const error = await failsWith(t, 'GUEST', save(), new RegExp(`^QEMU 10.0.2 on .* has not the command ${command}$`));
    t.truthy(error.hint);
    t.deepEqual(qemu.log, ['qmp_capabilities', 'query-commands'], command);
    t.false(existsSync(image));
  }
  const { save } = await stage(t, { lacks: ['query-commands'] });
  await failsWith(t, 'GUEST', save(), /refused query-commands: The command query-commands has not been found/);
});

test('a QEMU that knows a command no more when it is told: its words are passed on, and the machine runs', async (t) => {
  // Of `cont`, the guard takes care: see below.
  for (const command of NEEDED_COMMANDS.filter((name) => name !== 'cont' && name !== 'migrate_cancel')) {
    // At first it is asked for the description alone, which does without.
    const made = await stage(t, { command, fault: 'unknown', from: command === 'query-block' ? 2 : 1 });
    const work = made.save();
    await failsWith(t, 'GUEST', work, new RegExp(`refused ${command}: The command ${command} has not been found`));
    await allOrNothing(t, made, work, isIntact);
  }
});

test('a save needs no command that it does not ask for beforehand', async (t) => {
  const { qemu, save } = await stage(t);
  const optional = new Set([
    ...['qmp_capabilities', 'query-commands', 'qom-get', 'query-version', 'query-kvm', 'query-memory-size-summary'],
    ...['query-memory-devices', 'query-memdev', 'query-cpus-fast', 'query-uuid', 'query-name'],
  ]);
  await save();
  const needed = new Set(qemu.log.filter((command) => !optional.has(command)));
  // Said where a migration is given up alone.
  needed.add('migrate_cancel');
  t.deepEqual([...needed].sort(), [...NEEDED_COMMANDS].sort());
  optional.delete('qmp_capabilities');
  optional.delete('query-commands');
  const without = await stage(t, { lacks: [...optional] });
  await without.save();
  await isIntact(t, without);
});

const NON_MIGRATABLE = "State blocked by non-migratable device '0000:00:04.0/nvme'";

test("a migration that QEMU refuses is told in its words, and the machine runs with QEMU's settings as they were", async (t) => {
  const made = await stage(t, { command: 'migrate', fault: 'refuse', words: NON_MIGRATABLE });
  const { qemu } = made;
  const [parameters, capabilities] = [{ ...qemu.parameters }, [...qemu.capabilities]];
  const work = made.save();
  await failsWith(t, 'GUEST', work, new RegExp(`refused migrate: ${NON_MIGRATABLE}$`));
  await allOrNothing(t, made, work, isIntact);
  t.true(qemu.wasStopped);
  t.deepEqual([qemu.parameters, [...qemu.capabilities]], [parameters, capabilities]);
});

test('a machine that QEMU knows it cannot send is not stopped', async (t) => {
  const { qemu, save, image } = await stage(t, { blockers: ['non-migratable device: 0000:00:04.0/nvme', 'and more'] });
  const error = await failsWith(
    t,
    'GUEST',
    save(),
    /cannot send this machine: non-migratable device: .*nvme; and more$/,
  );
  t.regex(error.hint!, /device_del/);
  t.false(qemu.wasStopped);
  t.false(existsSync(image));
});

test('a machine that QEMU does not let go on is told with the command to type, and the guard goes on trying', async (t) => {
  const { qemu, save, image } = await stage(t, { command: 'cont', fault: 'refuse', times: Number.POSITIVE_INFINITY });
  const error = await failsWith(t, 'GUEST', save({ reconnectSeconds: 1 }), /still stopped.*scripted: no cont/s);
  t.true(error.hint!.includes(`UNIX-CONNECT:${qemu.socket}`));
  t.false(existsSync(image));
  t.false(qemu.isRunning);
  qemu.script = {};
  await runsInTheEnd(t, qemu);
});

test('a socket that is gone after the stop is an error with the command to type; when it comes back, so does the guard', async (t) => {
  const { qemu, save } = await stage(t, { command: 'query-named-block-nodes', fault: 'vanish' });
  const error = await failsWith(t, 'GUEST', save({ reconnectSeconds: 1 }), /still stopped/);
  t.regex(error.hint!, /"cont"/);
  t.false(qemu.isRunning);
  await qemu.comeBack();
  await runsInTheEnd(t, qemu);
});

test('no socket, no QMP, a socket that another holds', async (t) => {
  const { folder, qemu, image } = await stage(t);
  await failsWith(t, 'NOT_FOUND', save(`qemu:${folder.path('none')}`, image), /no socket/);
  const first = new Promise<void>((resolve) => {
    void import('node:net').then(({ connect }) => {
      const other = connect(qemu.socket, () => resolve());
      t.teardown(() => other.destroy());
    });
  });
  await first;
  const error = await failsWith(t, 'GUEST', save(`qemu:${qemu.socket}`, image), /another client holds it/);
  t.regex(error.hint!, /second -qmp socket.*libvirt:DOMAIN/);
});

test('a command of --while-paused runs while the machine is stopped; if it fails, so does the save', async (t) => {
  const { qemu, save, folder, image } = await stage(t);
  const seen = folder.path('seen');
  await save({ whilePaused: `printf %s "$VMSNAP_VM $VMSNAP_IMAGE" > ${seen}` });
  t.is(readFileSync(seen, 'utf8'), `scripted ${image}`);
  await failsWith(
    t,
    'FAILED',
    save({ whilePaused: 'echo no snapshot; exit 4' }, { force: true }),
    /ended with 4: no snapshot/,
  );
  t.deepEqual(folder.leftovers(), []);
  await runsInTheEnd(t, qemu);
});

test('--max-pause ends a pause that takes too long', async (t) => {
  const { qemu, save, folder, image } = await stage(t);
  await failsWith(t, 'TIMEOUT', save({ whilePaused: 'sleep 1000', maxPauseSeconds: 0.2 }), /paused for 0.2 s/);
  t.false(existsSync(image));
  t.deepEqual(folder.leftovers(), []);
  await runsInTheEnd(t, qemu);
});

test('an abort in every phase lets the machine go on', async (t) => {
  for (const command of ['query-memdev', 'stop', 'query-named-block-nodes', 'migrate', 'query-migrate', 'cont']) {
    const made = await stage(t, { command, fault: 'hang', pieceBytes: 4096 });
    const stopper = new AbortController();
    const reason = new VmsnapError('SIGTERM', 'stopped');
    const work = made.save({}, { signal: stopper.signal });
    work.catch(() => {});
    while (!made.qemu.log.includes(command)) await sleep(5);
    stopper.abort(reason);
    await allOrNothing(t, made, work, isIntact);
    made.qemu.close();
  }
});

test('options that need a machine are refused for files, and those of files for machines', async (t) => {
  const { folder, image, save: saveMachine } = await stage(t);
  await failsWith(
    t,
    'USAGE',
    save(folder.path('memory'), image, { machine: { after: 'pause' } }),
    /no running machine/,
  );
  await failsWith(t, 'USAGE', saveMachine({}, { layout: 'pc-q35' }), /--layout/);
  await failsWith(t, 'USAGE', saveMachine({ quiesce: true }), /guest agent/);
  await failsWith(t, 'USAGE', save('libvirt:-c', image), /names no machine/);
});
