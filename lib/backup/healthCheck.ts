/**
 * Tells a monitor (healthchecks.io, or what speaks as it does) that a job begins, and how it ended: URL/start, URL, URL/CODE.
 *
 * A monitor that does not answer never fails a job. The address is a secret: whoever has it can say that all is well. It stands in no
 * message, and answers are not read.
 */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { VmsnapError, withSystemErrors } from '../../native/errors.js';
import type { HealthCheck } from './config/backupConfig.js';

const RETRY_SECONDS = 1;
const BODY_MAX_LENGTH = 10_000;

export type PingKind = { readonly kind: 'start' } | { readonly kind: 'end'; readonly exitCode: number };

/**
 * @param body a short summary, for people.
 * @returns why the monitor could not be told, or undefined. @throws the signal's reason.
 */
export async function ping(
  check: HealthCheck,
  job: string,
  what: PingKind,
  body: string,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  let url: string;
  try {
    url = pingUrl(readUrl(check.url, job), what);
  } catch (error) {
    if (error instanceof VmsnapError) return error.message;
    throw error;
  }
  let fault: string | undefined;
  for (let attempt = 0; attempt <= check.retries; attempt++) {
    if (attempt > 0) await delay(RETRY_SECONDS * 1000, undefined, signal && { signal }).catch(() => undefined);
    signal?.throwIfAborted();
    fault = await tryPing(url, body, check.timeoutSeconds, signal);
    if (fault === undefined || fault.startsWith('it refused')) break;
  }
  return fault;
}

async function tryPing(
  url: string,
  body: string,
  timeoutSeconds: number,
  signal: AbortSignal | undefined,
): Promise<string | undefined> {
  const timeout = AbortSignal.timeout(timeoutSeconds * 1000);
  try {
    const response = await fetch(url, {
      method: 'POST',
      body: body.slice(0, BODY_MAX_LENGTH),
      headers: { 'content-type': 'text/plain; charset=utf-8', 'user-agent': 'vmsnap' },
      signal: signal === undefined ? timeout : AbortSignal.any([signal, timeout]),
    });
    await response.body?.cancel();
    if (response.ok) return undefined;
    // A wrong address stays wrong, a server in trouble may recover.
    return response.status < 500 && response.status !== 429
      ? `it refused the message (HTTP ${response.status})`
      : `it answered with HTTP ${response.status}`;
  } catch (error) {
    signal?.throwIfAborted();
    return timeout.aborted ? `no answer within ${timeoutSeconds} s` : `cannot be reached${causeText(error)}`;
  }
}

/** The system's word only: the message of a failed fetch may have the address in it. */
function causeText(error: unknown): string {
  const { code } = ((error as Error).cause ?? {}) as { code?: unknown };
  return typeof code === 'string' && /^[A-Z0-9_]+$/.test(code) ? ` (${code})` : '';
}

function readUrl(url: HealthCheck['url'], job: string): URL {
  const text = url.kind === 'text' ? url.text : readSecret(url.kind === 'file' ? url.file : credentialPath(url.name));
  const filled = text.trim().replaceAll('{job}', encodeURIComponent(job));
  const parsed = URL.canParse(filled) ? new URL(filled) : undefined;
  if (parsed !== undefined && /^https?:$/.test(parsed.protocol) && parsed.username === '') return parsed;
  throw new VmsnapError('USAGE', 'its address is no plain URL with http:// or https://');
}

function readSecret(file: string): string {
  return withSystemErrors('read the address of the health check from', file, () => readFileSync(file, 'utf8'));
}

/** systemd.exec(5), LoadCredential=. */
function credentialPath(name: string): string {
  const folder = process.env.CREDENTIALS_DIRECTORY;
  if (folder !== undefined && folder !== '') return join(folder, name);
  throw new VmsnapError('NOT_FOUND', `there is no credential ${name}: CREDENTIALS_DIRECTORY is not set`);
}

function pingUrl(url: URL, what: PingKind): string {
  const suffix = what.kind === 'start' ? '/start' : what.exitCode === 0 ? '' : `/${what.exitCode}`;
  url.pathname = url.pathname.replace(/\/+$/, '') + suffix;
  return url.href;
}
