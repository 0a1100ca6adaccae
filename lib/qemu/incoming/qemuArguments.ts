/**
 * The command line with which a saved machine is started again, and what QEMU is told then.
 *
 * A value in a list of QEMU's (`a=1,b=2`) doubles its commas; an option may be JSON instead, which begins with a brace.
 */
import { usage } from '../../options.js';
import { shellQuoted } from '../../shellQuoted.js';
import { isAtLeast } from '../qemuVersion.js';
import type { MachineBlock, MachineImage } from './machineImage.js';
import type { MemoryFile } from './memoryFiles.js';

export interface QmpCommand {
  readonly execute: string;
  readonly arguments?: Readonly<Record<string, unknown>>;
}

const PLACEHOLDER = /\{mem:([^{}]*)\}/g;

/** A QEMU that waits for a machine, paused, with a QMP socket. `-S`: it is the one who brings it back that says when it runs. */
export function waitingArguments(qmpSocket: string): string[] {
  return ['-S', '-incoming', 'defer', '-qmp', `unix:${escapeCommas(qmpSocket)},server=on,wait=off`];
}

/**
 * Replaces each `{mem:NAME}` by the path of the file of that RAM block, or of the block of that memory backend.
 * @throws USAGE for a name that is none, and where the file of a block stands nowhere: QEMU would begin with empty memory.
 */
export function placeMemory(args: readonly string[], image: MachineImage, files: readonly MemoryFile[]): string[] {
  const used = new Set<MemoryFile>();
  const placed = args.map((arg) =>
    arg.replace(PLACEHOLDER, (_, name: string) => {
      const file = files.find(({ block }) => namesOf(block).includes(name));
      if (file === undefined) throw noSuchMemory(name, image, files);
      used.add(file);
      return arg.startsWith('{') ? JSON.stringify(file.path).slice(1, -1) : escapeCommas(file.path);
    }),
  );
  const unused = files.find((file) => !used.has(file));
  if (unused === undefined) return placed;
  const name = namesOf(unused.block).at(-1)!;
  throw usage(
    `the memory ${name} is restored as a file, and QEMU's arguments do not say where it goes: there is no {mem:${name}}`,
    `write -object memory-backend-file,id=${name},share=on,mem-path={mem:${name}},size=${unused.block.sizeBytes}`,
  );
}

/** What a block may be called: as in the stream, and by the id of its backend. */
function namesOf({ name, backend }: MachineBlock): string[] {
  return backend === null ? [name] : [name, backend.id];
}

function noSuchMemory(name: string, { path, blocks }: MachineImage, files: readonly MemoryFile[]): Error {
  const streamed = blocks.find((block) => namesOf(block).includes(name));
  if (streamed !== undefined)
    return usage(
      `{mem:${name}}: the memory ${name} comes in the migration stream and needs no file`,
      "give QEMU the arguments that the saved machine had, where it had no file for this memory's contents",
    );
  const known = files.map(({ block }) => `{mem:${namesOf(block).at(-1)}}`);
  return usage(
    `{mem:${name}}: ${path} has no memory of that name`,
    known.length === 0 ? 'all of its memory comes in the migration stream' : `it has ${known.join(', ')}`,
  );
}

/** The recorded command line, less what says how it was started, with the files in the place of the old ones. */
export function recordedCommand({ description }: MachineImage, files: readonly MemoryFile[]): string[] | null {
  const recorded = description?.commandLine;
  if (recorded === undefined || recorded === null || recorded.length === 0) return null;
  const args: string[] = [];
  for (let i = 0; i < recorded.length; i++) {
    if (isOption(recorded[i]!, 'incoming')) i++;
    else if (!isOption(recorded[i]!, 'S')) args.push(files.reduce(replacePath, recorded[i]!));
  }
  return args;
}

function replacePath(arg: string, { block, path }: MemoryFile): string {
  const old = block.backend?.path;
  if (old === undefined || old === null) return arg;
  if (arg.startsWith('{')) return arg.replace(JSON.stringify(old), () => JSON.stringify(path));
  return arg.replace(`mem-path=${escapeCommas(old)}`, () => `mem-path=${escapeCommas(path)}`);
}

/** The options of the memory files, for a command line that is not recorded. */
export function memoryArguments(files: readonly MemoryFile[]): string[] {
  return files.flatMap(({ block, path }) => [
    '-object',
    `memory-backend-file,id=${namesOf(block).at(-1)},share=on,mem-path=${escapeCommas(path)},size=${block.sizeBytes}`,
  ]);
}

/** What prepares a QEMU for the stream. It must leave out the same memory as the saved one did. */
export function capabilityCommands({ head }: MachineImage): QmpCommand[] {
  if (!head.ignoreShared) return [];
  const capabilities = [{ capability: 'x-ignore-shared', state: true }];
  return [{ execute: 'migrate-set-capabilities', arguments: { capabilities } }];
}

/** QMP from the first word on. `stateFile`: an absolute path. */
export function restoreCommands(image: MachineImage, stateFile: string): QmpCommand[] {
  return [
    { execute: 'qmp_capabilities' },
    ...capabilityCommands(image),
    { execute: 'migrate-incoming', arguments: { uri: fileUri(image, stateFile) } },
    { execute: 'cont' },
  ];
}

/** QEMU reads files itself since 8.2. */
function fileUri({ description }: MachineImage, path: string): string {
  const knowsFiles = description !== null && isAtLeast(description.qemuVersion, 8, 2);
  return knowsFiles ? `file:${path}` : `exec:cat ${shellQuoted(path)}`;
}

/** The value of the last option of one of these names, written -name or --name. */
export function optionValue(args: readonly string[], ...names: readonly string[]): string | undefined {
  const at = args.findLastIndex((arg) => names.some((name) => isOption(arg, name)));
  return at < 0 ? undefined : args[at + 1];
}

export function hasOption(args: readonly string[], name: string): boolean {
  return args.some((arg) => isOption(arg, name));
}

function isOption(arg: string, name: string): boolean {
  return arg === `-${name}` || arg === `--${name}`;
}

function escapeCommas(value: string): string {
  return value.replaceAll(',', ',,');
}
