/**
 * The script of `vmsnap completion bash`, made from the same definitions as the help: commands, options, the words that an
 * option takes; file names everywhere else but for values that are plainly none.
 *
 * Bash splits `--codec=zstd` at the `=` (COMP_WORDBREAKS), so an option's value may stand behind a word `=`.
 */
import type { CommandSpec, OptionSpec } from '../command.js';
import { valueShape } from '../options/valueShape.js';

/** Shapes of values that are names of files. */
const FILE_SHAPES = new Set([
  'FILE',
  'FOLDER',
  'IMAGE',
  'NODE',
  'SOCKET',
  'NAME=FILE',
  'NAME=SIZE@GPA[:FILE[+OFFSET]]',
]);

export function bashCompletion(commands: readonly CommandSpec[], version: string): string {
  const names = commands.map(({ name }) => name);
  return [
    `# Completion of vmsnap ${version} for bash: vmsnap completion bash`,
    '_vmsnap() {',
    `  local current=\${COMP_WORDS[COMP_CWORD]} option=\${COMP_WORDS[COMP_CWORD-1]} words= files=1`,
    `  [[ $current == = ]] && current=`,
    `  [[ $option == = ]] && option=\${COMP_WORDS[COMP_CWORD-2]}`,
    '  COMPREPLY=()',
    `  if ((COMP_CWORD == 1)); then`,
    `    mapfile -t COMPREPLY < <(compgen -W '${[...names, 'help', '--help', '--version'].join(' ')}' -- "$current")`,
    '    return',
    '  fi',
    '  if [[ $current == -* ]]; then',
    '    files=',
    `    case "\${COMP_WORDS[1]}" in`,
    ...commands.map(({ name, options }) => `      ${name}) words='${optionWords(options)}' ;;`),
    '    esac',
    '  else',
    `    case "\${COMP_WORDS[1]} $option" in`,
    `      'help help') files= words='${names.join(' ')}' ;;`,
    ...commands.flatMap(valueCases),
    '    esac',
    '  fi',
    `  if [[ -n $words ]]; then mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current"); fi`,
    '  if [[ -n $files ]]; then',
    '    compopt -o filenames 2> /dev/null || :',
    `    mapfile -t COMPREPLY < <(compgen -f -- "$current")`,
    '  fi',
    '}',
    'complete -F _vmsnap vmsnap',
  ].join('\n');
}

function optionWords(options: readonly OptionSpec[]): string {
  return [...options.map(({ name }) => `--${name}`), '--help'].join(' ');
}

/** What follows an option that takes a value. */
function valueCases({ name, options, positionalChoices }: CommandSpec): string[] {
  const cases = options.flatMap((option) => valueCase(name, option));
  if (positionalChoices === undefined) return cases;
  return [...cases, `      '${name} ${name}') files= words='${positionalChoices.join(' ')}' ;;`];
}

function valueCase(command: string, option: OptionSpec): string[] {
  if (option.kind === 'flag') return [];
  const pattern = `      '${command} --${option.name}')`;
  if (option.choices !== undefined) return [`${pattern} files= words='${option.choices.join(' ')}' ;;`];
  return FILE_SHAPES.has(valueShape(option) ?? '') ? [`${pattern} ;;`] : [`${pattern} files= ;;`];
}
