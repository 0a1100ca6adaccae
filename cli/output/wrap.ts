/** A blank, but not the one between a number and its unit. */
const BREAK = /(?<!\d) +| +(?!(?:B|KiB|MiB|GiB|TiB|PiB)\b)/;

/** Text broken at blanks to a width. A word that is longer stands on a line of its own, whole. */
export function wrap(text: string, columns: number): string[] {
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(BREAK).filter((part) => part !== '')) {
    if (line !== '' && line.length + 1 + word.length > columns) {
      lines.push(line);
      line = word;
    } else line = line === '' ? word : `${line} ${word}`;
  }
  if (line !== '') lines.push(line);
  return lines;
}

/** A shell command in lines that end with a backslash, so that it can be copied; broken before an option or a redirection. */
export function wrapCommand(command: string, columns: number): string[] {
  if (command.length <= columns) return [command];
  const parts = command.split(/ (?=-|>|&& )/);
  const lines: string[] = [];
  let line = parts[0]!;
  for (const part of parts.slice(1)) {
    if (line.length + 1 + part.length + 2 > columns) {
      lines.push(`${line} \\`);
      line = `  ${part}`;
    } else line = `${line} ${part}`;
  }
  return [...lines, line];
}
