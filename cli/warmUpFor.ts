/**
 * Starts worker threads before the command itself is loaded, which takes about as long as a thread's start. The options are not known
 * yet, so the first word that is a file, a named pipe or "-" is taken for the one that the threads will read: if that is wrong, a
 * thread is started for nothing, or later.
 */
import { statSync } from 'node:fs';
import { warmUp } from '../lib/warmUp.js';

export function warmUpFor(work: 'save' | 'read' | 'compare', words: readonly string[]): void {
  // Under a ceiling on memory the work itself says how many there may be.
  if (words.some((word) => word === '--memory' || word.startsWith('--memory='))) return;
  const path = words.find(isInput);
  if (path !== undefined) warmUp(path, threadsIn(words), work);
}

function isInput(word: string): boolean {
  if (word.startsWith('-')) return word === '-';
  try {
    const stats = statSync(word, { throwIfNoEntry: false });
    return stats?.isFile() === true || stats?.isFIFO() === true;
  } catch {
    return false;
  }
}

function threadsIn(words: readonly string[]): number | undefined {
  const at = words.findIndex((word) => word === '--threads' || word.startsWith('--threads='));
  if (at < 0) return undefined;
  const count = Number(words[at]!.split('=')[1] ?? words[at + 1]);
  return Number.isInteger(count) && count > 0 ? count : undefined;
}
