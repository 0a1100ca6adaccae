/** The keys of a job, which [defaults] has as well: read from one table, all of them optional. */
import { resolve } from 'node:path';
import {
  CHUNK_MAX_BYTES,
  CHUNK_MIN_BYTES,
  isPowerOfTwo,
  SEGMENT_MAX_BYTES,
  SEGMENT_MIN_BYTES,
} from '../../../formats/vmsnap/layout.js';
import { isCredentialName } from '../../encryption/secrets.js';
import { WRITE_RATE_MIN } from '../../limits.js';
import { CODECS, DETECTORS, FORMATS, LAYOUTS } from '../../optionWords.js';
import type { CodecName, DetectorName, LayoutName, MachineOptions, SourceOptions } from '../../types.js';
import type { BackupHooks, BackupJob, BackupSource, HealthCheck, JobEncryption } from './backupConfig.js';
import type { ConfigTable } from './configTable.js';
import { templateFault } from './nameTemplate.js';

const FULL_EVERY_MAX = 32;
const COUNT_MAX = 100_000;
const HOOK_SECONDS = 600;
const PING_SECONDS = 10;
const PING_SECONDS_MAX = 60;
const PING_RETRIES = 3;
const MACHINE_NAME_MAX_LENGTH = 200;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;
/** `qemu:SOCKET`, `libvirt:DOMAIN`: no files. */
const LIVE_SOURCE = /^(qemu|libvirt):./;

/** Of a source that is a running machine. */
const MACHINE_KEYS = ['live', 'while-paused', 'max-pause', 'quiesce', 'agent'];

/** Keys that name one machine, and so make no sense for all. */
const OF_ONE_JOB: Readonly<Record<string, string>> = Object.fromEntries(
  ['source', 'command', 'command-timeout', 'regions', 'vmstate', 'diff-base', 'vm', 'uuid', ...MACHINE_KEYS].map(
    (key) => [key, 'it belongs into the table of a job'],
  ),
);

/** Settings of a save that belong to one source. */
type SourceSettings = Pick<BackupJob['save'], 'regions' | 'vmstate' | 'diffBase' | 'machine'>;

export interface JobSettings extends Partial<Omit<BackupJob, 'name' | 'source' | 'machine' | 'save'>> {
  readonly save: Partial<Omit<BackupJob['save'], 'attachments' | keyof SourceSettings>> & {
    readonly attach: ReadonlyMap<string, string> | undefined;
  };
}

export interface OwnSettings {
  readonly source: BackupSource;
  readonly sourceSettings: SourceSettings;
  readonly vm: string | undefined;
  readonly uuid: string | undefined;
}

/** [defaults]. */
export function readDefaults(table: ConfigTable, home: string): JobSettings {
  const settings = readSettings(table, home);
  table.refuseOthers(OF_ONE_JOB);
  return settings;
}

/** [jobs.NAME]. */
export function readJob(table: ConfigTable, home: string): { own: OwnSettings; settings: JobSettings } {
  const sourceSettings = readSourceSettings(table, home);
  const source = readSource(table, home, sourceSettings.regions);
  const [vm, uuid] = [readMachineName(table), readUuid(table)];
  const settings = readSettings(table, home);
  // Before what is missing: it may be there, misspelt.
  table.refuseOthers();
  if (source === undefined) {
    throw table.wrong(undefined, 'has no source', 'source = "/path/of/the/memory", or command = ["program", ...]');
  }
  if (sourceSettings.machine?.live === true && (settings.fullEvery ?? 1) > 1) {
    throw table.wrong('full-every', 'is for images that may be differences, and live ones are whole', 'leave one out');
  }
  return { own: { source, sourceSettings, vm, uuid }, settings };
}

function readSourceSettings(table: ConfigTable, home: string): SourceSettings {
  const regions = table.regions('regions')?.map((region) => ({
    ...region,
    ...(region.file === undefined ? {} : { file: resolve(home, region.file) }),
  }));
  return {
    regions,
    vmstate: readPath(table, 'vmstate', home),
    diffBase: readPath(table, 'diff-base', home),
    machine: readMachineOptions(table, home),
  };
}

/** Undefined if there is none. */
function readMachineOptions(table: ConfigTable, home: string): MachineOptions | undefined {
  const options = {
    live: table.boolean('live') || undefined,
    whilePaused: table.string('while-paused'),
    maxPauseSeconds: table.duration('max-pause'),
    quiesce: table.boolean('quiesce') || undefined,
    agent: readPath(table, 'agent', home),
  };
  const key = MACHINE_KEYS.find((name) => table.has(name));
  if (key !== undefined && !LIVE_SOURCE.test(table.string('source') ?? '')) {
    throw table.wrong(key, 'is for a running machine', 'source = "qemu:SOCKET" or "libvirt:DOMAIN"');
  }
  return Object.values(options).some((value) => value !== undefined) ? options : undefined;
}

function readPath(table: ConfigTable, key: string, home: string): string | undefined {
  const path = table.string(key);
  return path === undefined ? undefined : resolve(home, path);
}

function readSource(table: ConfigTable, home: string, regions: SourceSettings['regions']): BackupSource | undefined {
  const source = table.string('source');
  const command = table.command('command');
  const timeoutSeconds = table.duration('command-timeout');
  if (source !== undefined && command !== undefined) {
    throw table.wrong('command', 'and source exclude each other', 'leave one of them out');
  }
  if (command !== undefined) return { kind: 'command', command, timeoutSeconds };
  if (timeoutSeconds !== undefined) throw table.wrong('command-timeout', 'is for a command, and there is none');
  const isWhole = regions?.every(({ file }) => file !== undefined) ?? false;
  if (isWhole && source !== undefined)
    throw table.wrong('source', 'is given though each region names its file', 'leave one of them out');
  if (isWhole) return { kind: 'source', source: undefined };
  if (source === undefined) return undefined;
  if (source === '-') throw table.wrong('source', 'cannot be standard input', 'use command = ["program", ...]');
  return { kind: 'source', source: LIVE_SOURCE.test(source) ? source : resolve(home, source) };
}

function readMachineName(table: ConfigTable): string | undefined {
  const vm = table.string('vm');
  if (vm === undefined || vm.length <= MACHINE_NAME_MAX_LENGTH) return vm;
  throw table.wrong('vm', `is longer than ${MACHINE_NAME_MAX_LENGTH} characters`);
}

function readUuid(table: ConfigTable): string | undefined {
  const uuid = table.string('uuid');
  if (uuid === undefined || UUID.test(uuid)) return uuid?.toLowerCase();
  throw table.wrong('uuid', `cannot be ${JSON.stringify(uuid)}`, 'like "123e4567-e89b-12d3-a456-426614174000"');
}

function readSettings(table: ConfigTable, home: string): JobSettings {
  return {
    folder: readPath(table, 'folder', home),
    nameTemplate: readTemplate(table),
    save: readSave(table, home),
    encryption: readEncryption(table.table('encryption'), home),
    fullEvery: table.integer('full-every', 1, FULL_EVERY_MAX),
    retention: readRetention(table.table('keep')),
    verify: table.boolean('verify'),
    hooks: readHooks(table.table('hooks')),
    healthCheck: readHealthCheck(table.table('health-check'), home),
    metricsFile: readPath(table, 'metrics', home),
  } as JobSettings;
}

const SECRETS = ['credential', 'passphrase-file', 'passphrase-command'];
const RECIPIENTS = ['recipient', 'recipients-file'];

/** A credential may hold recipients or an identity; what it holds is known when the job runs. */
function requireOneWay(table: ConfigTable): void {
  const secrets = SECRETS.filter((key) => table.has(key));
  const recipients = RECIPIENTS.filter((key) => table.has(key));
  if (secrets.length + recipients.length === 0)
    throw table.wrong(undefined, 'names nobody who can read the images', 'as { credential = "vmsnap-key" }');
  const isPassphrase = secrets.some((key) => key !== 'credential');
  if (secrets.length < 2 && !(isPassphrase && recipients.length > 0)) return;
  const [first, second] = [...secrets, ...recipients];
  throw table.wrong(
    second,
    `and ${first} exclude each other`,
    'an image is encrypted for recipients, or with one passphrase',
  );
}

function readEncryption(table: ConfigTable | undefined, home: string): JobEncryption | undefined {
  if (table === undefined) return undefined;
  const recipient = table.string('recipient');
  const recipientsFile = readPath(table, 'recipients-file', home);
  const identityFile = readPath(table, 'identity-file', home);
  const secret = {
    passphraseFile: readPath(table, 'passphrase-file', home),
    passphraseCommand: table.string('passphrase-command'),
    credential: table.string('credential'),
  };
  table.refuseOthers();
  if (recipient !== undefined && !recipient.startsWith('age1'))
    throw table.wrong(
      'recipient',
      'must be a public key of age',
      'it begins with age1; a secret key has no place here',
    );
  const hasSecret = Object.values(secret).some((value) => value !== undefined);
  requireOneWay(table);
  if (secret.credential !== undefined && !isCredentialName(secret.credential))
    throw table.wrong('credential', 'must be the name of a credential', 'LoadCredential=NAME:FILE in the service');
  const encryption = {
    recipients: recipient === undefined ? [] : [recipient],
    recipientsFiles: recipientsFile === undefined ? [] : [recipientsFile],
    ...secret,
  };
  const keys = { identityFiles: identityFile === undefined ? [] : [identityFile], ...secret };
  return { encryption, keys: identityFile === undefined && !hasSecret ? undefined : keys };
}

function readTemplate(table: ConfigTable): string | undefined {
  const template = table.string('name');
  const fault = template === undefined ? undefined : templateFault(template);
  if (fault === undefined) return template;
  throw table.wrong('name', fault.message, fault.hint);
}

function readSave(table: ConfigTable, home: string): JobSettings['save'] {
  const codec = table.choice('codec', CODECS);
  const level = table.integer('level', -100, 22);
  const attach = table.texts('attach');
  return {
    codec,
    level,
    threads: table.integer('threads', 1, 1024),
    memoryLimitBytes: table.size('memory'),
    writeBytesPerSecond: readRate(table),
    detector: table.choice('detector', DETECTORS),
    layout: table.choice('layout', LAYOUTS),
    format: table.choice('format', FORMATS),
    segmentSize: readSize(table, 'segment-size', SEGMENT_MIN_BYTES, SEGMENT_MAX_BYTES),
    chunkSize: readSize(table, 'chunk-size', CHUNK_MIN_BYTES, CHUNK_MAX_BYTES),
    frozen: table.boolean('frozen'),
    labels: table.texts('labels'),
    attach: attach && new Map([...attach].map(([name, file]) => [name, resolve(home, file)])),
  } as JobSettings['save'];
}

function readRate(table: ConfigTable): number | undefined {
  const rate = table.size('rate');
  if (rate === undefined || rate >= WRITE_RATE_MIN) return rate;
  throw table.wrong('rate', `is ${rate} bytes a second`, 'at least "64K"');
}

function readSize(table: ConfigTable, key: string, min: number, max: number): number | undefined {
  const size = table.size(key);
  if (size === undefined || (isPowerOfTwo(size) && size >= min && size <= max)) return size;
  throw table.wrong(key, `is ${size} bytes`, `a power of two from ${min} to ${max}`);
}

function readRetention(keep: ConfigTable | undefined): BackupJob['retention'] {
  if (keep === undefined) return undefined;
  const count = (key: string) => keep.integer(key, 0, COUNT_MAX);
  const policy = {
    keepLast: count('last'),
    keepHourly: count('hourly'),
    keepDaily: count('daily'),
    keepWeekly: count('weekly'),
    keepMonthly: count('monthly'),
    keepYearly: count('yearly'),
    keepWithinSeconds: keep.duration('within'),
  };
  const timeZone = keep.string('time-zone');
  keep.refuseOthers();
  if (!Object.values(policy).some((value) => value !== undefined && value > 0)) {
    throw keep.wrong(undefined, 'keeps nothing', 'as { daily = 7, weekly = 4 }; without the table nothing is removed');
  }
  return { policy, timeZone };
}

function readHooks(hooks: ConfigTable | undefined): BackupHooks | undefined {
  if (hooks === undefined) return undefined;
  const read = {
    before: hooks.command('before'),
    'after-save': hooks.command('after-save'),
    after: hooks.command('after'),
    error: hooks.command('error'),
    timeoutSeconds: hooks.duration('timeout') ?? HOOK_SECONDS,
  };
  hooks.refuseOthers();
  return read;
}

function readHealthCheck(table: ConfigTable | undefined, home: string): HealthCheck | undefined {
  if (table === undefined) return undefined;
  const [text, file, name] = [table.string('url'), table.string('url-file'), table.string('url-credential')];
  const timeoutSeconds = table.duration('timeout') ?? PING_SECONDS;
  const retries = table.integer('retries', 0, 10) ?? PING_RETRIES;
  table.refuseOthers();
  if ([text, file, name].filter((value) => value !== undefined).length !== 1) {
    throw table.wrong(undefined, 'needs one of url, url-file and url-credential');
  }
  if (timeoutSeconds > PING_SECONDS_MAX) throw table.wrong('timeout', `must be at most ${PING_SECONDS_MAX} s`);
  if (text !== undefined) {
    // The address is a secret: it is not repeated.
    if (!/^https?:\/\/[^\s/]/.test(text)) throw table.wrong('url', 'must begin with http:// or https://');
    return { url: { kind: 'text', text }, timeoutSeconds, retries };
  }
  if (file !== undefined) return { url: { kind: 'file', file: resolve(home, file) }, timeoutSeconds, retries };
  if (!isCredentialName(name!)) throw table.wrong('url-credential', 'must be the name of a credential');
  return { url: { kind: 'credential', name: name! }, timeoutSeconds, retries };
}

const NO_HOOKS: BackupHooks = {
  before: undefined,
  'after-save': undefined,
  after: undefined,
  error: undefined,
  timeoutSeconds: HOOK_SECONDS,
};
const DEFAULT_TEMPLATE = '{vm}-{utc}.vmsnap';
const DEFAULT_FULL_EVERY = 7;

/** A job's own settings, the defaults where it has none, and what holds where neither says anything. */
export function completeJob(
  name: string,
  folder: string,
  own: OwnSettings,
  settings: JobSettings,
  defaults: JobSettings | undefined,
): BackupJob {
  const pick = <K extends keyof JobSettings>(key: K): JobSettings[K] | undefined => settings[key] ?? defaults?.[key];
  const encryption = pick('encryption');
  // What cannot be read here cannot be a base.
  const isSealedForOthers = encryption !== undefined && encryption.keys === undefined;
  // The engine has no live differences (docs/decisions.md).
  const isLive = own.sourceSettings.machine?.live === true;
  const save = <K extends keyof JobSettings['save']>(key: K) => settings.save[key] ?? defaults?.save[key];
  return {
    name,
    source: own.source,
    folder,
    nameTemplate: pick('nameTemplate') ?? DEFAULT_TEMPLATE,
    machine: { name: own.vm ?? name, uuid: own.uuid },
    save: {
      codec: save('codec') as CodecName | undefined,
      level: save('level') as number | undefined,
      threads: save('threads') as number | undefined,
      memoryLimitBytes: save('memoryLimitBytes') as number | undefined,
      writeBytesPerSecond: save('writeBytesPerSecond') as number | undefined,
      detector: save('detector') as DetectorName | undefined,
      layout: save('layout') as LayoutName | undefined,
      format: save('format') as SourceOptions['format'],
      segmentSize: save('segmentSize') as number | undefined,
      chunkSize: save('chunkSize') as number | undefined,
      ...own.sourceSettings,
      frozen: (save('frozen') as boolean | undefined) ?? false,
      labels: new Map([...(defaults?.save.labels ?? []), ...(settings.save.labels ?? [])]),
      attachments: [...new Map([...(defaults?.save.attach ?? []), ...(settings.save.attach ?? [])])].map(
        ([attached, file]) => ({ name: attached, file }),
      ),
    },
    encryption,
    fullEvery: isSealedForOthers || isLive ? 1 : (pick('fullEvery') ?? DEFAULT_FULL_EVERY),
    retention: pick('retention'),
    verify: pick('verify') ?? true,
    hooks: pick('hooks') ?? NO_HOOKS,
    healthCheck: pick('healthCheck'),
    metricsFile: pick('metricsFile')?.replaceAll('{job}', name),
  };
}
