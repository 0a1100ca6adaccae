/** The word that was meant. Loads nothing, so that the command line can have it before the library. */

/** The nearest of `words`, or undefined if none is near: at most a third of the letters differ, swaps counting one. */
export function nearest(typed: string, words: readonly string[]): string | undefined {
  let best: string | undefined;
  let bestDistance = Number.POSITIVE_INFINITY;
  for (const word of words) {
    const distance = editDistance(typed.toLowerCase(), word.toLowerCase());
    if (distance < bestDistance) [best, bestDistance] = [word, distance];
  }
  if (best !== undefined && bestDistance <= Math.max(1, Math.floor(bare(best).length / 3))) return best;
  return words.find((word) => bare(typed).length >= 3 && word.startsWith(typed));
}

/** A hint for a word that is none of `words`. */
export function suggestWord(typed: string, words: readonly string[]): string {
  const meant = nearest(typed, words);
  const all = `one of ${words.join(', ')}`;
  return meant === undefined ? all : `did you mean ${meant}? (${all})`;
}

function bare(word: string): string {
  return word.replace(/^-+/, '');
}

/** Optimal string alignment: insertions, deletions, replacements and swaps of neighbours. */
export function editDistance(a: string, b: string): number {
  const rows = Array.from({ length: a.length + 1 }, (_, i) => {
    const row = new Array<number>(b.length + 1).fill(0);
    row[0] = i;
    return row;
  });
  for (let j = 0; j <= b.length; j++) rows[0]![j] = j;
  for (let i = 1; i <= a.length; i++) {
    for (let j = 1; j <= b.length; j++) {
      const replaced = rows[i - 1]![j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      let least = Math.min(rows[i - 1]![j]! + 1, rows[i]![j - 1]! + 1, replaced);
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) least = Math.min(least, rows[i - 2]![j - 2]! + 1);
      rows[i]![j] = least;
    }
  }
  return rows[a.length]![b.length]!;
}
