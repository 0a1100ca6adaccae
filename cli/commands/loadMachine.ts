/** `vmsnap load --machine`: what QEMU needs to bring a machine back, in a folder, and the words for it. */
import type { DiskState, LoadMachineResult } from '../../lib/index.js';
import { shellQuoted } from '../../lib/shellQuoted.js';
import type { CommandContext } from '../command.js';
import { printable } from '../output/printable.js';
import { formatBytes, formatDuration } from '../output/units.js';
import { wrapCommand } from '../output/wrap.js';
import { UsageError } from '../usageError.js';
import { exitCodeFor, warningsJson, workOptions } from './commonOptions.js';
import { imageOptions } from './keyOptions.js';

const LINE_COLUMNS = 100;
/** Options of a load into a plain target. */
const NOT_OF_MACHINES = ['as', 'region', 'range', 'in-place', 'owner', 'mode'];

export async function runLoadMachine(context: CommandContext, folder: string): Promise<number> {
  const { args, answer } = context;
  if (args.positionals.length > 1)
    throw new UsageError('--machine FOLDER stands for TARGET', 'write: vmsnap load --machine FOLDER IMAGE');
  const [image] = args.requirePositionals(['IMAGE']);
  const other = NOT_OF_MACHINES.find((name) => args.flag(name));
  if (other !== undefined) throw new UsageError(`--${other} does not go with --machine`);
  const { loadMachine } = await import('../../lib/qemu/incoming/loadMachine.js');
  const force = args.flag('force');
  const options = { ...workOptions(context), ...imageOptions(context), force };
  const result = await loadMachine(image!, folder, options);
  context.talk.clearProgress();
  if (args.flag('json')) await answer.json(machineJson(result));
  else if (!args.flag('quiet')) await answer.lines(machineLines(result, folder));
  return exitCodeFor(result.warnings);
}

function machineLines(result: LoadMachineResult, folder: string): string[] {
  const { memoryBytes, dataBytes, run, machineType, qemuVersion } = result;
  const what = [machineType, qemuVersion && `QEMU ${qemuVersion}`].filter((part) => part !== null).join(' of ');
  return [
    `${folder}: ${what === '' ? 'a machine' : printable(what)}, ${formatBytes(memoryBytes)} of memory, ` +
      `${formatBytes(dataBytes)} of it data, ${formatDuration(run.durationSeconds)}`,
    'proven: the digest of the whole memory is right',
    ...result.disks.map(diskLine),
    '',
    ...commandLines(result),
    '',
    "Then say on QEMU's QMP socket:",
    ...result.commands.map((command) => JSON.stringify(command)),
  ];
}

function commandLines({ command, arguments: args }: LoadMachineResult): string[] {
  const words = (command ?? args).map((word) => printable(shellQuoted(word))).join(' ');
  const title =
    command === null
      ? 'Start QEMU with the arguments that the machine had, and in place of its memory:'
      : 'Start QEMU:';
  return [title, ...wrapCommand(words, LINE_COLUMNS)];
}

function diskLine({ node, file, state, difference }: DiskState): string {
  const words = {
    unchanged: 'as it was',
    changed: `CHANGED, ${difference}: put it back first`,
    unknown: 'not checked',
  };
  return `disk ${printable(file ?? node)}: ${words[state]}`;
}

function machineJson(result: LoadMachineResult): object {
  return {
    schema: 'vmsnap.load-machine',
    schemaVersion: 1,
    image: result.image,
    folder: result.folder,
    memoryFiles: result.memoryFiles.map(({ block, path, sizeBytes }) => ({ block, path, sizeBytes })),
    stateFile: result.stateFile,
    qemuVersion: result.qemuVersion,
    machineType: result.machineType,
    command: result.command,
    arguments: result.arguments,
    commands: result.commands,
    disks: result.disks.map(({ node, file, snapshots, state, difference }) => ({
      node,
      file,
      snapshots,
      state,
      difference,
    })),
    memoryBytes: result.memoryBytes,
    dataBytes: result.dataBytes,
    imageBytes: result.imageBytes,
    digest: result.digest,
    run: { threads: result.run.threads, durationSeconds: result.run.durationSeconds },
    warnings: warningsJson(result.warnings),
  };
}
