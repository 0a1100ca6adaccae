/** What `load --salvage` says: as lines that fit a screen, as JSON, and as exit code. */
import type { SalvageResult } from '../../lib/index.js';
import { limitLines, limitsJson } from '../commands/commonOptions.js';
import { printable } from '../output/printable.js';
import { formatAddress, formatBytes, formatCount, formatDuration, formatShare } from '../output/units.js';

const EXIT_WARNINGS = 3;
const EXIT_CORRUPT = 14;
/** The lost ranges that are printed, the largest of all; `--json` has every one. */
const RANGES_SHOWN = 15;

/** 0 only if nothing is lost and nothing is wrong with the image. */
export function salvageExitCode({ lost, warnings }: SalvageResult): number {
  if (lost.length > 0 || warnings.some(({ code }) => code === 'digest-wrong' || code === 'size-unknown'))
    return EXIT_CORRUPT;
  return warnings.length > 0 ? EXIT_WARNINGS : 0;
}

export function salvageLines(result: SalvageResult): string[] {
  const { image, target, way, memoryBytes, wholeBytes, lostBytes, lost, regions, run } = result;
  const how = way === 'index' ? 'by its index' : 'by walking its records';
  const head = `${target}: ${formatBytes(wholeBytes)} of ${formatBytes(memoryBytes)} of memory brought back from ${image} ${how}, ${formatDuration(run.durationSeconds)}`;
  if (lost.length === 0) {
    const proven = regions.every((region) => region.proven);
    return [
      head,
      proven ? 'nothing is lost, and the digest of the memory is right' : 'no page is lost',
      ...limitLines(run),
    ];
  }
  const shown = new Set([...lost].sort((a, b) => b.length - a.length).slice(0, RANGES_SHOWN));
  const rest = lost.filter((range) => !shown.has(range));
  const restBytes = rest.reduce((sum, { length }) => sum + length, 0);
  const count = lost.length === 1 ? '1 range' : `${formatCount(lost.length)} ranges`;
  return [
    head,
    `LOST: ${formatBytes(lostBytes)} (${formatShare(lostBytes, memoryBytes)}) in ${count}, holes in ${target}:`,
    ...lost
      .filter((range) => shown.has(range))
      .map(
        ({ region, offset, length }) =>
          `  region ${printable(region)}: ${formatBytes(length)} at ${formatAddress(offset)}`,
      ),
    ...(rest.length > 0
      ? [`  and ${formatBytes(restBytes)} in ${formatCount(rest.length)} smaller ranges (--json)`]
      : []),
    ...limitLines(run),
  ];
}

export function salvageJson(result: SalvageResult): object {
  return {
    schema: 'vmsnap.salvage',
    schemaVersion: 1,
    image: result.image,
    target: result.target,
    way: result.way,
    memoryBytes: result.memoryBytes,
    wholeBytes: result.wholeBytes,
    lostBytes: result.lostBytes,
    lost: result.lost.map(({ region, offset, length }) => ({ region, offset, length })),
    regions: result.regions.map(({ name, sizeBytes, lostBytes, proven }) => ({ name, sizeBytes, lostBytes, proven })),
    dataBytes: result.dataBytes,
    absentPages: result.absentPages,
    imageBytes: result.imageBytes,
    bases: [...result.bases],
    digest: result.digest ?? null,
    run: { threads: result.run.threads, ...limitsJson(result.run), durationSeconds: result.run.durationSeconds },
    warnings: result.warnings.map(({ code, message }) => ({ code, message })),
  };
}
