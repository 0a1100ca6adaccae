/** The line that shows how far a save, load or verify is. */
import type { Progress } from '../../lib/index.js';
import { formatBytes, formatClock } from './units.js';

/** At most `columns - 1` characters: a full last column makes some terminals wrap. */
export function progressLine(progress: Progress, columns: number): string {
  const { phase, doneBytes, totalBytes, elapsedSeconds } = progress;
  const rate = elapsedSeconds > 0 ? doneBytes / elapsedSeconds : 0;
  const parts: string[] = [phase];
  if (totalBytes === undefined) {
    parts.push(formatBytes(doneBytes), `${formatBytes(rate)}/s`, formatClock(elapsedSeconds));
  } else {
    const share = totalBytes === 0 ? 1 : Math.min(1, doneBytes / totalBytes);
    parts.push(`${String(Math.floor(share * 100)).padStart(3)} %`);
    parts.push(`${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`, `${formatBytes(rate)}/s`);
    if (rate > 0) parts.push(`ETA ${formatClock((totalBytes - doneBytes) / rate)}`);
  }
  return parts.join('  ').slice(0, Math.max(0, columns - 1));
}
