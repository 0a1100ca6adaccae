/** `resume` and `load --machine` without a machine: what goes back is what was saved, and whatever fails leaves nothing behind. */
import { execFileSync } from 'node:child_process';
import {
  closeSync,
  existsSync,
  fstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import {
  type ErrorCode,
  type LoadMachineResult,
  loadMachine,
  openImage,
  type ResumedMachine,
  type ResumeOptions,
  resume,
  save,
} from '../../lib/index.js';
import type { MachineDisk } from '../../lib/qemu/machineDescription.js';
import {
  type ForgedMachine,
  type ForgeOptions,
  forgeMachine,
  MACHINE_TYPE,
  MEMORY_BYTES,
} from '../support/machineImage.js';
import { openQemuStream } from '../support/qemuStream.js';
import { failsWith, sameBytes } from './support/expect.js';
import { workspace } from './support/workspace.js';

const FAKE_QEMU = fileURLToPath(new URL('./children/fakeQemu.js', import.meta.url));
const MEM = 'memory-backend-file,id=mem0,share=on,mem-path={mem:mem0},size=5M';

/** Folders for one attempt, of which nothing may be left but what the fake QEMU wrote. */
class House {
  readonly #t: ExecutionContext;
  readonly folder: string;
  readonly memoryDir: string;
  readonly temporary: string;
  readonly log: string;

  constructor(t: ExecutionContext) {
    this.#t = t;
    this.folder = workspace(t).folder;
    [this.memoryDir, this.temporary, this.log] = ['memory', 'tmp', 'log'].map((name) => {
      const path = join(this.folder, name);
      mkdirSync(path);
      return path;
    }) as [string, string, string];
  }

  command(...args: string[]): string[] {
    return [process.execPath, FAKE_QEMU, '--log', this.log, ...args];
  }

  async resume(image: string, args: readonly string[], options: ResumeOptions = {}): Promise<ResumedMachine> {
    const before = process.env.TMPDIR;
    // Where sockets go; tests of this file run one after another.
    process.env.TMPDIR = this.temporary;
    try {
      const machine = await resume(image, this.command(...args), { memoryDir: this.memoryDir, ...options });
      this.#t.teardown(() => machine.kill('SIGKILL'));
      return machine;
    } finally {
      if (before === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = before;
    }
  }

  get leftovers(): string[] {
    return [...readdirSync(this.memoryDir), ...readdirSync(this.temporary)];
  }

  logged(name: string): string {
    return existsSync(join(this.log, name)) ? readFileSync(join(this.log, name), 'utf8') : '';
  }

  async qemuIsGone(): Promise<boolean> {
    for (let i = 0; i < 250; i++) {
      try {
        process.kill(Number(this.logged('pid')), 0);
      } catch {
        return true;
      }
      await delay(20);
    }
    return false;
  }
}

test.serial('memory goes into its file, the rest into the stream, and QEMU runs until it is told to end', async (t) => {
  const house = new House(t);
  const machine = await forgeMachine(house.folder);
  const said: string[] = [];
  const args = ['-m', '5', '-machine', `${MACHINE_TYPE},accel=tcg`, '-object', MEM];
  const { result, ended, kill } = await house.resume(machine.image, args, {
    onQemuOutput: (bytes) => said.push(String(bytes)),
  });
  t.like(result, {
    status: 'running',
    qemuVersion: '7.2.0',
    machineType: MACHINE_TYPE,
    memoryBytes: 5 * 2 ** 21 + 8192,
  });
  const [file] = result.memoryFiles;
  t.is(statSync(file!.path).mode & 0o777, 0o600);
  t.is(statSync(join(file!.path, '..')).mode & 0o777, 0o700);
  sameBytes(t, readFileSync(file!.path), machine.ram);
  isStreamOf(t, join(house.log, 'stream'), machine, { withRam: false });
  const given = JSON.parse(house.logged('args')) as string[];
  t.is(given[given.indexOf('-object') + 1], MEM.replace('{mem:mem0}', file!.path));
  t.deepEqual(given.slice(-5), ['-S', '-incoming', 'defer', '-qmp', `unix:${result.qmpSocket},server=on,wait=off`]);
  t.deepEqual(
    house
      .logged('commands')
      .trim()
      .split('\n')
      .filter((name) => !name.startsWith('query') && name !== 'qom-get'),
    ['qmp_capabilities', 'migrate-set-capabilities', 'migrate-incoming', 'cont'],
  );
  t.is(result.processId, Number(house.logged('pid')));
  kill('SIGTERM');
  t.deepEqual(await ended, { exitCode: 7, killedBy: null });
  t.deepEqual(house.leftovers, []);
  t.deepEqual(said, []);
});

test.serial('an image of a stream alone: all of it goes back through the stream', async (t) => {
  const house = new House(t);
  const machine = await forgeMachine(house.folder, { ramInFile: false });
  const { stateFile } = await loadMachine(machine.image, join(house.folder, 'made'));
  const image = join(house.folder, 'plain');
  await save(stateFile, image, { frozen: true });
  const { result, ended, kill } = await house.resume(image, ['-S']);
  t.is(result.status, 'paused');
  t.deepEqual(result.memoryFiles, []);
  t.false(house.logged('commands').includes('cont'));
  t.false(house.logged('commands').includes('migrate-set-capabilities'));
  isStreamOf(t, join(house.log, 'stream'), machine, { withRam: true });
  kill('SIGKILL');
  t.deepEqual(await ended, { exitCode: null, killedBy: 'SIGKILL' });
  t.deepEqual(house.leftovers, []);
});

const FAILURES: readonly (readonly [string, ErrorCode, RegExp])[] = [
  ['start', 'GUEST', /QEMU ended with 1 before the machine ran: qemu: something is wrong/],
  ['greeting', 'GUEST', /something is wrong/],
  ...[
    'qmp_capabilities',
    'query-status',
    'qom-get',
    'migrate-set-capabilities',
    'migrate-incoming',
    'query-migrate',
    'cont',
  ].map(
    (name) => [`die:${name}`, 'GUEST', /QEMU ended with 1 before the machine ran: qemu: something is wrong/] as const,
  ),
  ...['migrate-set-capabilities', 'migrate-incoming', 'cont'].map(
    (name) => [`refuse:${name}`, 'GUEST', new RegExp(`refused ${name}: it is not to be`)] as const,
  ),
  ['stream', 'GUEST', /something is wrong/],
  ['migration', 'GUEST', /its migration failed: a device is missing/],
  ['not-running', 'GUEST', /does not run: it is internal-error/],
];

for (const [fault, code, message] of FAILURES) {
  test.serial(`QEMU fails (${fault}): its words, and nothing is left`, async (t) => {
    const house = new House(t);
    const { image } = await forgeMachine(house.folder);
    await failsWith(t, code, house.resume(image, ['--fault', fault, '-object', MEM]), message);
    t.true(await house.qemuIsGone());
    t.deepEqual(house.leftovers, []);
  });
}

for (const command of ['qmp_capabilities', 'query-status', 'migrate-incoming', 'query-migrate', 'cont']) {
  test.serial(`stopped while QEMU hangs in ${command}: nothing is left`, async (t) => {
    const house = new House(t);
    const { image } = await forgeMachine(house.folder);
    const abort = new AbortController();
    const reason = new Error('enough');
    const running = house.resume(image, ['--fault', `hang:${command}`, '-object', MEM], { signal: abort.signal });
    running.catch(() => {});
    while (!house.logged('commands').includes(command)) await delay(10);
    abort.abort(reason);
    t.is(await t.throwsAsync(running), reason);
    t.true(await house.qemuIsGone());
    t.deepEqual(house.leftovers, []);
  });
}

const disk = (file: string): MachineDisk => {
  const { size, mtimeNs } = statSync(file, { bigint: true });
  const sizeBytes = Number(size);
  return {
    node: 'd0',
    device: null,
    driver: 'qcow2',
    file,
    sizeBytes,
    mtimeNanoseconds: String(mtimeNs),
    snapshots: ['s1'],
  };
};

test.serial('a disk that was written, or is gone, is refused unless it was restored', async (t) => {
  const house = new House(t);
  const file = join(house.folder, 'disk');
  writeFileSync(file, 'as it was');
  const { image } = await forgeMachine(house.folder, { description: { disks: [disk(file)] } });
  const args = ['-object', MEM];
  const first = await house.resume(image, args);
  t.deepEqual(first.result.warnings, []);
  first.kill('SIGKILL');
  await first.ended;
  utimesSync(file, 1, 1);
  const error = await failsWith(
    t,
    'SOURCE_CHANGED',
    house.resume(image, args),
    /the disk .*disk \(d0\) is not as it was .*1970-01-01/,
  );
  t.regex(error.hint!, /s1.*--disks-restored/);
  t.is((await loadMachine(image, join(house.folder, 'm'))).disks[0]!.state, 'changed');
  const restored = await house.resume(image, args, { disksRestored: true });
  restored.kill('SIGKILL');
  await restored.ended;
});

test.serial('a disk of which nothing is known is a warning', async (t) => {
  const house = new House(t);
  const unknown = { ...disk(house.folder), file: null };
  const { image } = await forgeMachine(house.folder, { description: { disks: [unknown], frozenFileSystems: 2 } });
  const { result, ended, kill } = await house.resume(image, ['--minor', '1', '-object', MEM]);
  t.deepEqual(
    result.warnings.map(({ code }) => code),
    ['disk-not-checked', 'file-systems-frozen', 'older-qemu'],
  );
  kill('SIGKILL');
  await ended;
});

const WRONG_CALLS: readonly (readonly [string, readonly string[], RegExp])[] = [
  [
    'another memory size',
    ['-m', 'size=6M,slots=2', '-object', MEM],
    /has 5242880 bytes of memory, and QEMU would start with 6291456/,
  ],
  [
    'another machine type',
    ['-M', 'type=pc-q35-10.0', '-object', MEM],
    /is a pc-q35-7\.2, and QEMU would start a pc-q35-10\.0/,
  ],
  ['-incoming', ['-incoming', 'tcp:0:1', '-object', MEM], /have -incoming/],
  ['no place for the memory', ['-m', '5M'], /there is no \{mem:mem0\}/],
  ['memory of another name', ['-object', MEM.replace('{mem:mem0}', '{mem:ram0}')], /has no memory of that name/],
  ['memory that is in the stream', ['-object', MEM, '{mem:vga/vram}'], /comes in the migration stream/],
];

for (const [what, args, message] of WRONG_CALLS) {
  test.serial(`refused before anything is done: ${what}`, async (t) => {
    const house = new House(t);
    const { image } = await forgeMachine(house.folder);
    await failsWith(t, 'USAGE', house.resume(image, args), message);
    t.deepEqual([house.logged('pid'), house.leftovers], ['', []]);
  });
}

for (const [what, args, message] of [
  ['machine type', ['--type', 'pc-q35-10.0', '-machine', 'q35'], /QEMU would start a pc-q35-10\.0/],
  ['memory', ['--memory', '4096'], /QEMU would start with 4096/],
] as const) {
  test.serial(`asked before it is sent anything, QEMU has another ${what}`, async (t) => {
    const house = new House(t);
    const { image } = await forgeMachine(house.folder);
    await failsWith(t, 'USAGE', house.resume(image, [...args, '-object', MEM]), message);
    t.false(house.logged('commands').includes('migrate-incoming'));
    t.true(await house.qemuIsGone());
    t.deepEqual(house.leftovers, []);
  });
}

test.serial('a program that is not there, a folder that is not there, a plain image', async (t) => {
  const house = new House(t);
  const { image } = await forgeMachine(house.folder);
  await failsWith(
    t,
    'NOT_FOUND',
    resume(image, ['/nowhere/qemu', MEM], { memoryDir: house.memoryDir }),
    /cannot start \/nowhere\/qemu/,
  );
  await failsWith(t, 'NOT_FOUND', house.resume(image, [MEM], { memoryDir: join(house.folder, 'none') }));
  t.deepEqual(house.leftovers, []);
  const plain = join(house.folder, 'plain');
  await save(join(house.folder, 'source'), plain, { frozen: true });
  await failsWith(t, 'USAGE', house.resume(plain, []), /holds memory and no QEMU machine/);
});

test.serial('damaged memory stops it before QEMU is started, or before the state of devices is sent', async (t) => {
  const house = new House(t);
  for (const region of ['ram', 'vga/vram']) {
    const { image, tail } = await forgeMachine(house.folder);
    await damage(image, region);
    await failsWith(t, 'CORRUPT', house.resume(image, ['-object', MEM]));
    if (region === 'ram') t.is(house.logged('pid'), '');
    else t.true(await house.qemuIsGone());
    t.false(house.logged('stream').includes(String(tail)));
    t.deepEqual(house.leftovers, []);
  }
});

/** Inverts a byte in a chunk of a region. */
async function damage(image: string, region: string): Promise<void> {
  const opened = await openImage(image);
  let offset = 0;
  for await (const chunk of opened.chunks()) if (chunk.region === region) offset = chunk.offset;
  await opened.close();
  const bytes = readFileSync(image);
  bytes[offset + 5]! ^= 0xff;
  writeFileSync(image, bytes);
}

test.serial('what a killed vmsnap left is swept when nobody holds it, and not before', async (t) => {
  const house = new House(t);
  const { image } = await forgeMachine(house.folder);
  const held = await house.resume(image, ['-object', MEM]);
  const leftover = join(house.memoryDir, 'vmsnap-resume-0badcafe');
  mkdirSync(leftover);
  writeFileSync(join(leftover, 'memory-ram'), 'left');
  const second = await house.resume(image, ['-object', MEM]);
  t.false(existsSync(leftover));
  t.true(existsSync(held.result.memoryFiles[0]!.path));
  for (const { kill, ended } of [held, second]) {
    kill('SIGKILL');
    await ended;
  }
  t.deepEqual(house.leftovers, []);
});

test.serial('load --machine: files, description and words, in a folder that appears whole', async (t) => {
  const house = new House(t);
  const commandLine = [
    'qemu',
    '-object',
    'memory-backend-file,id=mem0,mem-path=/dev/shm/old,,er,size=5M',
    '-S',
    '-incoming',
    'defer',
  ];
  const machine = await forgeMachine(house.folder, { description: { commandLine } });
  const target = join(house.folder, 'made, whole');
  const made = await loadMachine(machine.image, target);
  t.deepEqual(readdirSync(target).sort(), ['device-state', 'machine.json', 'memory-ram']);
  for (const name of readdirSync(target)) t.is(statSync(join(target, name)).mode & 0o777, 0o600);
  t.is(statSync(target).mode & 0o777, 0o700);
  sameBytes(t, readFileSync(made.memoryFiles[0]!.path), machine.ram);
  isStreamOf(t, made.stateFile, machine, { withRam: false });
  areWords(t, made, target);
  await failsWith(t, 'EXISTS', loadMachine(machine.image, target));
  await loadMachine(machine.image, target, { force: true });
  writeFileSync(join(target, 'mine'), '');
  await failsWith(
    t,
    'EXISTS',
    loadMachine(machine.image, target, { force: true }),
    /is no folder of a machine: it has mine/,
  );
  await damage(machine.image, 'pc.bios');
  await failsWith(t, 'CORRUPT', loadMachine(machine.image, join(house.folder, 'other')));
  t.deepEqual(
    readdirSync(house.folder).filter((name) => name.startsWith('.') || name === 'other'),
    [],
  );
});

function areWords(
  t: ExecutionContext,
  { command, arguments: args, commands }: LoadMachineResult,
  folder: string,
): void {
  const escaped = folder.replaceAll(',', ',,');
  t.deepEqual(command, [
    'qemu',
    '-object',
    `memory-backend-file,id=mem0,mem-path=${escaped}/memory-ram,size=5M`,
    ...['-S', '-incoming', 'defer', '-qmp', `unix:${escaped}/qmp,server=on,wait=off`],
  ]);
  t.is(args[1], `memory-backend-file,id=mem0,share=on,mem-path=${escaped}/memory-ram,size=${MEMORY_BYTES}`);
  t.deepEqual(
    commands.map(({ execute }) => execute),
    ['qmp_capabilities', 'migrate-set-capabilities', 'migrate-incoming', 'cont'],
  );
  // A shell takes the path as it is.
  const uri = commands[2]!.arguments!.uri as string;
  t.is(
    execFileSync('sh', ['-c', uri.replace('exec:cat', 'echo')], { encoding: 'utf8' }).trim(),
    `${folder}/device-state`,
  );
}

const BROKEN: readonly (readonly [string, ForgeOptions, ErrorCode, RegExp])[] = [
  [
    'a region too few',
    { description: { regions: [] } },
    'UNSUPPORTED',
    /does not have the 5242880 bytes of RAM block ram/,
  ],
  ['no description of its regions', { description: null }, 'CORRUPT', /region ram has 3145728 bytes/],
  ['no list of regions', { description: { regions: null as never } }, 'CORRUPT', /regions is not a list/],
  ['a version that is not known', { description: { schemaVersion: 2 as never } }, 'UNSUPPORTED', /has version 2/],
  ['a name that is none', { description: { machineType: 7 as never } }, 'CORRUPT', /machineType is not a text/],
];

for (const [what, options, code, message] of BROKEN) {
  test.serial(`an image of a machine with ${what} is refused`, async (t) => {
    const house = new House(t);
    const { image } = await forgeMachine(house.folder, options);
    await failsWith(t, code, loadMachine(image, join(house.folder, 'made')), message);
    t.false(existsSync(join(house.folder, 'made')));
  });
}

test.serial('a stream without its shared memory cannot go back', async (t) => {
  const house = new House(t);
  const { image } = await forgeMachine(house.folder);
  const { stateFile } = await loadMachine(image, join(house.folder, 'made'));
  const alone = join(house.folder, 'alone');
  await save(stateFile, alone, { frozen: true });
  const message = /does not have the 5242880 bytes of RAM block ram/;
  await failsWith(t, 'UNSUPPORTED', house.resume(alone, []), message);
});

/** Reads a stream as a source and holds it against what the machine had. */
function isStreamOf(
  t: ExecutionContext,
  path: string,
  machine: ForgedMachine,
  { withRam }: { withRam: boolean },
): void {
  const bytes = readFileSync(path);
  t.true(bytes.subarray(0, machine.head.length).equals(machine.head));
  t.true(bytes.subarray(-machine.tail.length).equals(machine.tail));
  const fd = openSync(path, 'r');
  try {
    const file = openQemuStream({ fd, path, sizeBytes: fstatSync(fd).size });
    const facts = new Map(file.facts.map(({ key, value }) => [key, value]));
    t.deepEqual([facts.get('pagesNeverSent'), facts.get('pagesRepeated')], [0, 0]);
    t.deepEqual(
      file.regions.map(({ name }) => name),
      [...(withRam ? ['ram'] : []), 'vga/vram', 'pc.bios'],
    );
    file.close();
  } finally {
    closeSync(fd);
  }
}
