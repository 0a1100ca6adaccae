/** Decompression on a worker thread of our own: gzip and zstd. */
import { closeSync } from 'node:fs';
import { abort, createControl } from '../pipeline/control.js';
import { runJobs } from '../pipeline/workerPool.js';
import type { StartUnwrapping } from './unwrapping.js';

export function onThread(kind: 'gunzip' | 'unzstd'): StartUnwrapping {
  return (inputPath, inputFd, outputFd) => {
    // Not that of the savers, who may not have begun when the first bytes are wanted.
    const control = createControl(1);
    const done = runJobs([{ kind, control, inputFd, inputPath, outputFd }], control);
    return { done: done.then(() => {}).finally(() => closeSync(inputFd)), stop: () => abort(control) };
  };
}
