/** The help: one screen for the program, one for each command. */
import type { CommandSpec } from './command.js';
import { COMMANDS } from './commandTable.js';
import { createHelpParser } from './options/helpParser.js';
import { toolVersion } from './version.js';

export function topHelp(): string {
  const width = Math.max(...COMMANDS.map(({ usage }) => usage.length));
  return [
    `vmsnap ${toolVersion()}: saves the memory of a VM into one small, checksummed image`,
    '',
    'Usage: vmsnap COMMAND [options] ..., vmsnap COMMAND --help, vmsnap --version',
    '',
    'Commands:',
    ...COMMANDS.map(({ usage, summary }) => `  vmsnap ${usage.padEnd(width)}  ${summary}`),
    '',
    'Examples:',
    '  vmsnap save /dev/shm/guest.mem guest.vmsnap   save a memory file',
    '  vmsnap inspect guest.vmsnap                   look into the image',
    '  vmsnap load guest.vmsnap /dev/shm/guest.mem   bring the memory back',
    '',
    '`-` is standard input or output. Exit codes: 0 done, 2 wrong call, 3 done with',
    'warnings, 14 damaged image; docs/scripting.md has all of them.',
  ].join('\n');
}

export async function commandHelp(spec: CommandSpec): Promise<string> {
  const parser = await createHelpParser(spec.options);
  const usage = spec.usage.map((line, i) => `${i === 0 ? 'Usage:' : '      '} vmsnap ${line}`);
  parser.usage([...usage, '', sentence(spec.summary)].join('\n'));
  for (const [command, meaning] of spec.examples) parser.example(command, meaning);
  if (spec.notes !== undefined) parser.epilogue(spec.notes.join('\n'));
  return parser.getHelp();
}

function sentence(text: string): string {
  return `${text[0]!.toUpperCase()}${text.slice(1)}.`;
}
