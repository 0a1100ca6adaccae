/** Ties an AbortSignal to the abort word that worker threads look at. */
import { VmsnapError, wrapPlainSystemError } from '../native/errors.js';
import { abort, type SharedControl } from './pipeline/control.js';
import { Aborted } from './pipeline/mutex.js';

/** @returns a function that unties them. */
export function linkSignal(signal: AbortSignal | undefined, control: SharedControl): () => void {
  if (signal === undefined) return () => {};
  const onAbort = () => abort(control);
  if (signal.aborted) onAbort();
  signal.addEventListener('abort', onAbort, { once: true });
  return () => signal.removeEventListener('abort', onAbort);
}

/** What to throw for `error`: an abort becomes the signal's reason, as in the platform's own functions, a system's error one of ours. */
export function abortReason(error: unknown, signal: AbortSignal | undefined): unknown {
  if (!(error instanceof Aborted)) return wrapPlainSystemError(error);
  return signal?.aborted ? signal.reason : new VmsnapError('FAILED', 'the work was stopped');
}
