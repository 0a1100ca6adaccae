/** Checks for commands that take several images, or folders of them. */
import type { ParsedArguments } from '../options/parsedArguments.js';
import { UsageError } from '../usageError.js';

export function requireOneStdin(images: readonly string[]): void {
  if (images.filter((image) => image === '-').length > 1) {
    throw new UsageError('- stands twice', 'standard input can be read only once');
  }
}

/** One folder or more. */
export function requireFolders({ positionals }: ParsedArguments): readonly string[] {
  if (positionals.length === 0) throw new UsageError('FOLDER missing');
  if (positionals.includes('')) throw new UsageError('an argument is empty', 'is a variable unset?');
  return positionals;
}

export function requireFolder(args: ParsedArguments): string {
  return args.requirePositionals(['FOLDER'])[0]!;
}
