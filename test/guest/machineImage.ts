/** Images of a running guest as a machine, made by hand: its migration stream, its memory file, and a description. */
import { readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { extract, load, openImage, type RegionOption, save } from '../../lib/index.js';
import type { MachineDescription, MachineDisk, MachineRegion } from '../../lib/qemu/machineDescription.js';
import type { Guest } from './guest.js';

export interface MachineImageOptions {
  readonly kind: 'file' | 'private';
  readonly disks?: readonly MachineDisk[];
}

const PARTS = ['qemu-head', 'qemu-tail'];
/** Regions of a file need addresses; those of ROMs are made up. */
const MADE_UP_GPA = 2 ** 40;
const MAIN_BLOCKS = ['ram', 'pc.ram'];

/** Pauses the guest, which stays paused, and makes `image`. `folder` takes what is needed on the way. */
export async function saveMachine(
  guest: Guest,
  folder: string,
  image: string,
  { kind, disks = [] }: MachineImageOptions,
): Promise<void> {
  await guest.stop();
  const capabilities = [{ capability: 'x-ignore-shared', state: kind === 'file' }];
  await guest.qmp.execute('migrate-set-capabilities', { capabilities });
  const path = (name: string) => join(folder, `machine-${name}`);
  await guest.migrate(`exec:cat > ${path('stream')}`);
  const description = path('machine.json');
  const describe = (regions: readonly MachineRegion[]) =>
    writeFileSync(description, JSON.stringify(descriptionOf(guest, regions, disks)));
  if (kind === 'private') {
    describe(await streamRegions(path('stream'), path('plain')));
    await save(path('stream'), image, { frozen: true, attachments: [{ name: 'machine.json', file: description }] });
    return;
  }
  const streamed = await streamRegions(path('stream'), path('plain'));
  const regions: RegionOption[] = [
    { name: 'ram', sizeBytes: guest.memoryBytes, gpa: 0, file: guest.memoryFile, fileOffset: 0 },
  ];
  for (const [i, { region, sizeBytes }] of streamed.entries()) {
    const file = path(`region-${i}`);
    await load(path('plain'), file, { region });
    regions.push({ name: region, sizeBytes, gpa: MADE_UP_GPA + i * 2 ** 30, file, fileOffset: 0 });
  }
  describe([
    {
      region: 'ram',
      block: 'ram',
      blockOffset: 0,
      sizeBytes: guest.memoryBytes,
      gpa: 0,
      contents: 'file',
      backend: { id: 'ram', type: 'memory-backend-file', share: true, path: guest.memoryFile },
    },
    ...streamed,
  ]);
  const attachments = [{ name: 'machine.json', file: description }];
  for (const name of PARTS) {
    await extract(path('plain'), name, path(name));
    attachments.push({ name, file: path(name) });
  }
  await save(guest.memoryFile, image, { frozen: true, regions, attachments });
  for (const { file } of regions.slice(1)) rmSync(file!);
}

/** Saves the stream alone, and names its regions. */
async function streamRegions(stream: string, image: string): Promise<MachineRegion[]> {
  await save(stream, image, { frozen: true });
  const opened = await openImage(image);
  const { regions } = opened;
  await opened.close();
  return regions.map(({ name, gpa, sizeBytes }) => ({
    region: name,
    block: name,
    blockOffset: 0,
    sizeBytes,
    gpa: gpa ?? null,
    contents: 'stream',
    backend: MAIN_BLOCKS.includes(name) ? { id: name, type: 'memory-backend-ram', share: false, path: null } : null,
  }));
}

function descriptionOf(
  guest: Guest,
  regions: readonly MachineRegion[],
  disks: readonly MachineDisk[],
): MachineDescription {
  return {
    schema: 'vmsnap.machine',
    schemaVersion: 1,
    qemuVersion: guest.qemuVersion,
    machineType: `pc-q35-${guest.qemuVersion.replace(/\.\d+$/, '')}`,
    name: null,
    uuid: null,
    foundStatus: 'running',
    memoryBytes: guest.memoryBytes,
    regions,
    disks,
    frozenFileSystems: null,
    commandLine: commandLine(guest),
    queries: {},
  };
}

/** Of the guest's QEMU. */
export function commandLine(guest: Guest): string[] {
  return readFileSync(`/proc/${guest.processId}/cmdline`, 'utf8').split('\0').slice(0, -1);
}

/** The same for `vmsnap resume`: with `{mem:ram}` for its memory file, and without its QMP sockets. */
export function resumeCommand(guest: Guest): string[] {
  const args = commandLine(guest).map((arg) => arg.replace(guest.memoryFile, '{mem:ram}'));
  return args.filter((arg, i) => arg !== '-qmp' && args[i - 1] !== '-qmp');
}

export function diskOf(file: string): MachineDisk {
  const { size, mtimeNs } = statSync(file, { bigint: true });
  return {
    node: 'disk0',
    device: null,
    driver: 'raw',
    file,
    sizeBytes: Number(size),
    mtimeNanoseconds: String(mtimeNs),
    snapshots: [],
  };
}
