/** Columns of text, aligned: the first to the left, the others as asked. */

export type Align = 'left' | 'right';

export function formatTable(rows: readonly (readonly string[])[], aligns: readonly Align[]): string[] {
  const widths = aligns.map((_, column) => Math.max(0, ...rows.map((row) => row[column]?.length ?? 0)));
  return rows.map((row) => formatRow(row, widths, aligns));
}

/** One row of fixed widths, for listings that stream; a wider cell pushes the rest to the right. */
export function formatRow(row: readonly string[], widths: readonly number[], aligns: readonly Align[]): string {
  const cells = row.map((cell, i) => (aligns[i] === 'right' ? cell.padStart(widths[i]!) : cell.padEnd(widths[i]!)));
  return cells.join('  ').trimEnd();
}
