/** `vmsnap resume`: a QEMU machine runs on from its image. */
import { constants } from 'node:os';
import type { QemuEnd, ResumedMachine, ResumeResult } from '../../lib/index.js';
import type { CommandContext, CommandSpec } from '../command.js';
import { printable } from '../output/printable.js';
import { formatBytes, formatDuration } from '../output/units.js';
import { UsageError } from '../usageError.js';
import {
  BASE_DIR_OPTION,
  JSON_OPTION,
  QUIET_OPTION,
  THREADS_OPTION,
  warningsJson,
  workOptions,
} from './commonOptions.js';
import { imageOptions, KEY_OPTIONS } from './keyOptions.js';

const PASSED_ON: readonly NodeJS.Signals[] = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT'];
/** A shell's code for a program that a signal has ended. */
const SIGNAL_EXIT_BASE = 128;

export const resumeCommand: CommandSpec = {
  name: 'resume',
  summary: 'start QEMU and let a saved machine run on in it',
  usage: ['resume [options] IMAGE -- QEMU ARGUMENT...'],
  options: [
    { name: 'paused', kind: 'flag', text: 'leave the machine paused' },
    { name: 'disks-restored', kind: 'flag', text: 'the disks are as they were: do not look at them' },
    { name: 'memory-dir', kind: 'value', text: 'FOLDER; where memory files go; default /dev/shm' },
    THREADS_OPTION,
    BASE_DIR_OPTION,
    ...KEY_OPTIONS,
    QUIET_OPTION,
    JSON_OPTION,
  ],
  examples: [['vmsnap resume vm.vmsnap -- qemu-system-x86_64 ...', 'run on']],
  notes: [
    'QEMU gets the arguments that the saved machine had, but for -incoming; where it',
    "had a shared memory file its path is written {mem:ID}, with the backend's id:",
    '  -object memory-backend-file,id=ram,share=on,mem-path={mem:ram},size=2G',
    "vmsnap stays as long as QEMU, passes signals on and ends with QEMU's exit code;",
    'with -daemonize it ends when the machine runs. Standard input and output are',
    "QEMU's, what vmsnap has to say goes to standard error. Refused, with code 17, if",
    'a disk was written since the save; QEMU ends or refuses: code 22.',
  ],
  lastIsOutput: false,
  answersOnStderr: true,
  run: runResume,
};

async function runResume(context: CommandContext): Promise<number> {
  const { args, answer, talk } = context;
  const [image, ...command] = args.positionals;
  if (image === undefined) throw new UsageError('IMAGE missing');
  if (command.length === 0) {
    const hint = `write it behind --, as: vmsnap resume ${image} -- qemu-system-x86_64 ...`;
    throw new UsageError('the command of QEMU is missing', hint);
  }
  const { resume } = await import('../../lib/qemu/incoming/resume.js');
  const machine = await resume(image, command, {
    ...workOptions(context),
    ...imageOptions(context),
    memoryDir: args.value('memory-dir'),
    paused: args.flag('paused'),
    disksRestored: args.flag('disks-restored'),
    onQemuOutput: (bytes) => process.stderr.write(bytes),
  });
  context.releaseSignals();
  talk.clearProgress();
  const giveBack = passSignals(machine);
  try {
    if (args.flag('json')) await answer.json(resumeJson(machine.result));
    else if (!args.flag('quiet')) await answer.line(`vmsnap: ${resumeSummary(machine.result)}`);
    return exitCodeOf(await machine.ended);
  } finally {
    giveBack();
  }
}

/** From now on they are for QEMU. */
function passSignals({ kill }: ResumedMachine): () => void {
  for (const signal of PASSED_ON) process.on(signal, kill);
  return () => {
    for (const signal of PASSED_ON) process.off(signal, kill);
  };
}

function exitCodeOf(end: QemuEnd | null): number {
  if (end === null) return 0;
  return end.exitCode ?? SIGNAL_EXIT_BASE + (constants.signals[end.killedBy!] ?? 0);
}

function resumeSummary({ image, status, memoryBytes, qemuVersion, run }: ResumeResult): string {
  const state = status === 'running' ? 'runs' : 'is there, paused';
  return (
    `the machine of ${printable(image)} ${state} in QEMU ${qemuVersion}: ` +
    `${formatBytes(memoryBytes)} of memory, proven, ${formatDuration(run.durationSeconds)}`
  );
}

function resumeJson(result: ResumeResult): object {
  return {
    schema: 'vmsnap.resume',
    schemaVersion: 1,
    image: result.image,
    qemuVersion: result.qemuVersion,
    machineType: result.machineType,
    status: result.status,
    processId: result.processId,
    qmpSocket: result.qmpSocket,
    memoryFiles: result.memoryFiles.map(({ block, path, sizeBytes }) => ({ block, path, sizeBytes })),
    memoryBytes: result.memoryBytes,
    dataBytes: result.dataBytes,
    imageBytes: result.imageBytes,
    digest: result.digest,
    run: { ...result.run },
    warnings: warningsJson(result.warnings),
  };
}
