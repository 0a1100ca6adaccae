/** The commands, in the order in which the help lists them. Each is loaded only when it is called. */
import type { CommandSpec } from './command.js';

export interface CommandEntry {
  readonly name: string;
  readonly usage: string;
  readonly summary: string;
  readonly load: () => Promise<CommandSpec>;
}

export const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'save',
    usage: 'save SOURCE IMAGE',
    summary: 'save the memory of a VM into an image',
    load: async () => (await import('./commands/save.js')).saveCommand,
  },
  {
    name: 'load',
    usage: 'load IMAGE TARGET',
    summary: 'bring the memory back, bit for bit',
    load: async () => (await import('./commands/load.js')).loadCommand,
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
    name: 'extract',
    usage: 'extract IMAGE [FILE]',
    summary: 'list or take out attachments',
    load: async () => (await import('./commands/extract.js')).extractCommand,
  },
];
