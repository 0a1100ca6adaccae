/**
 * The one error class of vmsnap, at the bottom of the tree because every layer throws it.
 *
 * Codes and exit codes are stable: scripts depend on them. New codes may be added; a caller treats an unknown code as a
 * failure. docs/scripting.md lists them all, and a test keeps the two the same.
 */
import { getSystemErrorName } from 'node:util';

export const EXIT_CODES = {
  FAILED: 1,
  USAGE: 2,
  WARNINGS: 3,
  NOT_FOUND: 10,
  LOCKED: 11,
  KEY: 12,
  NO_SPACE: 13,
  CORRUPT: 14,
  UNSUPPORTED: 15,
  BASE_MISMATCH: 16,
  SOURCE_CHANGED: 17,
  ENGINE: 18,
  PERMISSION: 19,
  IO: 20,
  EXISTS: 21,
  GUEST: 22,
  TIMEOUT: 124,
  SIGHUP: 129,
  SIGINT: 130,
  SIGTERM: 143,
} as const;

export type ErrorCode = keyof typeof EXIT_CODES;

export interface ErrorContext {
  /** The file concerned, as the user named it. */
  readonly path?: string | undefined;
  /** Byte offset in that file. */
  readonly offset?: number | undefined;
  /** What to do next, a whole sentence without the final stop. */
  readonly hint?: string | undefined;
  readonly cause?: unknown;
}

/** What every function of vmsnap throws: `code` for programs, `message` and `hint` for people. */
export class VmsnapError extends Error {
  override readonly name = 'VmsnapError';
  readonly code: ErrorCode;
  readonly path: string | undefined;
  readonly offset: number | undefined;
  readonly hint: string | undefined;

  constructor(code: ErrorCode, message: string, context: ErrorContext = {}) {
    super(message, context.cause === undefined ? undefined : { cause: context.cause });
    this.code = code;
    this.path = context.path;
    this.offset = context.offset;
    this.hint = context.hint;
  }

  get exitCode(): number {
    return EXIT_CODES[this.code];
  }

  /** A plain object that survives postMessage; {@link reviveError} is the way back. */
  toPlain(): PlainError {
    return { code: this.code, message: this.message, path: this.path, offset: this.offset, hint: this.hint };
  }
}

export interface PlainError {
  readonly code: ErrorCode;
  readonly message: string;
  readonly path: string | undefined;
  readonly offset: number | undefined;
  readonly hint: string | undefined;
}

export function reviveError(plain: PlainError): VmsnapError {
  return new VmsnapError(plain.code, plain.message, plain);
}

const CODE_BY_ERRNO: Readonly<Record<string, ErrorCode>> = {
  ENOENT: 'NOT_FOUND',
  ENOTDIR: 'NOT_FOUND',
  ENXIO: 'NOT_FOUND',
  ENODEV: 'NOT_FOUND',
  EACCES: 'PERMISSION',
  EPERM: 'PERMISSION',
  EROFS: 'PERMISSION',
  ENOSPC: 'NO_SPACE',
  EDQUOT: 'NO_SPACE',
  EEXIST: 'EXISTS',
};

const HINT_BY_ERRNO: Readonly<Record<string, string>> = {
  ENOSPC: 'free some space, or choose another file system',
  EDQUOT: 'the disk quota is used up: free some space, or choose another file system',
  EACCES: 'check the permissions of the file and of the folders above it, or run as a user who may',
  EPERM: 'run as a user who may do this',
  EROFS: 'the file system is mounted read-only: choose another',
  EMFILE: 'raise the limit of open files (ulimit -n)',
  EFBIG: 'the file system or the file size limit (ulimit -f) allows no larger file',
};

/** An error for a failed system call: `doing` is what was tried, as "write" or "open the source". */
export function errnoError(errno: number, doing: string, path: string, offset?: number): VmsnapError {
  const name = errno < 0 ? getSystemErrorName(errno) : 'UNKNOWN';
  return systemError(name, doing, path, offset);
}

/** The same for an error that node:fs threw. Errors that are already ours, and non-system errors, pass through. */
export function wrapSystemError(error: unknown, doing: string, path: string, offset?: number): unknown {
  if (error instanceof VmsnapError) return error;
  const code = (error as NodeJS.ErrnoException | null)?.code;
  if (typeof code !== 'string' || !/^E[A-Z0-9]+$/.test(code)) return error;
  return systemError(code, doing, path, offset, error);
}

/** The same for an error that nobody had a better word for: it is told by the call that failed. */
export function wrapPlainSystemError(error: unknown): unknown {
  const { syscall, path } = (error ?? {}) as NodeJS.ErrnoException;
  if (!(error instanceof Error) || typeof syscall !== 'string') return error;
  return wrapSystemError(error, `${syscall}`, path ?? 'a file');
}

function systemError(name: string, doing: string, path: string, offset?: number, cause?: unknown): VmsnapError {
  const where = offset === undefined ? '' : ` at offset ${offset}`;
  return new VmsnapError(CODE_BY_ERRNO[name] ?? 'IO', `cannot ${doing} ${path}${where}: ${describeErrno(name)}`, {
    path,
    offset,
    hint: HINT_BY_ERRNO[name],
    cause,
  });
}

const WORDS_BY_ERRNO: Readonly<Record<string, string>> = {
  ENOENT: 'no such file or directory',
  ENOTDIR: 'a part of the path is no directory',
  EACCES: 'permission denied',
  EPERM: 'not permitted',
  EROFS: 'read-only file system',
  ENOSPC: 'no space left on device',
  EDQUOT: 'disk quota exceeded',
  EIO: 'input/output error',
  EISDIR: 'it is a directory',
  EEXIST: 'it exists already',
  EPIPE: 'the reader is gone',
  ECONNRESET: 'the other end closed the connection',
  ESTALE: 'the server of the file has it no more',
  EINTR: 'interrupted',
  EAGAIN: 'it is not ready',
  EMFILE: 'too many open files',
  ENFILE: 'too many open files in the whole system',
  ENOMEM: 'out of memory',
  EFBIG: 'file too large',
  ENXIO: 'no such device',
  ELOOP: 'it is a symbolic link, or there are too many',
  ENAMETOOLONG: 'the name is too long',
  ETXTBSY: 'it is in use',
  EBUSY: 'it is in use',
};

function describeErrno(name: string): string {
  const words = WORDS_BY_ERRNO[name];
  return words === undefined ? name : `${words} (${name})`;
}

/** Runs `action` and turns the system errors it throws into ours. */
export function withSystemErrors<T>(doing: string, path: string, action: () => T, offset?: number): T {
  try {
    return action();
  } catch (error) {
    throw wrapSystemError(error, doing, path, offset);
  }
}
