/** One shape for everything that can go wrong: a VmsnapError, a UsageError, a signal, or a fault in this program. */

export interface Failure {
  readonly code: string;
  readonly exitCode: number;
  readonly message: string;
  readonly path: string | undefined;
  readonly offset: number | undefined;
  readonly hint: string | undefined;
}

const EXIT_IO = 20;

/** VmsnapError and the errors of the command line have all of these; recognised by shape, so neither must be loaded. */
type OurError = Error & { code: string; exitCode: number; path?: string; offset?: number; hint?: string };

export function describeFailure(error: unknown): Failure {
  if (isOurs(error)) {
    const { code, exitCode, message, path, offset, hint } = error;
    return { code, exitCode, message, path, offset, hint };
  }
  if (isOfSystem(error)) {
    const message = `cannot ${error.syscall}${error.path === undefined ? '' : ` ${error.path}`}: ${error.code}`;
    return { code: 'IO', exitCode: EXIT_IO, message, path: error.path, offset: undefined, hint: undefined };
  }
  const text = error instanceof Error ? (error.stack ?? error.message) : String(error);
  return {
    code: 'FAILED',
    exitCode: 1,
    message: `unexpected: ${text}`,
    path: undefined,
    offset: undefined,
    hint: 'this is a fault in vmsnap: please report it with the lines above',
  };
}

function isOurs(error: unknown): error is OurError {
  if (!(error instanceof Error)) return false;
  const { code, exitCode } = error as Partial<OurError>;
  return typeof code === 'string' && typeof exitCode === 'number';
}

/** A system call that failed where nobody had a better word for it: no fault of this program. */
function isOfSystem(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && typeof (error as NodeJS.ErrnoException).syscall === 'string';
}

export function failureJson(failure: Failure): object {
  const { code, exitCode, message, path, offset, hint } = failure;
  return {
    schema: 'vmsnap.error',
    schemaVersion: 1,
    error: { code, exitCode, message, path: path ?? null, offset: offset ?? null, hint: hint ?? null },
  };
}
