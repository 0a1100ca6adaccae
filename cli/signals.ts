/**
 * SIGINT, SIGTERM and SIGHUP (the terminal is gone) stop the work in good order; the second one ends the process at once.
 * What was paused or started for the work is let go of on the way.
 */

const EXIT_CODE_OF = { SIGHUP: 129, SIGINT: 130, SIGTERM: 143 } as const;
type StopSignal = keyof typeof EXIT_CODE_OF;

/** The reason with which the work is aborted, and so what its promise rejects with. */
export class StoppedError extends Error {
  override readonly name = 'StoppedError';
  readonly code: StopSignal;
  readonly exitCode: number;

  constructor(signal: StopSignal) {
    super(`stopped by ${signal}`);
    this.code = signal;
    this.exitCode = EXIT_CODE_OF[signal];
  }
}

export interface SignalListener {
  readonly signal: AbortSignal;
  /** Gives the signals back to the system. */
  stop(): void;
}

export function listenForSignals(): SignalListener {
  const controller = new AbortController();
  const listener = (signal: NodeJS.Signals): void => {
    if (controller.signal.aborted) process.exit(EXIT_CODE_OF[signal as StopSignal]);
    controller.abort(new StoppedError(signal as StopSignal));
  };
  const signals = Object.keys(EXIT_CODE_OF) as StopSignal[];
  for (const signal of signals) process.on(signal, listener);
  return {
    signal: controller.signal,
    stop: () => {
      for (const signal of signals) process.off(signal, listener);
    },
  };
}
