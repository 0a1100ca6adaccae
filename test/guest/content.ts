import { execFileSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { AGENT_PATH, type Filling, initScript, NODE_HEAP_SCRIPT } from './init.js';
import type { InitramfsEntry } from './initramfs.js';

/** `small` boots fast; `full` carries programs, libraries and text of this machine and a Node process with a heap. */
export type GuestContent = 'small' | 'full';

// Measured so that a full guest of 2 GiB ends up with about 30 % of its pages in use. Every byte of the archive is
// found twice in the guest: unpacked, and as the memory that the archive was in and that is free now.
const FULL_ARCHIVE_SHARE = 0.08;
const FULL_HEAP_SHARE = 0.04;
const FULL_RANDOM_SHARE = 0.012;
const MEBIBYTE = 2 ** 20;
const HOST_FILE_LIMIT_BYTES = 16 * MEBIBYTE;
const HOST_FOLDERS = ['/usr/include', '/usr/lib/x86_64-linux-gnu', '/usr/bin', '/usr/lib', '/usr/share'];

export interface BootContent {
  readonly memoryMiB: number;
  /** Default small. */
  readonly content?: GuestContent | undefined;
  /** Default none. */
  readonly dirtyMiB?: number | undefined;
  /** qemu-ga of this machine, which the guest then runs. */
  readonly agent?: string | undefined;
  /** Whether it counts on a disk as well. */
  readonly countsOnDisk?: boolean;
}

/** Everything that the guest boots from: busybox, its init script, and what fills its memory. */
export function guestEntries(busyboxPath: string, boot: BootContent): InitramfsEntry[] {
  const { memoryMiB, content = 'small', dirtyMiB = 0, agent, countsOnDisk = false } = boot;
  const archive = new Archive();
  archive.add({ kind: 'character-device', path: '/dev/console', mode: 0o600, major: 5, minor: 1 });
  archive.add({ kind: 'copy', path: '/bin/busybox', mode: 0o755, from: busyboxPath });
  archive.add({
    kind: 'file',
    path: '/init',
    mode: 0o755,
    content: initScript(
      { ...fillingOf(memoryMiB, content), dirtyMiB },
      { runsAgent: agent !== undefined, countsOnDisk },
    ),
  });
  if (agent !== undefined) addProgram(archive, AGENT_PATH, agent);
  if (content === 'full') addHostContent(archive, memoryMiB);
  return archive.entries;
}

/** Modules of the kernel that the guest boots, and those that they need, in the order in which the init script loads them. */
export function moduleEntries(kernel: string, modules: readonly string[]): InitramfsEntry[] {
  const folder = join('/lib/modules', basename(kernel).replace(/^vmlinuz-/, ''));
  const copies = inLoadOrder(folder, modules).map((module, i) => ({
    kind: 'copy' as const,
    path: `/modules/${String(i).padStart(2, '0')}-${basename(module)}`,
    mode: 0o644,
    from: join(folder, module),
  }));
  return [{ kind: 'folder', path: '/modules' }, ...copies];
}

/** modules.dep has a line for each module, which names all that it needs: the last of them is loaded first. */
function inLoadOrder(folder: string, modules: readonly string[]): string[] {
  if (modules.length === 0) return [];
  const lines = readFileSync(join(folder, 'modules.dep'), 'utf8').split('\n');
  const needs = new Map(lines.map((line) => line.split(': ') as [string, string | undefined]));
  const needed = (module: string) => (needs.get(module) ?? '').split(' ').filter((name) => name !== '');
  return [...new Set(modules.flatMap((module) => [...needed(module).reverse(), module]))];
}

function fillingOf(memoryMiB: number, content: GuestContent): Omit<Filling, 'dirtyMiB'> {
  if (content === 'small') return { copies: 3, randomMiB: 4, heapRecords: 20_000, nodeHeapMiB: 0 };
  return {
    copies: 4,
    randomMiB: Math.round(memoryMiB * FULL_RANDOM_SHARE),
    heapRecords: 100_000,
    nodeHeapMiB: Math.round(memoryMiB * FULL_HEAP_SHARE) + 50,
  };
}

function addHostContent(archive: Archive, memoryMiB: number): void {
  const node = realpathSync(process.execPath);
  addProgram(archive, '/node', node);
  archive.add({ kind: 'file', path: '/heap.js', mode: 0o644, content: NODE_HEAP_SCRIPT });
  let budgetBytes = memoryMiB * MEBIBYTE * FULL_ARCHIVE_SHARE - statSync(node).size;
  for (const folder of HOST_FOLDERS) {
    // Half of what is left for each folder keeps one kind of file from filling the guest.
    let folderBytes = budgetBytes / 2;
    for (const file of filesBelow(folder)) {
      const sizeBytes = statSync(file).size;
      if (sizeBytes === 0 || sizeBytes > HOST_FILE_LIMIT_BYTES || sizeBytes > folderBytes) continue;
      archive.add({ kind: 'copy', path: `/host${file}`, mode: 0o644, from: file });
      folderBytes -= sizeBytes;
      budgetBytes -= sizeBytes;
    }
  }
}

function addProgram(archive: Archive, path: string, program: string): void {
  for (const library of sharedLibraries(program)) {
    archive.add({ kind: 'copy', path: library, mode: 0o755, from: realpathSync(library) });
  }
  archive.add({ kind: 'copy', path, mode: 0o755, from: program });
}

/** The libraries and the loader that a program needs, as ldd names them. */
function sharedLibraries(program: string): string[] {
  const listing = execFileSync('ldd', [program], { encoding: 'utf8' });
  return [...listing.matchAll(/(\/\S+) \(0x/g)].map((match) => match[1]!);
}

/** Plain files below a folder, in the same order on every run; what cannot be read is passed over. */
function* filesBelow(folder: string): Generator<string> {
  if (!existsSync(folder)) return;
  const entries = readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1));
  for (const entry of entries) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) yield* filesBelow(path);
    else if (entry.isFile()) yield path;
  }
}

/** Entries of an archive in order, with the folders that they need before them. */
class Archive {
  readonly entries: InitramfsEntry[] = [];
  readonly #folders = new Set<string>(['/']);
  readonly #paths = new Set<string>();

  add(entry: InitramfsEntry): void {
    if (this.#paths.has(entry.path)) return;
    this.#paths.add(entry.path);
    this.#addFolder(dirname(entry.path));
    this.entries.push(entry);
  }

  #addFolder(path: string): void {
    if (this.#folders.has(path)) return;
    this.#folders.add(path);
    this.#addFolder(dirname(path));
    this.entries.push({ kind: 'folder', path });
  }
}
