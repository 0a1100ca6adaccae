/**
 * Dumps of real guests, written by QEMU 7.2 and 10 and by makedumpfile, saved and loaded again: what comes back is the guest's memory.
 * The files that QEMU maps as the guest's memory are the truth. crash opens what `load --as elf` makes of them.
 *
 * VMSNAP_VMLINUX: the guest's kernel with debug symbols (Debian: linux-image-cloud-amd64-dbg, 1.7 GB), for all that crash can do.
 */
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  closeSync,
  openSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import { findProgram, qemu10OrDemand } from './availability.js';
import { runVmsnap } from './cli.js';
import { bootGuest, type Guest, guestAvailabilityOrDemand } from './guest.js';

const MEMORY_MIB = 128;
const MIB = 2 ** 20;
/** From here to 1 MiB the firmware has a say in what lies there: video memory and ROM. */
const LOW_END = 0xa0000;
const HIGH_START = 0x100000;

const test = anyTest as TestFn<undefined>;
const availability = guestAvailabilityOrDemand();
if (!availability.available) console.log(`The tests with dumps of a real guest are skipped: ${availability.reason}`);
const guestTest = availability.available ? test.serial : test.serial.skip;
const makedumpfile = findProgram('makedumpfile');
if (makedumpfile === undefined && process.env.VMSNAP_REQUIRE_GUEST === '1')
  throw new Error('makedumpfile is not installed');

const crash = findProgram('crash');
if (crash === undefined && process.env.VMSNAP_REQUIRE_GUEST === '1') throw new Error('crash is not installed');
const { program: qemu10, missing: noProgram10 } = qemu10OrDemand();

interface Dump {
  readonly name: string;
  readonly format: 'elf-core' | 'kdump';
  /** Facts that inspect must give. */
  readonly facts: Readonly<Record<string, string | number | boolean>>;
}

interface QemuDump extends Dump {
  readonly qemuFormat: string;
  readonly paging: boolean;
  /** Only this much of the memory. */
  readonly part?: { readonly begin: number; readonly length: number };
}

const QEMU_DUMPS: readonly QemuDump[] = [
  { name: 'elf', qemuFormat: 'elf', paging: false, format: 'elf-core', facts: { bits: 64, cpus: 1, vmcoreinfo: true } },
  { name: 'elf with paging', qemuFormat: 'elf', paging: true, format: 'elf-core', facts: { bits: 64, cpus: 1 } },
  {
    name: 'kdump-zlib',
    qemuFormat: 'kdump-zlib',
    paging: false,
    format: 'kdump',
    facts: { flattened: true, compression: 'zlib' },
  },
];

/** Of a guest with two NUMA nodes, whose memory lies in a file each and side by side. */
const QEMU10_DUMPS: readonly QemuDump[] = [
  { name: 'elf', qemuFormat: 'elf', paging: false, format: 'elf-core', facts: { bits: 64, segments: 3 } },
  // A mapping that goes on in the other node is cut off there, so some of its pages are not in the dump.
  { name: 'elf with paging', qemuFormat: 'elf', paging: true, format: 'elf-core', facts: { bits: 64 } },
  {
    name: 'a part',
    qemuFormat: 'elf',
    paging: false,
    part: { begin: 0x1000000, length: 0x5000000 },
    format: 'elf-core',
    facts: { segments: 2 },
  },
  {
    name: 'kdump-raw-zlib',
    qemuFormat: 'kdump-raw-zlib',
    paging: false,
    format: 'kdump',
    facts: { flattened: false, compression: 'zlib' },
  },
];

/** Made of the ELF dump; `words` for makedumpfile. Debian's is built without snappy and zstd. */
const MAKEDUMPFILE_DUMPS: readonly (Dump & { words: readonly string[] })[] = [
  {
    name: 'not compressed',
    words: [],
    format: 'kdump',
    facts: { flattened: false, compression: 'none', excludedPages: 0 },
  },
  {
    name: 'zlib, zero pages shared',
    words: ['-c', '-d', '1'],
    format: 'kdump',
    facts: { compression: 'zlib', dumpLevel: 1 },
  },
  {
    name: 'zlib, free pages excluded',
    words: ['-c', '-d', '31'],
    format: 'kdump',
    facts: { dumpLevel: 31, vmcoreinfo: true },
  },
  { name: 'zlib, flattened', words: ['-c', '-F'], format: 'kdump', facts: { flattened: true, compression: 'zlib' } },
  { name: 'ELF', words: ['-E'], format: 'elf-core', facts: { bits: 64, vmcoreinfo: true } },
  {
    name: 'ELF, free pages excluded',
    words: ['-E', '-d', '31'],
    format: 'elf-core',
    facts: { bits: 64, vmcoreinfo: true },
  },
];

let guest: Guest;
let folder: string;

if (availability.available) {
  test.before(async (t) => {
    t.timeout(240_000);
    folder = await mkdtemp(join(tmpdir(), 'vmsnap-dumps-test-'));
    // With both the guest's kernel tells QEMU of its VMCOREINFO, which makedumpfile needs.
    const modules = ['kernel/drivers/firmware/qemu_fw_cfg.ko'];
    guest = await bootGuest({ memoryMiB: MEMORY_MIB, devices: ['vmcoreinfo'], modules });
    await guest.stop();
    await dumpGuest(elfDump(), 'elf', false);
    moveProgramHeaders(elfDump());
  });

  test.afterEach.always(() => {
    for (const name of ['dump', 'image', 'target']) rmSync(join(folder, name), { force: true });
  });

  test.after.always(async () => {
    await guest?.close();
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true });
  });
}

for (const dump of QEMU_DUMPS) {
  guestTest(`a dump of QEMU comes back as the guest's memory: ${dump.name}`, async (t) => {
    const path = join(folder, 'dump');
    await dumpGuest(path, dump.qemuFormat, dump.paging);
    await comesBack(t, path, dump);
  });
}

const noQemu10 = availability.available ? noProgram10 : availability.reason;
const title10 = 'dumps of QEMU 10, of a guest with two NUMA nodes, come back as its memory';
const test10 = noQemu10 === undefined ? test.serial : test.serial.skip;
test10(noQemu10 === undefined ? title10 : `${title10} (SKIPPED: ${noQemu10})`, async (t) => {
  t.timeout(300_000);
  const nodes = [0, 1].map((node) => join(folder, `node${node}`));
  const own = await bootGuest({
    memoryMiB: MEMORY_MIB,
    memory: 'private',
    qemu: qemu10,
    arguments: nodes.flatMap((path, node) => [
      '-object',
      `memory-backend-file,id=node${node},size=${MEMORY_MIB / 2}M,share=on,mem-path=${path}`,
      ...['-numa', `node,nodeid=${node},memdev=node${node}`],
    ]),
  });
  try {
    await own.stop();
    const truth = join(folder, 'truth10');
    writeFileSync(truth, '');
    for (const node of nodes) appendFileSync(truth, readFileSync(node));
    for (const dump of QEMU10_DUMPS) {
      const path = join(folder, 'dump');
      await dumpGuest(path, dump.qemuFormat, dump.paging, { guest: own, part: dump.part });
      await comesBack(t, path, dump, truth);
      for (const name of ['dump', 'image', 'target']) rmSync(join(folder, name), { force: true });
    }
  } finally {
    await own.close();
  }
});

const crashTest = crash === undefined ? test.serial.skip : guestTest;
crashTest('crash opens the ELF core that load writes of a dump', async (t) => {
  const [image, core] = [join(folder, 'image'), join(folder, 'target')];
  await runVmsnap('save', elfDump(), image, '--quiet', '--frozen');
  await runVmsnap('load', '--as', 'elf', image, core, '--quiet');
  const release = (dump: string) => execFileSync(crash!, ['--osrelease', dump], { encoding: 'utf8' }).trim();
  t.regex(release(core), /^\d+\.\d+\.\d+/);
  t.is(release(core), release(elfDump()));
  const vmlinux = process.env.VMSNAP_VMLINUX;
  if (vmlinux === undefined) {
    t.log('VMSNAP_VMLINUX names no kernel with debug symbols: what crash says of the guest is not compared');
    return;
  }
  const asked = (dump: string) => askCrash(vmlinux, dump).replaceAll(dump, 'DUMP');
  t.regex(asked(core), /RELEASE: \d+\.\d+/);
  t.is(asked(core), asked(elfDump()));
});

/** What crash prints of a system and its processes. */
function askCrash(vmlinux: string, dump: string): string {
  const commands = join(folder, 'commands');
  writeFileSync(commands, 'sys\nps\nvm\nq\n');
  const words = ['--no_scroll', '-s', '-i', commands, vmlinux, dump];
  return execFileSync(crash!, words, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'ignore'] });
}

const makedumpfileTest = makedumpfile === undefined ? test.serial.skip : guestTest;
for (const dump of MAKEDUMPFILE_DUMPS) {
  makedumpfileTest(`a dump of makedumpfile comes back as the guest's memory: ${dump.name}`, async (t) => {
    const path = join(folder, 'dump');
    const flattens = dump.words.includes('-F');
    const stdout = flattens ? openSync(path, 'wx', 0o600) : 'ignore';
    try {
      const words = [...dump.words, elfDump(), ...(flattens ? [] : [path])];
      execFileSync(makedumpfile!, words, { stdio: ['ignore', stdout, 'pipe'] });
    } finally {
      if (typeof stdout === 'number') closeSync(stdout);
    }
    await comesBack(t, path, dump);
  });
}

makedumpfileTest('a dump of makedumpfile in LZO is refused by name', async (t) => {
  const path = join(folder, 'dump');
  execFileSync(makedumpfile!, ['-l', elfDump(), path], { stdio: ['ignore', 'ignore', 'pipe'] });
  await t.throwsAsync(runVmsnap('save', path, join(folder, 'image'), '--quiet'), { message: /compressed with LZO/ });
});

/** Dumps that leave pages out. */
const EXCLUDING = ['zlib, free pages excluded', 'ELF, free pages excluded'];

function elfDump(): string {
  return join(folder, 'elf-dump');
}

async function dumpGuest(
  path: string,
  format: string,
  paging: boolean,
  other: { readonly guest?: Guest; readonly part?: QemuDump['part'] } = {},
): Promise<void> {
  const asked = { paging, protocol: `file:${path}`, ...(paging ? {} : { format }), ...other.part };
  // Without detach QEMU answers when it is done.
  await (other.guest ?? guest).qmp.execute('dump-guest-memory', asked);
}

/**
 * makedumpfile 1.7.2 looks for the program headers right behind the ELF header, wherever that says they are. QEMU has its two section
 * headers there (64 bytes each), which nobody needs.
 */
function moveProgramHeaders(path: string): void {
  // QEMU makes it readable only.
  chmodSync(path, 0o600);
  const fd = openSync(path, 'r+');
  try {
    const header = Buffer.alloc(64);
    readSync(fd, header, 0, 64, 0);
    const from = Number(header.readBigUInt64LE(32));
    const headers = Buffer.alloc(56 * header.readUInt16LE(56));
    readSync(fd, headers, 0, headers.length, from);
    header.writeBigUInt64LE(64n, 32);
    header.fill(0, 40, 48);
    header.fill(0, 58, 64);
    writeSync(fd, Buffer.concat([header, headers]), 0, 64 + headers.length, 0);
  } finally {
    closeSync(fd);
  }
}

interface Region {
  readonly gpa: number;
  readonly sizeBytes: number;
}

async function comesBack(
  t: ExecutionContext,
  dump: string,
  { name, format, facts }: Dump,
  truth = guest.memoryFile,
): Promise<void> {
  const [image, target] = [join(folder, 'image'), join(folder, 'target')];
  const report = JSON.parse((await runVmsnap('inspect', dump, '--json')).stdout) as {
    format: { name: string };
    facts: Record<string, unknown>;
    memory: { regions: Region[]; pages: { absent: number } };
  };
  t.is(report.format.name, format);
  for (const [key, value] of Object.entries(facts)) t.is(report.facts[key], value, key);
  const saved = await runVmsnap('save', dump, image, '--quiet');
  await runVmsnap('verify', image, '--quiet');
  const { regions, pages } = report.memory;
  const excludes = pages.absent > 0;
  t.is(excludes, EXCLUDING.includes(name) || (truth !== guest.memoryFile && name === 'elf with paging'), name);
  const load = runVmsnap('load', image, target, '--quiet');
  // Exit code 3: the memory is there, but for what the dump left out.
  if (excludes) await t.throwsAsync(load, { message: /ended with 3: .*does not know the contents of \d+ pages/ });
  else await load;
  t.log(`${Math.round(statSync(dump).size / MIB)} MiB, saved in ${saved.durationSeconds.toFixed(2)} s`);
  const compared = compareRegions(target, regions, truth, pages.absent);
  const asked = name === 'a part' ? 80 : 120;
  t.true(compared >= asked * MIB, `${compared} bytes of guest memory were compared`);
}

/** Regions lie end to end in the target; the guest's memory file begins at address 0. An absent page comes back as zeros. */
function compareRegions(target: string, regions: readonly Region[], truthFile: string, absentPages: number): number {
  const [truth, loaded] = [openSync(truthFile, 'r'), openSync(target, 'r')];
  const [expected, found] = [Buffer.alloc(4096), Buffer.alloc(4096)];
  let compared = 0;
  let lost = 0;
  let at = 0;
  try {
    for (const { gpa, sizeBytes } of regions) {
      for (let offset = 0; offset < sizeBytes; offset += 4096) {
        const address = gpa + offset;
        if (address >= MEMORY_MIB * MIB || (address >= LOW_END && address < HIGH_START)) continue;
        readSync(truth, expected, 0, 4096, address);
        readSync(loaded, found, 0, 4096, at + offset);
        const isLost = !found.equals(expected) && found.every((byte) => byte === 0);
        if (isLost) lost++;
        // More pages than were said to be absent must not be zero where the guest has something.
        const isSame = isLost ? lost <= absentPages : found.equals(expected);
        if (!isSame) throw new Error(`the page at the address 0x${address.toString(16)} differs`);
        compared += 4096;
      }
      at += sizeBytes;
    }
  } finally {
    closeSync(truth);
    closeSync(loaded);
  }
  return compared;
}
