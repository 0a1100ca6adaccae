/** What failures must look like. */
import type { ExecutionContext } from 'ava';
import { type ErrorCode, VmsnapError } from '../../../lib/index.js';

/** The promise rejects with this code; its message matches. */
export async function failsWith(
  t: ExecutionContext,
  code: ErrorCode,
  promise: Promise<unknown>,
  message?: RegExp,
): Promise<VmsnapError> {
  const error = await t.throwsAsync(promise, { instanceOf: VmsnapError });
  t.is(error.code, code, error.message);
  if (message !== undefined) t.regex(error.message, message);
  return error;
}

/** Compared without ava's deepEqual, which is not made for megabytes. */
export function sameBytes(t: ExecutionContext, actual: Buffer, expected: Buffer, what = 'the memory'): void {
  t.is(actual.length, expected.length, `${what}: length`);
  if (actual.equals(expected)) {
    t.pass();
    return;
  }
  const at = actual.findIndex((byte, i) => byte !== expected[i]);
  t.fail(`${what} differs from offset ${at} on: ${actual[at]} instead of ${expected[at]}`);
}
