/** Makes the seeds of the corpus anew: `node dist/test/fuzz/makeCorpus.js`. One small file for each way through a reader. */
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { crc64 } from '../../formats/firecracker/crc64.js';
import { MACHINE_SCHEMA } from '../../lib/qemu/machineDescription.js';
import {
  elfNotes,
  FLAT_END,
  flatRecords,
  makeAvml,
  makeElf,
  makeFlattened,
  makeKdump,
  makeLime,
  type PageCodec,
} from '../formats/support/dumps.js';
import { mixedMemory, PAGE } from '../lib/support/memory.js';
import { forgeSave, forgeStream } from '../support/libvirtSave.js';
import * as qemu from '../support/qemuStream.js';
import { STATE_SHAPES } from '../support/snapshots/cloudHypervisor.js';

const CORPUS = fileURLToPath(new URL('../../../test/fuzz/corpus/', import.meta.url));
const SAMPLES = fileURLToPath(new URL('../../../test/samples/v1/valid/', import.meta.url));
const MEMORY = mixedMemory(4 * PAGE, 4);
const PAGES = [0, 1, 2, 3].map((i) => (i === 2 ? ('excluded' as const) : MEMORY.subarray(i * PAGE, (i + 1) * PAGE)));
const BLOCKS = [
  { id: 'pc.ram', sizeBytes: 8 * PAGE },
  { id: 'vga', sizeBytes: 2 * PAGE },
];

function put(target: string, seeds: Readonly<Record<string, Buffer>>): void {
  const folder = join(CORPUS, target);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const [name, bytes] of Object.entries(seeds)) writeFileSync(join(folder, name), bytes);
}

const after = (byte: number, bytes: Uint8Array | string) =>
  Buffer.concat([Buffer.from([byte]), Buffer.from(bytes as string)]);

/** Small ones only: a fuzzer likes a thousand tries a second better than one large file. */
function imageSeeds(): Record<string, Buffer> {
  const names = readdirSync(SAMPLES).filter((name) => readFileSync(join(SAMPLES, name)).length < 40_000);
  return Object.fromEntries(names.map((name) => [name, after(1, readFileSync(join(SAMPLES, name)))]));
}

put('image', imageSeeds());

const loads = [
  { physical: 0, bytes: MEMORY },
  { physical: 2 ** 20, bytes: MEMORY.subarray(0, PAGE), memoryBytes: 2 * PAGE },
];
const notes = elfNotes([{ name: 'CORE', type: 1, contents: Buffer.alloc(40, 1) }]);
const ranges = [
  { start: 0, bytes: MEMORY.subarray(0, PAGE) },
  { start: 2 ** 20, bytes: MEMORY },
];
const kdumps = (['none', 'zlib', 'snappy', 'zstd'] as readonly PageCodec[]).map(
  (codec) => [`kdump-${codec}`, makeKdump(PAGES, { codec })] as const,
);
put('dumps', {
  elf: makeElf(loads, { notes }),
  'elf-32': makeElf(loads, { bits: 32, shift: 5 }),
  lime: makeLime(ranges),
  avml: makeAvml(ranges),
  ...Object.fromEntries(kdumps),
  flattened: makeFlattened([...flatRecords(makeKdump(PAGES), [64, 4096]), FLAT_END]),
});

const part = qemu.ramPart(
  qemu.page('pc.ram', 0, qemu.filledPage(1)),
  qemu.zeroPage(undefined, PAGE),
  qemu.page('vga', 0, qemu.filledPage(2)),
);
put('machines', {
  stream: qemu.stream(BLOCKS, part),
  save: forgeSave(MEMORY, { cookie: '<cookie/>' }),
  'stream-of-libvirt': forgeStream(MEMORY),
});

const state = Buffer.alloc(200, 7);
state.writeBigUInt64LE(crc64(state.subarray(0, 192)), 192);
put('snapshots', {
  ...Object.fromEntries(
    Object.values(STATE_SHAPES).map((shape, i) => [
      `cloud-hypervisor-${i}`,
      after(4, JSON.stringify(shape([{ gpa: 0, length: 2 * PAGE }]))),
    ]),
  ),
  firecracker: after(0x21, Buffer.concat([MEMORY.subarray(0, 2 * PAGE), state])),
});

const config = `parallel = 2
[defaults]
folder = "/dev/shm"
keep = { daily = 7, weekly = 4 }
rate = "10M"
[jobs.web]
source = "/dev/shm/web.mem"
regions = ["low=2M@0"]
labels = { a = "b" }
hooks = { before = ["true"], timeout = "10m" }
health-check = { url = "https://example.org/x" }
[jobs.db]
command = ["cat", "/dev/null"]
name = "{vm}-{utc}.vmsnap"
memory = 134217728
`;
const description = {
  schema: MACHINE_SCHEMA,
  schemaVersion: 1,
  qemuVersion: '10.0.0',
  machineType: 'pc-q35-10.0',
  name: 'web',
  uuid: null,
  foundStatus: 'running',
  memoryBytes: 2 ** 20,
  regions: [
    {
      region: 'ram',
      block: 'pc.ram',
      blockOffset: 0,
      sizeBytes: 2 ** 20,
      gpa: 0,
      contents: 'file',
      backend: { id: 'mem', type: 'memory-backend-file', path: '/dev/shm/a', share: true },
    },
  ],
  disks: [
    { node: 'n', device: null, driver: 'qcow2', file: '/a', sizeBytes: 1, mtimeNanoseconds: '1', snapshots: ['s'] },
  ],
  frozenFileSystems: null,
  commandLine: ['qemu-system-x86_64'],
};
const sample = readFileSync(join(SAMPLES, 'regions.vms'));
put('texts', {
  config: after(0, config),
  description: after(1, JSON.stringify(description)),
  manifest: after(2, sample.subarray(64, 64 + sample.readUInt32LE(32))),
});
