/** The commands, in the order in which the help lists them. Each is loaded only when it is called. */
import type { CommandSpec } from './command.js';

export interface CommandEntry {
  readonly name: string;
  readonly usage: string;
  readonly summary: string;
  readonly load: () => Promise<CommandSpec>;
  /** What its threads will do: they start before the command is loaded, if a word of the command line is a file. */
  readonly warmsUp?: 'save' | 'read' | 'compare';
}

export const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'save',
    usage: 'save SOURCE IMAGE',
    summary: 'save the memory of a VM into an image',
    load: async () => (await import('./commands/save.js')).saveCommand,
    warmsUp: 'save',
  },
  {
    name: 'load',
    usage: 'load IMAGE TARGET',
    summary: 'bring the memory back, bit for bit',
    load: async () => (await import('./commands/load.js')).loadCommand,
    warmsUp: 'read',
  },
  {
    name: 'resume',
    usage: 'resume IMAGE -- QEMU...',
    summary: 'let a saved QEMU machine run on',
    load: async () => (await import('./commands/resume.js')).resumeCommand,
  },
  {
    name: 'inspect',
    usage: 'inspect IMAGE...',
    summary: 'look into images without reading their payload',
    load: async () => (await import('./commands/inspect.js')).inspectCommand,
  },
  {
    name: 'verify',
    usage: 'verify IMAGE...',
    summary: 'read and check everything in images',
    load: async () => (await import('./commands/verify.js')).verifyCommand,
  },
  {
    name: 'compare',
    usage: 'compare A B',
    summary: 'tell what differs between two memories',
    load: async () => (await import('./commands/compare.js')).compareCommand,
    warmsUp: 'compare',
  },
  {
    name: 'estimate',
    usage: 'estimate SOURCE',
    summary: 'tell what a save would take',
    load: async () => (await import('./commands/estimate.js')).estimateCommand,
  },
  {
    name: 'flatten',
    usage: 'flatten IMAGE OUT',
    summary: 'make a differential image whole by itself',
    load: async () => (await import('./commands/flatten.js')).flattenCommand,
  },
  {
    name: 'list',
    usage: 'list FOLDER...',
    summary: 'list the images in folders',
    load: async () => (await import('./commands/list.js')).listCommand,
  },
  {
    name: 'prune',
    usage: 'prune FOLDER',
    summary: 'remove old images by rules',
    load: async () => (await import('./commands/prune.js')).pruneCommand,
  },
  {
    name: 'check',
    usage: 'check FOLDER',
    summary: 'tell monitoring how fresh and sound images are',
    load: async () => (await import('./commands/check.js')).checkCommand,
  },
  {
    name: 'extract',
    usage: 'extract IMAGE [FILE]',
    summary: 'list or take out attachments',
    load: async () => (await import('./commands/extract.js')).extractCommand,
  },
  {
    name: 'backup',
    usage: 'backup [JOB...]',
    summary: 'run backup jobs: save, verify, prune, tell',
    load: async () => (await import('./commands/backup.js')).backupCommand,
  },
  {
    name: 'doctor',
    usage: 'doctor',
    summary: 'tell whether DSA works here, and what to mend',
    load: async () => (await import('./commands/doctor.js')).doctorCommand,
  },
  {
    name: 'bench',
    usage: 'bench [SOURCE]',
    summary: 'measure vmsnap on this machine',
    load: async () => (await import('./commands/bench.js')).benchCommand,
  },
  {
    name: 'completion',
    usage: 'completion bash',
    summary: 'print the script for completion in bash',
    load: async () => (await import('./commands/completion.js')).completionCommand,
  },
];
