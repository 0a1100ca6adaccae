/** docs/reference.md: every command and option, made from the definitions that `--help` is made from. */
import type { CommandSpec, OptionSpec } from '../command.js';
import { valueShape } from '../options/valueShape.js';

export function referencePage(commands: readonly CommandSpec[]): string {
  return [
    '# Commands and options',
    '',
    'Made by `npm run reference` from the definitions that `vmsnap COMMAND --help` is made from. Exit codes, JSON and the',
    'environment are in [scripting.md](scripting.md). Every command has `--help`.',
    '',
    ...commands.map(({ name, summary }) => `- [${name}](#vmsnap-${name}): ${plain(summary)}`),
    '',
    ...commands.flatMap(commandSection),
  ].join('\n');
}

function commandSection({ name, usage, summary, options, notes, examples }: CommandSpec): string[] {
  return [
    `## vmsnap ${name}`,
    '',
    `${plain(sentence(summary))}`,
    '',
    '```',
    ...usage.map((line) => `vmsnap ${line}`),
    '```',
    '',
    ...(notes === undefined ? [] : [plain(notes.join(' ')), '']),
    ...(options.length === 0 ? [] : ['| option | meaning |', '| --- | --- |', ...options.map(optionRow), '']),
    '```',
    ...alignedExamples(examples),
    '```',
    '',
  ];
}

function optionRow(option: OptionSpec): string {
  const shape = option.kind === 'flag' ? '' : ` ${valueShape(option) ?? 'WORD'}`;
  const text =
    shape === '' || option.choices !== undefined
      ? option.text
      : option.text.slice(shape.length - 1).replace(/^[;,] */, '');
  const several = option.kind === 'list' && !option.text.includes('repeatable') ? ' (repeatable)' : '';
  return `| \`--${option.name}${shape.replaceAll('|', '\\|')}\` | ${plain(text)}${several} |`;
}

function alignedExamples(examples: CommandSpec['examples']): string[] {
  const width = Math.max(0, ...examples.map(([command]) => command.length));
  return examples.map(([command, meaning]) => `${command.padEnd(width)}   # ${meaning}`);
}

function sentence(text: string): string {
  return `${text[0]!.toUpperCase()}${text.slice(1)}.`;
}

/** Of Markdown's signs those that stand in our texts. */
function plain(text: string): string {
  return text.replace(/[|<>*_]/g, (sign) => `\\${sign}`);
}
