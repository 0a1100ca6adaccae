/** What a backup starts and tells: commands that give the memory, hooks, and the monitor that is pinged. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { load } from '../../lib/index.js';
import { type BackupHouse, backupHouse, codesOf, DAY_MS, oneJob } from './support/backups.js';
import { sameBytes } from './support/expect.js';

function commandJob(script: string, lines = ''): string {
  const command = `command = ["sh", "-c", ${JSON.stringify(script)}]`;
  return oneJob(lines).replace('source = "memory"', () => command);
}

function isAlive(pidFile: string): boolean {
  try {
    process.kill(Number(readFileSync(pidFile, 'utf8')), 0);
    return true;
  } catch {
    return false;
  }
}

/** Killed processes that nobody has waited for yet still have their number. */
async function isGone(pidFile: string): Promise<boolean> {
  for (let i = 0; i < 100 && isAlive(pidFile); i++) await delay(20);
  return existsSync(pidFile) && !isAlive(pidFile);
}

test('the memory that a command writes, full and differential', async (t) => {
  const house = backupHouse(t);
  const toml = commandJob('echo talk >&2; cat "$MEMORY"');
  process.env.MEMORY = house.path('memory');
  for (const kind of ['full', 'differential']) {
    house.change(3);
    const report = await house.runOne(toml);
    t.deepEqual([report.kind, report.status], [kind, 'ok']);
    await load(report.image!, house.path('restored'), { force: true });
    sameBytes(t, readFileSync(house.path('restored')), house.memory);
    house.now += DAY_MS;
  }
});

test('a command that fails fails the job, however whole its bytes look', async (t) => {
  const house = backupHouse(t);
  const memory = house.path('memory');
  const cases: readonly (readonly [string, RegExp])[] = [
    [`cat '${memory}'; echo disk on fire >&2; exit 7`, /the command sh ended with 7: disk on fire$/],
    [`head -c 1048576 '${memory}'; kill -9 $$`, /the command sh was ended by SIGKILL$/],
    ['exit 1', /ended with 1$/],
    [`head -c 1000 '${memory}'; exit 2`, /ended with 2$/],
  ];
  for (const [script, message] of cases) {
    const report = await house.runOne(commandJob(script));
    t.deepEqual([report.status, report.error?.code, report.image], ['failed', 'FAILED', undefined], script);
    t.regex(report.error!.message, message);
    t.deepEqual(house.stored(), [], script);
  }
  const report = await house.runOne(commandJob('true'));
  t.regex(report.error!.message, /sh is empty: there is no memory to save/);
  const missing = await house.runOne(oneJob().replace('source = "memory"', 'command = ["vmsnap-no-such-program"]'));
  t.deepEqual([missing.error?.code, missing.exitCode], ['NOT_FOUND', 10]);
});

test('a command that hangs is stopped with all that it started', async (t) => {
  const house = backupHouse(t);
  const child = house.path('child');
  const script = `cat '${house.path('memory')}'; (trap '' TERM; echo $BASHPID > '${child}'; while :; do sleep 1; done) & wait`;
  const toml = commandJob('x', 'command-timeout = "1s"').replace(
    /command = .*/,
    `command = ["bash", "-c", ${JSON.stringify(script)}]`,
  );
  const report = await house.runOne(toml);
  t.deepEqual([report.error?.code, report.exitCode], ['TIMEOUT', 124]);
  t.regex(report.error!.message, /the command bash was stopped: it had not ended after 1 s/);
  t.true(await isGone(child));
  t.deepEqual(house.stored(), []);
});

test('a save that fails ends the command', async (t) => {
  const house = backupHouse(t);
  const toml = commandJob(
    `echo $$ > '${house.path('pid')}'; cat '${house.path('memory')}' /dev/zero`,
    'attach = { a = "none" }',
  );
  const report = await house.runOne(toml);
  t.deepEqual([report.error?.code, report.error?.path], ['NOT_FOUND', house.path('none')]);
  t.true(await isGone(house.path('pid')));
});

const NOTE =
  'echo "$VMSNAP_HOOK $VMSNAP_STATUS $VMSNAP_EXIT_CODE $VMSNAP_JOB $(basename "$VMSNAP_IMAGE") $VMSNAP_ERROR" >> notes';

function hooksJob(house: BackupHouse, hooks: Readonly<Record<string, string>>, lines = ''): string {
  const all = Object.entries(hooks).map(
    ([name, script]) => `hooks.${name} = ["sh", "-c", ${JSON.stringify(`cd '${house.folder.folder}'; ${script}`)}]`,
  );
  return oneJob([...all, lines].join('\n'));
}

function notes(house: BackupHouse): string[] {
  const path = house.path('notes');
  const lines = existsSync(path) ? readFileSync(path, 'utf8').replace(/\n$/, '').split('\n') : [];
  writeFileSync(path, '');
  return lines;
}

test('hooks before, after and on error, and what they are told', async (t) => {
  const house = backupHouse(t);
  const hooks = { before: NOTE, after: NOTE, error: NOTE };
  const image = 'web1-20260105T021500Z.vmsnap';
  t.is((await house.runOne(hooksJob(house, hooks))).status, 'ok');
  t.deepEqual(notes(house), [`before running 0 web1 ${image} `, `after ok 0 web1 ${image} `]);

  house.now += DAY_MS;
  const failing = await house.runOne(hooksJob(house, { ...hooks, before: `${NOTE}; echo no >&2; exit 3` }));
  t.deepEqual([failing.status, failing.exitCode, failing.image], ['failed', 1, undefined]);
  t.is(failing.error!.message, 'the hook "before" ended with 3: no');
  t.is(notes(house)[1], 'error failed 1 web1 web1-20260106T021500Z.vmsnap the hook "before" ended with 3: no');

  const late = await house.runOne(hooksJob(house, { ...hooks, after: 'exit 1' }));
  t.deepEqual([late.status, late.exitCode, late.verified], ['failed', 1, true]);
  t.true(existsSync(late.image!), 'the image is there all the same');
  t.is(notes(house).length, 2);

  const sick = await house.runOne(hooksJob(house, { error: 'exit 9' }).replace('source = "memory"', 'source = "none"'));
  t.deepEqual(
    [sick.exitCode, codesOf(sick)],
    [10, ['error-hook']],
    'the error of the job goes before that of the hook',
  );
});

test('the hook "after-save" runs once the image is there, and before anything is verified', async (t) => {
  const house = backupHouse(t);
  const script = `test -e "$VMSNAP_IMAGE" || exit 7; ${NOTE}`;
  const hooks = { before: NOTE, 'after-save': script, after: NOTE, error: NOTE };
  const image = 'web1-20260105T021500Z.vmsnap';
  const report = await house.runOne(hooksJob(house, hooks));
  t.is(report.status, 'ok');
  t.deepEqual(notes(house), [
    `before running 0 web1 ${image} `,
    `after-save running 0 web1 ${image} `,
    `after ok 0 web1 ${image} `,
  ]);
  const phases = house.events.flatMap((event) => (event.kind === 'phase' ? [event.phase] : []));
  t.deepEqual(phases, ['lock', 'preflight', 'before', 'save', 'after-save', 'verify', 'prune', 'after']);

  house.now += DAY_MS;
  const late = await house.runOne(hooksJob(house, { ...hooks, 'after-save': 'exit 4' }));
  t.deepEqual([late.status, late.exitCode, late.verified], ['failed', 1, undefined]);
  t.true(existsSync(late.image!), 'the image is there all the same');
  t.regex(notes(house)[1]!, /^error failed 1 web1 .* the hook "after-save" ended with 4/);
});

test('a base that only the verify finds damaged: the machine is paused again for the full image', async (t) => {
  const house = backupHouse(t);
  const hooks = { before: NOTE, 'after-save': NOTE };
  const first = await house.runOne(hooksJob(house, hooks));
  // In the data of a page that the second image does not share.
  const bytes = readFileSync(first.image!);
  bytes[8192]! ^= 0xff;
  house.now += DAY_MS;
  const spoil = `cp '${house.path('spoilt')}' '${first.image!}'`;
  writeFileSync(house.path('spoilt'), bytes);
  notes(house);
  const report = await house.runOne(hooksJob(house, { ...hooks, 'after-save': `${NOTE}; ${spoil}` }));
  t.deepEqual([report.kind, report.status, codesOf(report)], ['full', 'warning', ['base-unusable']]);
  t.deepEqual(
    notes(house).map((line) => line.split(' ')[0]),
    ['before', 'after-save', 'before', 'after-save'],
  );
});

test('a hook that hangs is killed with its children, and the job fails', async (t) => {
  const house = backupHouse(t);
  const script = 'sleep 77 & echo $! > child; trap "" TERM; wait; sleep 77';
  const started = performance.now();
  const report = await house.runOne(hooksJob(house, { before: script, error: NOTE }, 'hooks.timeout = "1s"'));
  t.deepEqual([report.error?.code, report.exitCode], ['TIMEOUT', 124]);
  t.regex(report.error!.message, /the hook "before" was stopped: it had not ended after 1 s/);
  t.true(await isGone(house.path('child')));
  t.is(notes(house).length, 1);
  t.true(performance.now() - started < 20_000);
  t.deepEqual(house.stored(), []);
});

test('a hook that leaves a daemon behind is not waited for', async (t) => {
  const house = backupHouse(t);
  const started = performance.now();
  const report = await house.runOne(hooksJob(house, { before: 'sleep 30 & echo $! > daemon' }));
  t.is(report.status, 'ok');
  t.true(performance.now() - started < 20_000);
  process.kill(Number(readFileSync(house.path('daemon'), 'utf8')));
});

test('a run that is stopped runs the hook "error": what "before" has paused must go on', async (t) => {
  const house = backupHouse(t);
  const controller = new AbortController();
  const toml = hooksJob(house, { before: 'touch paused; sleep 60', error: `rm paused; ${NOTE}` });
  const run = house.run(toml, { signal: controller.signal });
  while (!existsSync(house.path('paused'))) await delay(10);
  controller.abort(new Error('enough'));
  await t.throwsAsync(run, { message: 'enough' });
  t.false(existsSync(house.path('paused')));
  t.regex(notes(house)[0]!, /^error failed 1 web1 /);
});

interface Monitor {
  readonly url: string;
  readonly calls: { readonly path: string; readonly body: string }[];
}

async function monitor(
  t: ExecutionContext,
  answer: (response: ServerResponse, call: number) => void = (response) => response.end('OK'),
): Promise<Monitor> {
  const calls: Monitor['calls'] = [];
  const server: Server = createServer((request: IncomingMessage, response) => {
    let body = '';
    request.setEncoding('utf8').on('data', (text: string) => (body += text));
    request.on('end', () => {
      calls.push({ path: request.url!, body });
      answer(response, calls.length);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  return { url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/secret-uuid`, calls };
}

const checked = (url: string, more = '') => `health-check = { url = "${url}", timeout = "1s", retries = 1${more} }`;

test('the monitor hears of start, success, and failure with its code', async (t) => {
  const house = backupHouse(t);
  const { url, calls } = await monitor(t);
  t.is((await house.runOne(oneJob(checked(`${url}/{job}`)))).status, 'ok');
  const failed = await house.runOne(oneJob(checked(`${url}/?x=1`)).replace('source = "memory"', 'source = "none"'));
  t.is(failed.exitCode, 10);
  t.deepEqual(
    calls.map(({ path }) => path),
    ['/secret-uuid/web1/start', '/secret-uuid/web1', '/secret-uuid/start?x=1', '/secret-uuid/10?x=1'],
  );
  t.regex(
    calls[1]!.body,
    /^web1: ok after .*\n.*web1-20260105T021500Z\.vmsnap: full, 2097152 bytes of memory in \d+; 0 removed\n$/,
  );
  t.regex(calls[3]!.body, /^web1: failed .*\nerror: NOT_FOUND: cannot open the source .*none.*\n$/);
});

test('a monitor that hangs, refuses, fails, or is not there: a warning, and no word of its address', async (t) => {
  const house = backupHouse(t);
  const hangs = await monitor(t, () => undefined);
  const refuses = await monitor(t, (response) => response.writeHead(404).end());
  const fails = await monitor(t, (response) => response.writeHead(503).end());
  const recovers = await monitor(t, (response, call) => response.writeHead(call % 2 === 1 ? 500 : 200).end());
  const cases: readonly (readonly [string, number, RegExp | undefined])[] = [
    [hangs.url, 3, /no answer within 1 s/],
    [refuses.url, 3, /refused the message \(HTTP 404\)/],
    [fails.url, 3, /HTTP 503/],
    ['http://127.0.0.1:1/secret-uuid', 3, /cannot be reached/],
    [recovers.url, 0, undefined],
  ];
  for (const [url, exitCode, message] of cases) {
    const report = await house.runOne(oneJob(checked(url)));
    t.is(report.exitCode, exitCode, url);
    t.true(report.verified);
    for (const warning of report.warnings) {
      t.is(warning.code, 'health-check');
      t.regex(warning.message, message!);
    }
    t.notRegex(JSON.stringify([report, house.events]), /secret-uuid/);
    house.now += DAY_MS;
  }
  t.deepEqual([hangs.calls.length, refuses.calls.length, fails.calls.length, recovers.calls.length], [4, 2, 4, 4]);
});

test('an address from a file or a credential', async (t) => {
  const house = backupHouse(t);
  const { url, calls } = await monitor(t);
  writeFileSync(house.path('address'), `${url}\n`);
  const file = 'health-check = { url-file = "address" }';
  const credential = 'health-check = { url-credential = "address" }';
  t.is((await house.runOne(oneJob(file))).status, 'ok');
  const without = await house.runOne(oneJob(credential));
  t.deepEqual([without.exitCode, codesOf(without)], [3, ['health-check', 'health-check']]);
  t.regex(without.warnings[0]!.message, /CREDENTIALS_DIRECTORY is not set/);
  process.env.CREDENTIALS_DIRECTORY = house.folder.folder;
  t.teardown(() => delete process.env.CREDENTIALS_DIRECTORY);
  t.is((await house.runOne(oneJob(credential))).status, 'ok');
  t.is(calls.length, 4);
  writeFileSync(house.path('address'), 'not an address\n');
  const wrong = await house.runOne(oneJob(file));
  t.regex(wrong.warnings[0]!.message, /its address is no plain URL/);
  t.notRegex(JSON.stringify(wrong), /not an address/);
});
