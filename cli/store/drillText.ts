/** What a restore drill proved. */
import type { RestoreDrillResult } from '../../lib/index.js';
import { warningsJson } from '../commands/commonOptions.js';
import { formatBytes, formatDuration } from '../output/units.js';

export function drillLine({ image, memoryBytes, imageBytes, bases, run }: RestoreDrillResult): string {
  const below = bases.length === 0 ? '' : ` with ${bases.length === 1 ? 'its base' : `${bases.length} bases`}`;
  const rate = run.durationSeconds > 0 ? `, ${formatBytes(memoryBytes / run.durationSeconds)}/s` : '';
  return (
    `${image}: can be brought back${below} (${formatBytes(memoryBytes)} of memory, digest right, from ` +
    `${formatBytes(imageBytes)}, ${formatDuration(run.durationSeconds)}${rate})`
  );
}

export function drillJson(result: RestoreDrillResult): object {
  const { image, memoryBytes, dataBytes, imageBytes, bases, digest, proven, run } = result;
  return {
    schema: 'vmsnap.restore-drill',
    schemaVersion: 1,
    image,
    memoryBytes,
    dataBytes,
    imageBytes,
    bases: [...bases],
    digest,
    proven,
    run: { threads: run.threads, durationSeconds: run.durationSeconds },
    warnings: warningsJson(result.warnings),
  };
}
