/** Other people's readers of memory files: each is asked for physical memory, and what it says is held against the bytes. */
import { execFileSync } from 'node:child_process';

/** Debian's own Python: its packages are not there for another. */
const PYTHON = '/usr/bin/python3';

function run(program: string, ...args: readonly string[]): string {
  return execFileSync(program, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'], maxBuffer: 2 ** 27 });
}

export interface LoadSegment {
  readonly offset: number;
  readonly virtualAddress: number;
  readonly physicalAddress: number;
  readonly fileBytes: number;
  readonly memoryBytes: number;
}

/** The PT_LOAD lines of `readelf -l`, which must have no complaint. */
export function readelfSegments(path: string): LoadSegment[] {
  const lines = run('readelf', '-lW', path).split('\n');
  return lines
    .filter((line) => /^ +LOAD /.test(line))
    .map((line) => {
      const [offset, virtualAddress, physicalAddress, fileBytes, memoryBytes] = line
        .trim()
        .split(/\s+/)
        .slice(1)
        .map(Number);
      return {
        offset: offset!,
        virtualAddress: virtualAddress!,
        physicalAddress: physicalAddress!,
        fileBytes: fileBytes!,
        memoryBytes: memoryBytes!,
      };
    });
}

export function readelfText(path: string, ...options: readonly string[]): string {
  return run('readelf', ...options, path);
}

export type MemoryReader = (path: string, address: number, length: number) => Buffer;

/** gdb: `dump memory` of an address. */
export const gdb: MemoryReader = (path, address, length) => {
  const text = run('gdb', '-batch', '-nx', '-ex', `x/${length}xb ${address}`, '--core', path);
  const bytes = text
    .split('\n')
    .filter((line) => /^0x/.test(line))
    .flatMap((line) => line.split(':')[1]!.trim().split(/\s+/));
  return Buffer.from(bytes.map(Number));
};

/** libkdumpfile, which makedumpfile's successors and drgn build on. */
export const libkdumpfile: MemoryReader = (path, address, length) =>
  python(
    `import kdumpfile
c = kdumpfile.kdumpfile(path)
print(c.read(kdumpfile.KDUMP_MACHPHYSADDR, address, length).hex())`,
    path,
    address,
    length,
  );

export const drgn: MemoryReader = (path, address, length) =>
  python(
    `import drgn
p = drgn.Program()
p.set_core_dump(path)
print(p.read(address, length, True).hex())`,
    path,
    address,
    length,
  );

function python(program: string, path: string, address: number, length: number): Buffer {
  const given = `import sys\npath, address, length = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])\n`;
  return Buffer.from(run(PYTHON, '-c', given + program, path, String(address), String(length)).trim(), 'hex');
}

export function hasPythonModule(name: string): void {
  run(PYTHON, '-c', `import ${name}`);
}
