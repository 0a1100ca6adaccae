/**
 * The yargs object that lays out the help of one command. Its package.json look-up gets our own folder, not the one
 * where the user stands. Loaded late: it costs 80 ms.
 */
import type { Argv } from 'yargs';
import type { OptionSpec } from '../command.js';
import { packageFolder } from '../version.js';

export const HELP_OPTION: OptionSpec = { name: 'help', kind: 'flag', text: 'this help' };

export async function createHelpParser(options: readonly OptionSpec[]): Promise<Argv> {
  const { default: yargs } = await import('yargs');
  const parser = hideTypes(yargs([], packageFolder()))
    .scriptName('vmsnap')
    .locale('en')
    .help(false)
    .version(false)
    .exitProcess(false)
    .fail(false)
    // Our lines are short enough (a test says so), and wrapped lines would lose their indentation.
    .wrap(null);
  for (const option of [...options.filter(({ rare }) => rare !== true), HELP_OPTION]) addOption(parser, option);
  return parser;
}

/** Our option texts name the types themselves. The types of yargs 17 do not know this method of 18. */
function hideTypes(parser: Argv): Argv {
  return (parser as Argv & { usageConfiguration(config: object): Argv }).usageConfiguration({ 'hide-types': true });
}

function addOption(parser: Argv, { name, kind, text }: OptionSpec): void {
  const shape = kind === 'flag' ? ({ type: 'boolean' } as const) : ({ type: 'string' } as const);
  parser.option(name, { ...shape, array: kind === 'list', describe: text });
}
