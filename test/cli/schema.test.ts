/** Every JSON object that the commands print is what docs/schema says. */
import { mkdirSync, readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { EXIT_CODES } from '../../lib/index.js';
import { forgeMachine } from '../support/machineImage.js';
import { writeSnapshot } from '../support/snapshots/cloudHypervisor.js';
import { invertByte } from './support/fixtures.js';
import { temporaryFolder } from './support/folder.js';
import { readSchema, schemaFaults } from './support/jsonSchema.js';
import { makeMemory } from './support/memory.js';
import { ROOT } from './support/paths.js';
import { runCli } from './support/runCli.js';

test('real outputs match their schemas', async (t) => {
  const folder = temporaryFolder(t);
  const seen = new Set<string>();
  const validate = async (exitCode: number, ...args: string[]): Promise<void> => {
    const result = await runCli([...args, '--json'], { cwd: folder });
    t.is(result.exitCode, exitCode, `${args.join(' ')}: ${result.stderr}`);
    const value = JSON.parse(result.stdout) as { schema: string };
    const file = `${value.schema.replace(/^vmsnap\./, '')}.json`;
    seen.add(file);
    t.deepEqual(schemaFaults(file, value), [], args.join(' '));
  };
  writeFileSync(join(folder, 'mem'), makeMemory(1200));
  await validate(0, 'save', '--frozen', '--name', 'web1', '--label', 'a=1', '--attach', 'm=mem', 'mem', 'img');
  await validate(0, 'save', '--frozen', '--codec', 'none', '--region', 'a=1M@0', '--region', 'b=1M@4G', 'mem', 'none');
  await validate(0, 'load', 'img', 'out');
  mkdirSync(join(folder, 'machine'));
  const { image: machine } = await forgeMachine(join(folder, 'machine'));
  await validate(0, 'load', '--machine', 'made', machine);
  await validateResumed(t, folder, machine, seen);
  await validate(0, 'inspect', 'img');
  await validate(0, 'inspect', 'none');
  await validate(0, 'inspect', '--regions', 'none');
  await validate(0, 'inspect', '--map', 'img');
  await validate(0, 'inspect', '--chunks', 'img');
  await validate(0, 'inspect', '--histogram', 'img');
  await validate(0, 'verify', 'img');
  await validate(0, 'compare', 'img', 'mem');
  await validate(1, 'compare', 'img', 'none');
  await validate(0, 'bench', '--size', '16M', '--rounds', '1', '--folder', '.');
  await validate(0, 'estimate', 'mem');
  writeSnapshot(join(folder, 'ch'), { memory_ranges: [{ gpa: 0, length: 1_228_800 }] }, makeMemory(300));
  await validate(0, 'inspect', 'ch');
  await validate(0, 'inspect', '--format', 'firecracker', 'mem');
  await validate(0, 'inspect', 'ch', 'img');
  await validate(0, 'save', '--frozen', 'ch', 'ch.img');
  await validate(0, 'compare', 'ch', 'ch.img');
  await validate(0, 'estimate', '--target', '/proc', '--codec', 'none', 'mem');
  await validate(0, 'extract', 'img');
  await validate(0, 'extract', '--attachment', 'm', 'img', 'm');
  await validate(0, 'doctor', '--emulated');
  await validate(0, 'save', '--frozen', '--base', 'none', '--region', 'a=1M@0', '--region', 'b=1M@4G', 'mem', 'diff');
  await validate(0, 'load', 'diff', 'out2');
  await validate(0, 'load', '--salvage', 'diff', 'out3');
  await validate(0, 'inspect', 'diff');
  await validate(0, 'verify', 'diff');
  await validate(0, 'flatten', 'diff', 'flat');
  mkdirSync(join(folder, 'store'));
  for (const [i, base] of [[], ['--base', 'store/0']].entries()) {
    await validate(0, 'save', '--frozen', '--name', 'web1', '--label', 'a=1', ...base, 'mem', `store/${i}`);
  }
  await validate(0, 'list', 'store', 'store');
  await validate(0, 'prune', '--keep-last', '1', '--dry-run', 'store');
  await validate(0, 'check', '--max-age', '1d', 'store');
  await validate(2, 'check', '--max-age', '1d', '--machine', 'db', 'store');
  await validate(3, 'check', 'store');
  await validate(0, 'verify', 'store');
  await validate(0, 'verify', '--restore-drill', 'store');
  await validate(0, 'verify', '--restore-drill', 'diff');
  truncateSync(join(folder, 'store', '0'), 1000);
  writeFileSync(join(folder, 'store', 'x.vmsnap'), 'x');
  await validate(3, 'list', 'store');
  await validate(10, 'list', 'store', 'nowhere');
  await validate(3, 'prune', '--keep-last', '1', '--dry-run', 'store');
  await validate(2, 'check', '--max-age', '1d', 'store');
  mkdirSync(join(folder, 'nightly'));
  const job = (name: string, source: string) => `[jobs.${name}]\nsource = "${source}"\nfolder = "nightly"\n`;
  writeFileSync(join(folder, 'backup.toml'), `${job('web1', 'mem')}keep = { last = 1 }\n${job('gone', 'none-such')}`);
  const backup = ['backup', '--config', 'backup.toml'];
  await validate(0, ...backup, '--check-config');
  await validate(0, ...backup, '--dry-run', 'web1');
  await validate(0, ...backup, 'web1');
  await validate(10, ...backup);
  invertByte(join(folder, 'none'), 10_000);
  await validate(14, 'verify', 'diff');
  truncateSync(join(folder, 'none'), 1);
  await validate(0, 'inspect', 'diff');
  await validate(16, 'verify', 'diff');
  await validate(10, 'inspect', 'img', 'missing');
  await validate(10, 'verify', 'img', 'missing');
  await validate(10, 'load', 'missing', 'x');
  await validate(2, 'save', '--lvel', 'a', 'b');
  invertByte(join(folder, 'img'), 30_000);
  await validate(14, 'verify', 'img');
  await validate(14, 'load', '--salvage', 'img', 'saved');
  truncateSync(join(folder, 'img'), 40_000);
  await validate(14, 'load', '--salvage', 'img', 'saved2');
  await validate(14, 'inspect', 'img');
  await validate(14, 'verify', 'img');
  t.deepEqual([...seen].sort(), readdirSync(join(ROOT, 'docs', 'schema')).sort(), 'every schema was used');
});

/** Its object stands on stderr, when the machine runs; QEMU, and so the command, ends when it is told to. */
async function validateResumed(t: ExecutionContext, folder: string, image: string, seen: Set<string>): Promise<void> {
  const fakeQemu = join(ROOT, 'dist', 'test', 'lib', 'children', 'fakeQemu.js');
  const qemu = [process.execPath, fakeQemu, '--log', folder, '-object', 'memory-backend-file,mem-path={mem:mem0}'];
  const args = ['resume', '--json', '--memory-dir', folder, image, '--', ...qemu];
  const { exitCode, stdout, stderr } = await runCli(args, {
    env: { TMPDIR: folder },
    onStart: (child) => child.stderr!.on('data', (text: Buffer) => text.includes('processId') && child.kill('SIGTERM')),
  });
  t.is(exitCode, 7, stderr);
  t.is(stdout, '');
  seen.add('resume.json');
  t.deepEqual(schemaFaults('resume.json', JSON.parse(stderr)), []);
  t.deepEqual(
    readdirSync(folder).filter((name) => name.startsWith('vmsnap-resume-')),
    [],
  );
}

test('the schema of errors knows exactly the codes there are', (t) => {
  const { properties } = readSchema('error.json') as unknown as {
    properties: { error: { properties: { code: { enum: string[] } } } };
  };
  t.deepEqual([...properties.error.properties.code.enum].sort(), Object.keys(EXIT_CODES).sort());
});

test('the validator finds what is wrong', (t) => {
  const good = { schema: 'vmsnap.extract', schemaVersion: 1, image: 'i', attachment: 'a', file: 'f', sizeBytes: 1 };
  t.deepEqual(schemaFaults('extract.json', good), []);
  t.is(schemaFaults('extract.json', { ...good, sizeBytes: -1 }).length, 1);
  t.is(schemaFaults('extract.json', { ...good, sizeBytes: 1.5 }).length, 1);
  t.is(schemaFaults('extract.json', { ...good, image: null }).length, 1);
  t.is(schemaFaults('extract.json', { ...good, extra: 1 }).length, 1);
  t.is(schemaFaults('extract.json', { ...good, schema: 'vmsnap.load' }).length, 1);
  t.is(schemaFaults('extract.json', { schema: 'vmsnap.extract', schemaVersion: 1 }).length, 4);
  t.is(
    schemaFaults('inspect-list.json', { schema: 'vmsnap.inspect-list', schemaVersion: 1, images: [good] }).length > 0,
    true,
  );
});
