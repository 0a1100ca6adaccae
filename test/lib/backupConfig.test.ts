/** The configuration of backup jobs: what is read, and where each mistake is said to stand. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { parse, stringify } from 'smol-toml';
import { TomlPlaces } from '../../lib/backup/config/tomlPlaces.js';
import { readBackupConfig } from '../../lib/index.js';
import { failsWith } from './support/expect.js';
import { workspace } from './support/workspace.js';

const JOB = '[jobs.web1]\nsource = "mem"\nfolder = "store"\n';

async function refused(t: ExecutionContext, toml: string, place: string, message: RegExp, hint?: RegExp) {
  const file = workspace(t).path('backup.toml');
  writeFileSync(file, toml);
  const error = await failsWith(t, 'USAGE', readBackupConfig(file), message);
  t.true(error.message.startsWith(`${file}:${place}: `), `${error.message} does not stand at ${place}`);
  t.is(error.path, file);
  if (hint !== undefined) t.regex(error.hint ?? '', hint);
}

const MISTAKES: readonly (readonly [string, string, string, RegExp, RegExp?])[] = [
  ['broken TOML', '[jobs.web1]\nsource = "mem\n', '2:14', /no TOML/],
  ['a key that stands twice', `${JOB}folder = "x"\n`, '4:1', /no TOML/],
  ['a misspelt key', `${JOB}  codek = "zstd"\n`, '4:3', /unknown key jobs\.web1\.codek/, /did you mean codec\?/],
  ['a key like none', `${JOB}xyzzy = 1\n`, '4:1', /unknown key/, /the keys here are .*source, command/],
  ['a misspelt table', '[default]\n', '1:2', /unknown key default/, /did you mean defaults\?/],
  ['[[job]]', '[[job]]\nsource = "m"\n', '1:3', /unknown key job/, /\[jobs\.NAME\]/],
  ['a size that is none', `${JOB}chunk-size = "64 KB"\n`, '4:1', /chunk-size cannot be "64 KB"/, /64K/],
  ['a size out of range', `${JOB}segment-size = "3M"\n`, '4:1', /segment-size is 3145728 bytes/, /power of two/],
  ['a size that is no text', `${JOB}chunk-size = true\n`, '4:1', /chunk-size must be a size/],
  ['regions that are no list', `${JOB}regions = "low=1M@0"\n`, '4:1', /regions must be a list/, /low=2G@0/],
  ['a region that is none', `${JOB}regions = ["low"]\n`, '4:1', /regions cannot be "low"/, /NAME=SIZE@GPA/],
  [
    'a region of no size',
    `${JOB}regions = ["low=x@0"]\n`,
    '4:1',
    /has a mistake: the size of region low cannot be "x"/,
  ],
  ['regions with files, and a source', `${JOB}regions = ["low=1M@0:f"]\n`, '2:1', /each region names its file/],
  ['regions without files or source', '[jobs.a]\nfolder = "s"\nregions = ["low=1M@0"]\n', '1:7', /has no source/],
  ['regions of all jobs', `[defaults]\nregions = ["low=1M@0:f"]\n${JOB}`, '2:1', /unknown key/, /table of a job/],
  ['an unknown format', `${JOB}format = "kdum"\n`, '4:1', /cannot be "kdum"/, /did you mean "kdump"\?/],
  ['no job', 'parallel = 2\n', '1:1', /jobs has no job/],
  [
    'a key of one job in the defaults',
    '[defaults]\nuuid = "x"\n',
    '2:1',
    /unknown key defaults\.uuid/,
    /table of a job/,
  ],
  ['a misspelt codec', `${JOB}codec = "zsdt"\n`, '4:1', /cannot be "zsdt"/, /did you mean "zstd"\?/],
  ['a number in quotes', `${JOB}level = "3"\n`, '4:1', /level must be a whole number from -100 to 22/],
  ['a level that the codec has not', `${JOB}codec = "zlib"\nlevel = 12\n`, '5:1', /from 1 to 9/],
  [
    'a level of the defaults that the codec has not',
    `[defaults]\nlevel = 3\n${JOB}codec = "none"\n`,
    '3:7',
    /no levels/,
  ],
  ['neither source nor command', '[jobs.web1]\nfolder = "s"\n', '1:7', /jobs\.web1 has no source/],
  ['a misspelt source', '[jobs.web1]\nsorce = "m"\n', '2:1', /unknown key jobs\.web1\.sorce/, /did you mean source\?/],
  ['source and command', `${JOB}command = ["a"]\n`, '4:1', /exclude each other/],
  ['a command that is a text', '[jobs.a]\nfolder = "s"\ncommand = "cat mem"\n', '3:1', /list of texts/, /"sh", "-c"/],
  ['standard input', '[jobs.a]\nfolder = "s"\nsource = "-"\n', '3:1', /standard input/],
  ['no folder', '[jobs.a]\nsource = "m"\n', '1:7', /jobs\.a has no folder/],
  ['a name of a job', '[jobs."a b"]\nsource = "m"\nfolder = "s"\n', '1:7', /is no name of a job/],
  ['a name without time', `${JOB}name = "{vm}.vmsnap"\n`, '4:1', /has no \{utc\}/],
  ['a misspelt placeholder', `${JOB}name = "{vn}-{utc}.vmsnap"\n`, '4:1', /\{vn\}/, /did you mean \{vm\}\?/],
  ['a name with a folder', `${JOB}name = "a/{utc}.vmsnap"\n`, '4:1', /jobs\.web1\.name/, /folder is a key/],
  ['a name that is too long', `${JOB}vm = "${'x'.repeat(200)}"\nname = "{vm}{vm}{utc}.vmsnap"\n`, '5:1', /longer than/],
  ['an unknown rule', `${JOB}keep = { dayly = 7 }\n`, '4:10', /unknown key jobs\.web1\.keep\.dayly/, /daily/],
  ['an empty policy', `${JOB}[jobs.web1.keep]\nlast = 0\n`, '4:12', /keeps nothing/],
  ['a duration', `${JOB}keep = { within = "3 days" }\n`, '4:10', /cannot be "3 days"/, /30d/],
  ['a hook without a program', `${JOB}hooks.before = []\n`, '4:7', /hooks\.before must be a list of texts/],
  ['an unknown hook', `${JOB}[jobs.web1.hooks]\nbefor = ["x"]\n`, '5:1', /unknown key/, /before/],
  ['a health check without an address', `${JOB}[jobs.web1.health-check]\ntimeout = "5s"\n`, '4:12', /needs one of url/],
  ['a health check that waits for ever', `${JOB}health-check = { url = "http://x", timeout = "1h" }\n`, '4:36', /60 s/],
  ['encryption for nobody', `${JOB}encryption = {}\n`, '4:1', /names nobody who can read/, /credential = /],
  [
    'encryption that only an identity is named for',
    `${JOB}encryption = { identity-file = "id" }\n`,
    '4:1',
    /names nobody who can read/,
  ],
  [
    'a misspelt kind of key',
    `${JOB}encryption = { credentials = "k" }\n`,
    '4:16',
    /unknown key/,
    /did you mean credential\?/,
  ],
  [
    'a secret key as recipient',
    `${JOB}encryption.recipient = "AGE-SECRET-KEY-1QQ"\n`,
    '4:12',
    /encryption\.recipient must be a public key of age$/,
    /a secret key has no place here/,
  ],
  ['a passphrase itself', `${JOB}encryption = { passphrase = "x" }\n`, '4:16', /unknown key/, /passphrase-file/],
  ['a credential in another folder', `${JOB}encryption.credential = "../key"\n`, '4:12', /the name of a credential/],
  ['a passphrase file of no name', `${JOB}encryption.passphrase-file = ""\n`, '4:12', /passphrase-file is empty/],
  [
    'two passphrases',
    `${JOB}[jobs.web1.encryption]\npassphrase-file = "a"\npassphrase-command = "b"\n`,
    '6:1',
    /passphrase-command and passphrase-file exclude each other/,
  ],
  [
    'a credential and a passphrase',
    `[defaults.encryption]\ncredential = "k"\npassphrase-file = "a"\n${JOB}`,
    '3:1',
    /passphrase-file and credential exclude each other/,
  ],
  [
    'recipients and a passphrase',
    `${JOB}encryption = { passphrase-file = "a", recipients-file = "r" }\n`,
    '4:39',
    /recipients-file and passphrase-file exclude each other/,
  ],
  ['too many at a time', `parallel = 0\n${JOB}`, '1:1', /parallel must be/],
  ['a pause of a file', `${JOB}max-pause = "10s"\n`, '4:1', /max-pause is for a running machine/, /qemu:SOCKET/],
  ['a pause of all jobs', `[defaults]\nquiesce = true\n${JOB}`, '2:1', /unknown key/, /table of a job/],
  ['live of a file', `${JOB}live = true\n`, '4:1', /live is for a running machine/, /qemu:SOCKET/],
  ['while-paused of a file', `${JOB}while-paused = "true"\n`, '4:1', /while-paused is for a running machine/],
  [
    'differences of a live machine',
    '[jobs.a]\nsource = "qemu:s"\nfolder = "s"\nlive = true\nfull-every = 7\n',
    '5:1',
    /full-every is for images that may be differences/,
  ],
  ['live of all jobs', `[defaults]\nlive = true\n${JOB}`, '2:1', /unknown key/, /table of a job/],
  ['a uuid', `${JOB}uuid = "web1"\n`, '4:1', /uuid cannot be/],
];

for (const [title, toml, place, message, hint] of MISTAKES) {
  test(`${title} is refused at its place`, async (t) => await refused(t, toml, place, message, hint));
}

test('an address is repeated in no error', async (t) => {
  const file = workspace(t).path('backup.toml');
  for (const line of ['url = "secret-address"', 'url = "http://secret-address" x']) {
    writeFileSync(file, `${JOB}[jobs.web1.health-check]\n${line}\n`);
    const error = await failsWith(t, 'USAGE', readBackupConfig(file));
    t.notRegex(`${error.message} ${error.hint}`, /secret-address/);
  }
});

test('two jobs that would write one name are refused, whatever the folder is called', async (t) => {
  const folder = workspace(t);
  mkdirSync(folder.path('store'));
  symlinkSync('store', folder.path('link'));
  const jobs = (second: string) => `${JOB}[jobs.copy]\nsource = "other"\nvm = "web1"\n${second}\n`;
  const file = folder.path('backup.toml');
  for (const second of ['folder = "store"', 'folder = "./store/../store"', 'folder = "link"']) {
    writeFileSync(file, jobs(second));
    await failsWith(t, 'USAGE', readBackupConfig(file), /:4:7: jobs\.copy writes the same images as jobs\.web1/);
  }
  writeFileSync(file, jobs('folder = "store"\nname = "{vm}-{job}-{utc}.vmsnap"'));
  t.is((await readBackupConfig(file)).jobs.length, 2);
  writeFileSync(file, `[defaults]\nmetrics = "m.prom"\n${jobs('folder = "other"')}`);
  await failsWith(t, 'USAGE', readBackupConfig(file), /metrics is also the file of jobs\.web1/);
});

test('what is asked of a running machine; live images are whole, whatever the defaults say', async (t) => {
  const folder = workspace(t);
  const file = folder.path('backup.toml');
  const keys = 'live = true\nwhile-paused = "echo"\nmax-pause = "10s"\nquiesce = true\nagent = "ga"';
  writeFileSync(
    file,
    `[defaults]\nfull-every = 4\nfolder = "store"\n[jobs.a]\nsource = "qemu:s"\n${keys}\n[jobs.b]\nsource = "libvirt:b"\n`,
  );
  const [a, b] = (await readBackupConfig(file)).jobs;
  t.deepEqual(a!.save.machine, {
    live: true,
    whilePaused: 'echo',
    maxPauseSeconds: 10,
    quiesce: true,
    agent: folder.path('ga'),
  });
  t.is(a!.fullEvery, 1);
  t.deepEqual([b!.save.machine, b!.fullEvery], [undefined, 4]);
});

test('defaults hold where a job says nothing; paths are those of the configuration', async (t) => {
  const folder = workspace(t);
  const file = folder.path('backup.toml');
  writeFileSync(
    file,
    `parallel = 3
[defaults]
folder = "store"
codec = "zlib"
full-every = 4
keep = { daily = 7, within = "2w3d", time-zone = "UTC" }
metrics = "{job}.prom"
labels = { site = "north", rack = "1" }
[jobs.a]
source = "mem"
labels = { rack = "2" }
[jobs.b]
source = "qemu:/run/b.qmp"
folder = "/elsewhere"
level = 9
keep = { last = 3 }
verify = false
[jobs.b.hooks]
after = ["true"]
timeout = "90s"
`,
  );
  const { jobs, parallel } = await readBackupConfig(file);
  const [a, b] = jobs;
  t.is(parallel, 3);
  t.deepEqual(a!.source, { kind: 'source', source: folder.path('mem') });
  t.deepEqual(b!.source, { kind: 'source', source: 'qemu:/run/b.qmp' });
  t.deepEqual([a!.fullEvery, b!.fullEvery], [4, 4]);
  t.is(a!.folder, folder.path('store'));
  t.is(b!.folder, '/elsewhere');
  t.is(a!.save.codec, 'zlib');
  t.is(b!.save.level, 9);
  t.is(a!.retention!.policy.keepWithinSeconds, 17 * 86_400);
  t.is(a!.retention!.timeZone, 'UTC');
  t.is(b!.retention!.policy.keepDaily, undefined, 'a policy is taken whole');
  t.deepEqual(
    [...a!.save.labels],
    [
      ['site', 'north'],
      ['rack', '2'],
    ],
  );
  t.is(a!.metricsFile, folder.path('a.prom'));
  t.deepEqual([a!.fullEvery, a!.verify, b!.verify], [4, true, false]);
  t.is(b!.hooks.timeoutSeconds, 90);
  t.deepEqual(a!.machine, { name: 'a', uuid: undefined });
});

test('what a save needs beside its source', async (t) => {
  const folder = workspace(t);
  const file = folder.path('backup.toml');
  writeFileSync(
    file,
    `[defaults]
folder = "store"
segment-size = "2M"
[jobs.regions]
regions = ["low=1M@0:low.mem", "high=0x100000@0x100000000:/dev/shm/high+2M"]
chunk-size = 65536
[jobs.running]
source = "qemu:/run/vm.qmp"
while-paused = "lvcreate -s -n snap vg/web1"
max-pause = "30s"
quiesce = true
agent = "agent.sock"
[jobs.snapshot]
source = "snap.mem"
format = "firecracker"
vmstate = "snap.state"
diff-base = "/base.mem"
`,
  );
  const { jobs } = await readBackupConfig(file);
  const [regions, running, snapshot] = jobs;
  t.like(running!.save.machine, {
    whilePaused: 'lvcreate -s -n snap vg/web1',
    maxPauseSeconds: 30,
    quiesce: true,
    agent: folder.path('agent.sock'),
  });
  t.is(regions!.save.machine, undefined);
  t.deepEqual(regions!.source, { kind: 'source', source: undefined });
  t.deepEqual(regions!.save.regions, [
    { name: 'low', sizeBytes: 2 ** 20, gpa: 0, file: folder.path('low.mem') },
    { name: 'high', sizeBytes: 2 ** 20, gpa: 2 ** 32, file: '/dev/shm/high', fileOffset: 2 ** 21 },
  ]);
  t.deepEqual([regions!.save.segmentSize, regions!.save.chunkSize], [2 ** 21, 65_536]);
  const { format, vmstate, diffBase, segmentSize, chunkSize } = snapshot!.save;
  t.deepEqual(
    { format, vmstate, diffBase, segmentSize, chunkSize },
    {
      format: 'firecracker',
      vmstate: folder.path('snap.state'),
      diffBase: '/base.mem',
      segmentSize: 2 ** 21,
      chunkSize: undefined,
    },
  );
});

test('a file that is not there, a folder, no UTF-8', async (t) => {
  const folder = workspace(t);
  await failsWith(t, 'NOT_FOUND', readBackupConfig(folder.path('none')), /cannot read the configuration/);
  await failsWith(t, 'IO', readBackupConfig(folder.folder));
  writeFileSync(folder.path('latin'), Buffer.from([0x61, 0xff]));
  await failsWith(t, 'USAGE', readBackupConfig(folder.path('latin')), /no UTF-8/);
});

/** Every key that the parser finds has the place where its name stands. */
test('the places of keys in any document', (t) => {
  const name = fc.oneof(fc.stringMatching(/^[a-z][a-z0-9-]{0,6}$/), fc.constantFrom('a b', 'x.y', "q'q", '#', '[z]'));
  const leaf = fc.oneof(
    fc.integer(),
    fc.boolean(),
    fc.string({ maxLength: 20 }),
    fc.array(fc.string({ maxLength: 5 })),
    fc.constantFrom('""" \n', 'a = 1\n[b]\n', "'''"),
  );
  const { table } = fc.letrec((tie) => ({
    table: fc.dictionary(name, fc.oneof({ depthSize: 'small' }, leaf, tie('table')), { maxKeys: 4 }),
  }));
  fc.assert(
    fc.property(table, (document) => {
      const text = stringify(document as Record<string, unknown>);
      const lines = text.split('\n');
      const places = new TomlPlaces(text);
      const walk = (node: object, path: string[]): void => {
        for (const [key, value] of Object.entries(node)) {
          const { line, column } = places.find([...path, key]);
          const rest = lines[line - 1]!.slice(column - 1);
          const word = /^(?:[\w-]+|"(?:[^"\\]|\\.)*"|'[^']*')/.exec(rest)?.[0] ?? '';
          const found = Object.keys(parse(`${word} = 1`))[0];
          if (found !== key) throw new Error(`${key} is not at ${line}:${column}: ${rest}`);
          if (typeof value === 'object' && !Array.isArray(value)) walk(value as object, [...path, key]);
        }
      };
      walk(parse(text), []);
    }),
    { numRuns: 300 },
  );
  t.pass();
});

test('places in what people write', (t) => {
  const text = `# [a]\na.b = """\n[c]\nx = 1\n""" # y\n[ d . "e f" ]\n  g = { h = [ "]", '}' ], i = 1 } # j = 2\nk = 1979-05-27\nl = '''\n'x'''' \nm = 1\n`;
  parse(text.replace("''''", "'''"));
  const places = new TomlPlaces(text.replace("''''", "'''"));
  const at = (...path: string[]) => Object.values(places.find(path)).join(':');
  t.is(at('a', 'b'), '2:3');
  t.is(at('d', 'e f'), '6:7');
  t.is(at('d', 'e f', 'g', 'h'), '7:9');
  t.is(at('d', 'e f', 'g', 'i'), '7:27');
  t.is(at('d', 'e f', 'k'), '8:1');
  t.is(at('d', 'e f', 'm'), '11:1');
  t.is(at('nowhere'), '1:1');
});
