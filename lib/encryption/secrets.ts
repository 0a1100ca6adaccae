/**
 * Where secrets come from: files, a command, a systemd credential. The one place that reads them. What they hold stands in no
 * message, and none comes from the command line, which every user of the machine can read.
 */
import { spawn } from 'node:child_process';
import { closeSync, constants, openSync, readSync } from 'node:fs';
import { join } from 'node:path';
import { VmsnapError, withSystemErrors } from '../../native/errors.js';
import { openFileStats } from '../../native/fileStats.js';
import type { EncryptionOptions, KeySources, SecretSources, Warning } from '../types.js';

const SECRET_MAX_BYTES = 1024 * 1024;
const OTHERS_MAY_READ = 0o044;
const IDENTITY = /^AGE-SECRET-KEY-/;
const RECIPIENT = /^age1/;

/** What opens an image. */
export interface Secrets {
  readonly identities: readonly string[];
  readonly passphrases: readonly string[];
}

/** What an image is to be sealed for. */
export interface Recipients {
  readonly recipients: readonly string[];
  /** Whose public part is a recipient. */
  readonly identities: readonly string[];
  readonly passphrases: readonly string[];
}

const known = new WeakMap<KeySources, Promise<Secrets>>();

/** Reads them once, unless that fails: a command may ask a person, who may try again. */
export function readSecrets(sources: KeySources, signal: AbortSignal | undefined): Promise<Secrets> {
  let secrets = known.get(sources);
  if (secrets === undefined) {
    secrets = collectSecrets(sources, signal);
    known.set(sources, secrets);
    secrets.catch(() => known.delete(sources));
  }
  return secrets;
}

async function collectSecrets(sources: KeySources, signal: AbortSignal | undefined): Promise<Secrets> {
  const identities = [...(sources.identities ?? [])];
  for (const file of sources.identityFiles ?? []) identities.push(...identitiesIn(readSecretFile(file, sources), file));
  const passphrases = await readPassphrases(sources, signal);
  const credential = readCredential(sources);
  if (credential !== undefined) {
    const keys = keysIn(credential, `the credential ${sources.credential}`);
    if (keys === undefined) passphrases.push(passphraseIn(credential, `the credential ${sources.credential}`));
    else identities.push(...keys.filter((line) => IDENTITY.test(line)));
  }
  return { identities, passphrases };
}

export async function readRecipients(options: EncryptionOptions, signal: AbortSignal | undefined): Promise<Recipients> {
  const recipients = (options.recipients ?? []).map((text, i) => requireRecipient(text, `recipient ${i + 1}`));
  for (const file of options.recipientsFiles ?? []) {
    const lines = linesOf(readText(file));
    if (lines.length === 0) throw keyError(`there is no recipient in ${file}`, file);
    for (const line of lines) recipients.push(requireRecipient(line, `a line of ${file}`));
  }
  const identities: string[] = [];
  const passphrases = await readPassphrases(options, signal);
  const credential = readCredential(options);
  if (credential !== undefined) {
    const keys = keysIn(credential, `the credential ${options.credential}`);
    if (keys === undefined) passphrases.push(passphraseIn(credential, `the credential ${options.credential}`));
    else for (const key of keys) (IDENTITY.test(key) ? identities : recipients).push(key);
  }
  return { recipients, identities, passphrases };
}

async function readPassphrases(sources: SecretSources, signal: AbortSignal | undefined): Promise<string[]> {
  const { passphrase, passphraseFile, passphraseCommand } = sources;
  const passphrases: string[] = [];
  if (passphrase !== undefined) passphrases.push(passphraseIn(passphrase, 'the passphrase'));
  if (passphraseFile !== undefined)
    passphrases.push(passphraseIn(readSecretFile(passphraseFile, sources), passphraseFile));
  if (passphraseCommand !== undefined)
    passphrases.push(passphraseIn(await runCommand(passphraseCommand, signal), 'the passphrase command'));
  return passphrases;
}

/** All of it but the end of its line. */
function passphraseIn(text: string, what: string): string {
  const passphrase = text.replace(/\r?\n$/, '');
  if (passphrase.length > 0) return passphrase;
  throw keyError(`${what} gives an empty passphrase`);
}

/** The keys of age in a credential, secret and public ones; undefined: it is a passphrase. */
function keysIn(text: string, what: string): string[] | undefined {
  const lines = linesOf(text);
  const isKey = (line: string) => IDENTITY.test(line) || RECIPIENT.test(line);
  if (!lines.some(isKey)) return undefined;
  if (lines.every(isKey)) return lines;
  throw keyError(`${what} holds keys of age and other lines, which are neither keys nor comments (#)`);
}

function identitiesIn(text: string, file: string): string[] {
  const lines = linesOf(text);
  if (lines.length > 0 && lines.every((line) => IDENTITY.test(line))) return lines;
  throw keyError(`${file} holds no age identities (AGE-SECRET-KEY-1..., one a line)`, file);
}

/** The text is not repeated: it may be a secret that was given in the wrong place. */
function requireRecipient(text: string, what: string): string {
  if (RECIPIENT.test(text)) return text;
  const hint = IDENTITY.test(text)
    ? 'that is a secret key, for --identity-file; "age-keygen -y FILE" tells its recipient. It was seen on the command line: replace it'
    : 'a recipient is a public key: "age-keygen" makes one';
  throw new VmsnapError('USAGE', `${what} is no age recipient (age1...)`, { hint });
}

function linesOf(text: string): string[] {
  return text
    .split('\n')
    .map((line) => line.trim())
    .filter((line) => line !== '' && !line.startsWith('#'));
}

function readText(file: string, check?: (mode: number) => void): string {
  const fd = withSystemErrors('open', file, () => openSync(file, constants.O_RDONLY));
  try {
    check?.(openFileStats({ fd, path: file }).mode);
    const bytes = Buffer.alloc(SECRET_MAX_BYTES + 1);
    let length = 0;
    for (let got = -1; got !== 0 && length < bytes.length; length += got)
      got = withSystemErrors('read', file, () => readSync(fd, bytes, length, bytes.length - length, null));
    if (length <= SECRET_MAX_BYTES) return bytes.toString('utf8', 0, length);
    throw keyError(`${file} has more than ${SECRET_MAX_BYTES} bytes`, file);
  } finally {
    closeSync(fd);
  }
}

function readSecretFile(file: string, { onWarning }: SecretSources): string {
  return readText(file, (mode) => {
    if ((mode & OTHERS_MAY_READ) === 0) return;
    onWarning?.(readableByOthers(file));
  });
}

function readableByOthers(file: string): Warning {
  return { code: 'key-readable', message: `${file} holds a secret, and others may read it: chmod 600` };
}

/** The name of a file in the folder of credentials. */
export function isCredentialName(name: string): boolean {
  return name !== '' && !name.includes('/') && !name.startsWith('.');
}

function readCredential({ credential }: SecretSources): string | undefined {
  if (credential === undefined) return undefined;
  if (!isCredentialName(credential))
    throw new VmsnapError('USAGE', `${JSON.stringify(credential)} is not the name of a credential`);
  const folder = process.env.CREDENTIALS_DIRECTORY;
  if (folder !== undefined && folder !== '') return readText(join(folder, credential));
  throw keyError(
    `the credential ${credential} is not there: CREDENTIALS_DIRECTORY is not set`,
    undefined,
    'systemd sets it for a unit with LoadCredential= (docs/backup.md)',
  );
}

/** What it writes to standard error is for people; standard input may be an image, and is not its own. */
function runCommand(command: string, signal: AbortSignal | undefined): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn('/bin/sh', ['-c', command], { stdio: ['ignore', 'pipe', 'inherit'], signal });
    const parts: Buffer[] = [];
    let length = 0;
    child.stdout.on('data', (part: Buffer) => {
      length += part.length;
      if (length <= SECRET_MAX_BYTES) parts.push(part);
      else child.kill();
    });
    // A part of a passphrase is another one, which nobody knows.
    child.stdout.on('error', ({ message }) => reject(keyError(commandFault(`cannot be heard: ${message}`))));
    child.on('error', (error) => reject(signal?.aborted ? signal.reason : keyError(commandFault(error.message))));
    child.on('close', (code, killedBy) => {
      if (code === 0 && length <= SECRET_MAX_BYTES) resolve(Buffer.concat(parts).toString());
      else reject(keyError(commandFault(code === null ? `was ended by ${killedBy}` : `ended with ${code}`)));
    });
  });
}

function commandFault(fault: string): string {
  return `the passphrase command ${fault}`;
}

function keyError(message: string, path?: string, hint?: string): VmsnapError {
  return new VmsnapError('KEY', message, { path, hint });
}
