/** `check`: whether the images of each machine are there, fresh and sound, for monitoring. */
import { VmsnapError } from '../../native/errors.js';
import { verify } from '../verify.js';
import { isOfMachine, listStore, machineTitle } from './listStore.js';
import { CLOCK_TOLERANCE_MS, createdTime, groupsOf, newestFirst } from './retention.js';
import type { CheckGroup, CheckOptions, CheckResult, CheckStatus, StoreEntry } from './storeTypes.js';

const STATUSES: readonly CheckStatus[] = ['OK', 'WARNING', 'UNKNOWN', 'CRITICAL'];

/**
 * Checks the newest good image of each machine in a folder: how old it is, whether its bases are there, and the structure of
 * both (all but the payload, which is for `verify`).
 * @throws USAGE, and NOT_FOUND, PERMISSION or IO for the folder itself.
 */
export async function checkStore(folder: string, options: CheckOptions): Promise<CheckResult> {
  requireAges(options);
  const { entries } = await listStore(folder, options);
  const unread = entries.filter(({ state }) => state === 'unreadable').length;
  const groups: CheckGroup[] = [];
  for (const [machine, images] of askedGroups(entries, options.machines)) {
    groups.push(await checkGroup(machine, images, unread, options));
  }
  const messages = options.machines === undefined ? strayMessages(entries) : [];
  const own: CheckStatus =
    groups.length === 0 ? (unread > 0 ? 'UNKNOWN' : 'CRITICAL') : messages.length > 0 ? 'WARNING' : 'OK';
  if (groups.length === 0 && entries.length === 0) messages.push(`there is no image in ${folder}`);
  return { status: worst([own, ...groups.map(({ status }) => status)]), groups, messages };
}

function requireAges({ maxAgeSeconds, warnAgeSeconds, minCount = 1, machines }: CheckOptions): void {
  const fault = (message: string): VmsnapError => new VmsnapError('USAGE', message);
  if (!(maxAgeSeconds > 0)) throw fault(`a largest age of ${maxAgeSeconds} seconds is none`);
  if (warnAgeSeconds !== undefined && !(warnAgeSeconds > 0 && warnAgeSeconds <= maxAgeSeconds)) {
    throw fault('the age to warn of must be above 0, and not above the largest age');
  }
  if (!Number.isInteger(minCount) || minCount < 1)
    throw fault(`a least count of ${minCount} is none; choose 1 or more`);
  if (machines?.length === 0) throw fault('the list of machines is empty');
}

/** Every machine that was asked for, with all of its images; or all machines that there are images of. */
function askedGroups(
  entries: readonly StoreEntry[],
  machines: readonly string[] | undefined,
): (readonly [string, readonly StoreEntry[]])[] {
  if (machines !== undefined) {
    return machines.map((machine) => [machine, entries.filter((entry) => isOfMachine(entry, machine))]);
  }
  return groupsOf(entries.filter(({ group }) => group !== undefined)).map((group) => [
    machineTitle(group.at(-1)!) ?? 'no name',
    group,
  ]);
}

async function checkGroup(
  machine: string,
  images: readonly StoreEntry[],
  unread: number,
  options: CheckOptions,
): Promise<CheckGroup> {
  const now = options.now ?? Date.now();
  const good = newestFirst(images.filter(({ state }) => state === 'good'));
  const dated = good.filter((entry) => createdTime(entry) <= now + CLOCK_TOLERANCE_MS);
  const [newest] = dated;
  const ageSeconds = newest && Math.max(0, (now - createdTime(newest)) / 1000);
  const findings = [
    ...presenceFindings(images, good, dated, unread, options),
    ...(ageSeconds === undefined ? [] : ageFindings(ageSeconds, options)),
    ...(newest === undefined ? [] : await structureFindings(newest, options)),
  ];
  return {
    machine,
    status: worst(findings.map(([status]) => status)),
    messages: findings.map(([, message]) => message),
    newest: newest?.path,
    ageSeconds,
    goodCount: good.length,
    badCount: images.length - good.length,
    totalBytes: images.reduce((sum, { fileBytes }) => sum + fileBytes, 0),
  };
}

type CheckFinding = readonly [CheckStatus, string];

function presenceFindings(
  images: readonly StoreEntry[],
  good: readonly StoreEntry[],
  dated: readonly StoreEntry[],
  unread: number,
  { minCount = 1 }: CheckOptions,
): CheckFinding[] {
  const findings: CheckFinding[] = [];
  const future = good.length - dated.length;
  if (dated.length === 0) findings.push([unread > 0 ? 'UNKNOWN' : 'CRITICAL', 'no good image']);
  else if (dated.length < minCount) findings.push(['CRITICAL', `${dated.length} good of at least ${minCount}`]);
  if (future > 0) findings.push(['WARNING', `${future} dated in the future`]);
  for (const state of ['broken-chain', 'damaged', 'unsupported', 'unreadable'] as const) {
    const count = images.filter((entry) => entry.state === state).length;
    if (count > 0) findings.push(['WARNING', `${count} ${state}`]);
  }
  return findings;
}

function ageFindings(ageSeconds: number, { maxAgeSeconds, warnAgeSeconds }: CheckOptions): CheckFinding[] {
  if (ageSeconds > maxAgeSeconds) return [['CRITICAL', 'too old']];
  return warnAgeSeconds !== undefined && ageSeconds > warnAgeSeconds ? [['WARNING', 'old']] : [];
}

async function structureFindings(newest: StoreEntry, options: CheckOptions): Promise<CheckFinding[]> {
  const { baseDirs, keys, signal, threads } = options;
  try {
    const { intact, findings } = await verify(newest.path, { baseDirs, keys, signal, threads, structureOnly: true });
    return intact ? [] : [['CRITICAL', findings[0]!.message]];
  } catch (error) {
    if (!(error instanceof VmsnapError)) throw error;
    return [['CRITICAL', error.message]];
  }
}

/** Files whose machine cannot be told. */
function strayMessages(entries: readonly StoreEntry[]): string[] {
  return entries.filter(({ group }) => group === undefined).map(({ name, state }) => `${name} is ${state}`);
}

function worst(statuses: readonly CheckStatus[]): CheckStatus {
  return STATUSES[Math.max(0, ...statuses.map((status) => STATUSES.indexOf(status)))]!;
}
