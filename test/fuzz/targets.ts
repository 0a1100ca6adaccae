/**
 * What the coverage-guided fuzzer calls (fuzz.ts): bytes as an image, and as each kind of file of
 * other tools and of settings that vmsnap reads. Whatever the bytes are, they are read or refused with an error of ours; anything
 * else, a file beside the target included, is a finding. Time and memory are bounded by the fuzzer.
 */
import { closeSync, mkdtempSync, openSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openCloudHypervisor } from '../../formats/cloudHypervisor/cloudHypervisor.js';
import { crc64 } from '../../formats/firecracker/crc64.js';
import { openFirecracker } from '../../formats/firecracker/firecracker.js';
import { decodeStartManifest } from '../../formats/vmsnap/manifest.js';
import { readBackupConfig } from '../../lib/backup/config/readBackupConfig.js';
import { openImage } from '../../lib/image.js';
import { inspect } from '../../lib/inspect.js';
import { load } from '../../lib/load.js';
import { readDescription } from '../../lib/qemu/incoming/readDescription.js';
import { salvage } from '../../lib/salvage.js';
import { verify } from '../../lib/verify.js';
import { VmsnapError } from '../../native/errors.js';
import { readSome, withForeignFile } from '../formats/support/foreignFiles.js';
import { sampleKeys } from '../samples/list.js';
import { repairChecksums } from './repairChecksums.js';

const folder = mkdtempSync(join(process.env.VMSNAP_FUZZ_FOLDER ?? '/dev/shm', 'vmsnap-fuzz-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
const path = (name: string) => join(folder, name);
const EXPECTED = new Set(['CORRUPT', 'UNSUPPORTED', 'BASE_MISMATCH', 'NOT_FOUND', 'NO_SPACE', 'USAGE', 'IO', 'KEY']);
/** A file this large may be asked for; more would only be slow. */
const PAGE_BYTES = 4096;
const MEMORY_MAX_BYTES = 64 * 2 ** 20;

/** Of the encrypted samples in the corpus. No passphrase: each try of one takes a second. */
const IDENTITIES = sampleKeys().identities;

/** A refusal is an answer. */
async function refusable(action: () => unknown): Promise<void> {
  try {
    await action();
  } catch (error) {
    if (!(error instanceof VmsnapError) || !EXPECTED.has(error.code)) throw error;
  }
}

function requireNames(...names: readonly string[]): void {
  const others = readdirSync(folder).filter((name) => !names.includes(name));
  if (others.length > 0) throw new Error(`written beside the target: ${others}`);
}

/** The first byte says whether the checksums are made right. */
export async function image(data: Buffer): Promise<void> {
  if (data.length < 1) return;
  const bytes = Buffer.from(data.subarray(1));
  if (data[0]! % 8 !== 0) repairChecksums(bytes);
  const [file, target] = [path('image.vms'), path('target')];
  writeFileSync(file, bytes);
  const options = { threads: 1, force: true, baseDirs: [folder], keys: { identities: IDENTITIES } };
  await refusable(() => inspect(file, options));
  await refusable(async () => {
    const opened = await openImage(file, options);
    try {
      const total = opened.regions.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
      for (const { name, sizeBytes } of opened.regions.slice(0, 3))
        await opened.read(name, 0, Math.min(8192, sizeBytes));
      for (const { name } of opened.attachments.slice(0, 2)) for await (const _ of opened.readAttachment(name));
      if (total > MEMORY_MAX_BYTES) return;
      await refusable(() => load(file, target, options));
      await refusable(() => salvage(file, target, options));
    } finally {
      await opened.close();
    }
  });
  await refusable(() => verify(file, options));
  requireNames('image.vms', 'target');
}

async function foreign(data: Buffer): Promise<void> {
  writeFileSync(path('file'), data);
  await refusable(() => withForeignFile(path('file'), readSome).catch(notRaw));
}

/** What no reader recognises is raw memory. */
function notRaw(error: unknown): void {
  if (!(error instanceof Error && /is taken for raw memory$/.test(error.message))) throw error;
}

/** ELF cores, kdump files (flattened too), LiME, AVML. */
export const dumps = foreign;
/** QEMU streams, mapped-ram files, libvirt images. */
export const machines = foreign;

/** Firecracker: memory and state; Cloud Hypervisor: state.json, and memory by it. The first byte tells which. */
export async function snapshots(data: Buffer): Promise<void> {
  if (data.length < 2) return;
  const rest = data.subarray(1);
  if (data[0]! % 2 === 0) {
    writeFileSync(path('state.json'), rest);
    writeFileSync(path('config.json'), rest);
    writeFileSync(path('memory-ranges'), Buffer.alloc(PAGE_BYTES * (data[0]! >> 1)));
    await refusable(() => {
      const opened = openCloudHypervisor(folder);
      opened.close();
    });
    return;
  }
  // Three parts: how many pages of memory, whether the checksum of the state is made right, and the bytes of both.
  const memory = path('memory');
  const memoryBytes = Math.min(rest.length, PAGE_BYTES * (data[0]! >> 4));
  const state = Buffer.from(rest.subarray(memoryBytes));
  if (data[0]! % 4 === 1 && state.length >= 8)
    state.writeBigUInt64LE(crc64(state.subarray(0, state.length - 8)), state.length - 8);
  writeFileSync(memory, rest.subarray(0, memoryBytes));
  writeFileSync(path('vmstate'), state);
  const fd = openSync(memory, 'r');
  try {
    const file = { fd, path: memory, sizeBytes: memoryBytes };
    await refusable(() => {
      const opened = openFirecracker(file, { vmstate: path('vmstate') });
      readSome(opened);
      opened.close();
    });
  } finally {
    closeSync(fd);
  }
}

/** Settings and descriptions: the configuration of backup jobs, machine.json, a start manifest. The first byte tells which. */
export async function texts(data: Buffer): Promise<void> {
  if (data.length < 1) return;
  const rest = Buffer.from(data.subarray(1));
  if (data[0]! % 3 === 0) {
    writeFileSync(path('backup.toml'), rest);
    await refusable(() => readBackupConfig(path('backup.toml')));
  } else if (data[0]! % 3 === 1) await refusable(() => readDescription(rest, 'image'));
  else await refusable(() => decodeStartManifest(rest, 'image', 64));
}
