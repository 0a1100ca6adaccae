/** Calls a progress callback at intervals from the counters of the workers. */
import { type SharedControl, STAT_DONE_BYTES, STAT_IMAGE_BYTES, sumStat } from './pipeline/control.js';
import type { CommonOptions, Progress } from './types.js';

const DEFAULT_INTERVAL_SECONDS = 0.2;

/** @returns a function that ends the reports, with one last call. */
export function reportProgress(
  phase: Progress['phase'],
  control: SharedControl,
  totalBytes: number | undefined,
  options: CommonOptions,
): () => void {
  const { onProgress } = options;
  if (onProgress === undefined) return () => {};
  const started = performance.now();
  const report = () =>
    onProgress({
      phase,
      doneBytes: sumStat(control, phase === 'verify' ? STAT_IMAGE_BYTES : STAT_DONE_BYTES),
      totalBytes,
      imageBytes: sumStat(control, STAT_IMAGE_BYTES),
      elapsedSeconds: (performance.now() - started) / 1000,
    });
  const timer = setInterval(report, (options.progressIntervalSeconds ?? DEFAULT_INTERVAL_SECONDS) * 1000);
  return () => {
    clearInterval(timer);
    report();
  };
}
