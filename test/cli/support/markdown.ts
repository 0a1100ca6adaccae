/** Fenced blocks of a Markdown file, by their info string. */

export interface CodeBlock {
  /** What stands behind the opening fence, such as `sh test`. */
  readonly info: string;
  readonly text: string;
  /** Line of the opening fence, from 1. */
  readonly line: number;
}

export function codeBlocks(markdown: string): CodeBlock[] {
  const blocks: CodeBlock[] = [];
  let open: { info: string; lines: string[]; line: number } | undefined;
  for (const [i, line] of markdown.split('\n').entries()) {
    if (open === undefined) {
      if (line.startsWith('```')) open = { info: line.slice(3).trim(), lines: [], line: i + 1 };
    } else if (line === '```') {
      blocks.push({ info: open.info, text: open.lines.join('\n'), line: open.line });
      open = undefined;
    } else open.lines.push(line);
  }
  return blocks;
}

/** Relative targets of links, without the part behind `#`. */
export function linkTargets(markdown: string): string[] {
  const targets = [...markdown.matchAll(/\]\(([^)#\s]+)[^)]*\)/g)].map((match) => match[1]!);
  return targets.filter((target) => !/^[a-z]+:/.test(target));
}

export interface ConsoleStep {
  readonly command: string;
  readonly output: readonly string[];
}

/** A `console` block: `$ command`, then what it prints. */
export function consoleSteps(text: string): ConsoleStep[] {
  const steps: { command: string; output: string[] }[] = [];
  for (const line of text.split('\n')) {
    if (line.startsWith('$ ')) steps.push({ command: line.slice(2), output: [] });
    else steps.at(-1)!.output.push(line);
  }
  return steps;
}
