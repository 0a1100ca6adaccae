/** An image of a made-up machine: one RAM block in a file, in two regions, and two in the migration stream. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { save } from '../../lib/index.js';
import type { MachineDescription, MachineRegion } from '../../lib/qemu/machineDescription.js';
import { capabilities, configuration, filledPage, magic, PAGE, ramStart, tail, u64 } from './qemuStream.js';

const MIB = 2 ** 20;
const LOW_BYTES = 3 * MIB;
const ABOVE_BYTES = 2 * MIB;
const VIDEO_BYTES = 5 * MIB;
const BIOS_BYTES = 2 * PAGE;

export const MEMORY_BYTES = LOW_BYTES + ABOVE_BYTES;
export const MACHINE_TYPE = 'pc-q35-7.2';

export interface ForgedMachine {
  readonly image: string;
  /** Of the block "ram", whole. */
  readonly ram: Buffer;
  readonly video: Buffer;
  readonly bios: Buffer;
  readonly head: Buffer;
  readonly tail: Buffer;
}

export interface ForgeOptions {
  /** Default: no contents in files, and no x-ignore-shared. */
  readonly ramInFile?: boolean;
  /** What stands in "machine.json" instead; null: no such attachment. */
  readonly description?: Partial<MachineDescription> | null;
  readonly segmentSize?: number;
}

/** Pages with data, pages of zeros and whole zero segments. */
function memory(sizeBytes: number, seed: number): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  for (let page = 0; page < sizeBytes / PAGE; page++) {
    const isZero = page % 3 === 1 || (page >= 300 && page < 900);
    if (!isZero) filledPage(seed + page).copy(bytes, page * PAGE);
  }
  return bytes;
}

export async function forgeMachine(folder: string, options: ForgeOptions = {}): Promise<ForgedMachine> {
  const { ramInFile = true, description = {} } = options;
  const [ram, video, bios] = [memory(MEMORY_BYTES, 1), memory(VIDEO_BYTES, 5000), memory(BIOS_BYTES, 9000)];
  const blocks = [
    { id: 'ram', sizeBytes: ram.length },
    { id: 'vga/vram', sizeBytes: video.length },
    { id: 'pc.bios', sizeBytes: bios.length },
  ].map((block) => (ramInFile ? { ...block, extra: u64(0) } : block));
  const config = configuration(MACHINE_TYPE, ...(ramInFile ? [capabilities('x-ignore-shared')] : []));
  const head = Buffer.concat([magic(), config, ramStart(blocks)]);
  const own = machineRegions(ramInFile ? 'file' : 'stream');
  const attachments = [
    write(folder, 'qemu-head', head),
    write(folder, 'qemu-tail', tail()),
    ...(description === null ? [] : [write(folder, 'machine.json', Buffer.from(describe(own, description)))]),
  ];
  const { file } = write(folder, 'source', Buffer.concat([ram, video, bios]));
  const image = join(folder, 'image');
  const regions = own.map(({ region, sizeBytes }, i) => ({ name: region, sizeBytes, gpa: i * 2 ** 33 }));
  await save(file, image, { frozen: true, regions, attachments, segmentSize: options.segmentSize ?? MIB, force: true });
  return { image, ram, video, bios, head, tail: tail() };
}

function write(folder: string, name: string, bytes: Buffer): { name: string; file: string } {
  const file = join(folder, name);
  writeFileSync(file, bytes);
  return { name, file };
}

function machineRegions(contents: 'file' | 'stream'): MachineRegion[] {
  const backend = { id: 'mem0', type: 'memory-backend-file', share: true, path: '/dev/shm/old,er' };
  const ofRam = { block: 'ram', contents, backend };
  const streamed = { blockOffset: 0, gpa: null, contents: 'stream' as const, backend: null };
  return [
    { region: 'ram', blockOffset: 0, sizeBytes: LOW_BYTES, gpa: 0, ...ofRam },
    { region: 'ram-above-4g', blockOffset: LOW_BYTES, sizeBytes: ABOVE_BYTES, gpa: 2 ** 32, ...ofRam },
    { region: 'vga/vram', block: 'vga/vram', sizeBytes: VIDEO_BYTES, ...streamed },
    { region: 'pc.bios', block: 'pc.bios', sizeBytes: BIOS_BYTES, ...streamed },
  ];
}

function describe(regions: readonly MachineRegion[], changes: Partial<MachineDescription>): string {
  const description: MachineDescription = {
    schema: 'vmsnap.machine',
    schemaVersion: 1,
    qemuVersion: '7.2.19',
    machineType: MACHINE_TYPE,
    name: null,
    uuid: null,
    foundStatus: 'running',
    memoryBytes: MEMORY_BYTES,
    regions,
    disks: [],
    frozenFileSystems: null,
    commandLine: null,
    queries: {},
    ...changes,
  };
  return JSON.stringify(description);
}
