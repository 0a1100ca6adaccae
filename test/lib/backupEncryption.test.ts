/** Backup jobs whose images are encrypted: keys from everywhere, and keys that are missing, wrong, or there for all to read. */
import { chmodSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { type BackupJobReport, inspect, type KeySources, load, verify } from '../../lib/index.js';
import { type BackupHouse, backupHouse, codesOf, DAY_MS, oneJob } from './support/backups.js';
import { sameBytes } from './support/expect.js';
import { makeKey } from './support/keys.js';

const PASSPHRASE = 'correct horse battery staple';

/** Tests of this file set CREDENTIALS_DIRECTORY, and run one after another. */
function credential(t: ExecutionContext, house: BackupHouse, name: string, text: string): void {
  mkdirSync(house.path('credentials'), { recursive: true });
  secret(house, `credentials/${name}`, text);
  process.env.CREDENTIALS_DIRECTORY = house.path('credentials');
  t.teardown(() => delete process.env.CREDENTIALS_DIRECTORY);
}

function secret(house: BackupHouse, name: string, text: string): void {
  writeFileSync(house.path(name), text, { mode: 0o600 });
}

async function restores(t: ExecutionContext, house: BackupHouse, report: BackupJobReport, keys: KeySources) {
  t.true((await inspect(report.image!)).encryption !== undefined, 'it is not encrypted');
  await load(report.image!, house.path('restored'), { force: true, keys });
  sameBytes(t, readFileSync(house.path('restored')), house.memory);
}

/** Two nights: full, and a difference where the base can be opened. */
async function twoNights(house: BackupHouse, toml: string): Promise<[BackupJobReport, BackupJobReport]> {
  const first = await house.runOne(toml);
  house.now += DAY_MS;
  house.change(5);
  const second = await house.runOne(toml);
  house.now += DAY_MS;
  return [first, second];
}

test.serial('each way to name a key: written, verified with it, brought back', async (t) => {
  const house = backupHouse(t);
  const key = await makeKey();
  secret(house, 'passphrase', `${PASSPHRASE}\n`);
  secret(house, 'identity', `${key.identity}\n`);
  writeFileSync(house.path('recipients'), `# of the operator\n${key.recipient}\n`);
  credential(t, house, 'identity', key.identity);
  credential(t, house, 'passphrase', PASSPHRASE);
  const identity: KeySources = { identities: [key.identity] };
  const passphrase: KeySources = { passphrase: PASSPHRASE };
  const ways: readonly (readonly [string, KeySources, boolean])[] = [
    ['passphrase-file = "passphrase"', passphrase, true],
    [`passphrase-command = "cat ${house.path('passphrase')}"`, passphrase, true],
    ['credential = "passphrase"', passphrase, true],
    ['credential = "identity"', identity, true],
    [`recipient = "${key.recipient}", identity-file = "identity"`, identity, true],
    ['recipients-file = "recipients"', identity, false],
  ];
  for (const [words, keys, isReadable] of ways) {
    const nights = await twoNights(house, oneJob(`encryption = { ${words} }`));
    for (const report of nights) {
      t.deepEqual([report.exitCode, codesOf(report), report.verified], [0, [], true], words);
    }
    t.is(nights[1].kind, isReadable ? 'differential' : 'full', words);
    await restores(t, house, nights[1], keys);
    for (const name of house.stored()) rmSync(`${house.store}/${name}`);
  }
});

const BROKEN: readonly (readonly [string, string, string, number])[] = [
  ['a passphrase file that is not there', 'passphrase-file = "none"', 'NOT_FOUND', 10],
  ['an empty passphrase file', 'passphrase-file = "empty"', 'KEY', 12],
  ['a command that fails', 'passphrase-command = "echo secret; exit 3"', 'KEY', 12],
  ['a command that says nothing', 'passphrase-command = "true"', 'KEY', 12],
  ['a credential that is not there', 'credential = "none"', 'NOT_FOUND', 10],
  ['a credential with a key and other lines', 'credential = "mixed"', 'KEY', 12],
  ['a recipient that lost a character', 'recipient = "RECIPIENT"', 'USAGE', 2],
  ['a file without recipients', 'recipients-file = "empty"', 'KEY', 12],
  ['a file of recipients that is not there', 'recipients-file = "none"', 'NOT_FOUND', 10],
];

for (const [title, words, code, exitCode] of BROKEN) {
  test.serial(`${title}: the job fails, and no image is made`, async (t) => {
    const house = backupHouse(t);
    const key = await makeKey();
    secret(house, 'empty', '\n');
    credential(t, house, 'mixed', `${key.identity}\n${PASSPHRASE}\n`);
    const encryption = words.replace('RECIPIENT', key.recipient.slice(0, -1));
    const report = await house.runOne(oneJob(`encryption = { ${encryption} }`));
    t.deepEqual(
      [report.error?.code, report.exitCode, report.status],
      [code, exitCode, 'failed'],
      report.error?.message,
    );
    t.is(report.image, undefined);
    t.deepEqual(house.stored(), []);
    const { message, hint = '' } = report.error!;
    for (const text of [key.identity, PASSPHRASE, 'secret;']) t.false(`${message}${hint}`.includes(text), message);
  });
}

test.serial('without systemd a credential is not there', async (t) => {
  const house = backupHouse(t);
  delete process.env.CREDENTIALS_DIRECTORY;
  const report = await house.runOne(oneJob('encryption = { credential = "key" }'));
  t.is(report.error?.code, 'KEY');
  t.regex(report.error?.hint ?? '', /LoadCredential/);
  t.deepEqual(house.stored(), []);
});

test.serial('files that others may read are told, each once', async (t) => {
  const house = backupHouse(t);
  const key = await makeKey();
  secret(house, 'passphrase', PASSPHRASE);
  secret(house, 'identity', key.identity);
  for (const name of ['passphrase', 'identity']) chmodSync(house.path(name), 0o644);
  const ways = ['passphrase-file = "passphrase"', `recipient = "${key.recipient}", identity-file = "identity"`];
  for (const [i, words] of ways.entries()) {
    const report = await house.runOne(oneJob(`full-every = 1\nencryption = { ${words} }`));
    t.deepEqual([report.exitCode, codesOf(report), report.verified], [3, ['key-readable'], true]);
    t.true(report.warnings[0]!.message.includes(house.path(['passphrase', 'identity'][i]!)));
    house.now += DAY_MS;
  }
});

test.serial('a key that no longer opens what is there: nothing is lost, and it is told', async (t) => {
  const house = backupHouse(t);
  const [old, other] = [await makeKey(), await makeKey()];
  const job = (recipient: string) =>
    oneJob(`keep = { last = 1 }\nencryption = { recipient = "${recipient}", identity-file = "identity" }`);
  secret(house, 'identity', old.identity);
  const first = await house.runOne(job(old.recipient));
  t.is(first.exitCode, 0);
  // The key was changed, and the new one does not open the old image: it cannot be a base.
  secret(house, 'identity', other.identity);
  house.now += DAY_MS;
  house.change(9);
  const second = await house.runOne(job(other.recipient));
  t.deepEqual([second.exitCode, second.kind, second.verified, codesOf(second)], [3, 'full', true, ['base-unusable']]);
  await restores(t, house, second, { identities: [other.identity] });

  // For another key than the job has: it writes what it cannot read, so the job fails, and the old image stays.
  house.now += DAY_MS;
  house.change(11);
  const third = await house.runOne(job(old.recipient));
  t.is(third.error?.code, 'KEY', third.error?.message);
  t.true(existsSync(second.image!));
  t.true((await verify(second.image!, { keys: { identities: [other.identity] } })).intact);
});
