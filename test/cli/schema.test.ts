/** Every JSON object that the commands print is what docs/schema says. */
import { readdirSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import { EXIT_CODES } from '../../lib/index.js';
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
  await validate(0, 'inspect', 'img');
  await validate(0, 'inspect', 'none');
  await validate(0, 'inspect', '--regions', 'none');
  await validate(0, 'inspect', '--map', 'img');
  await validate(0, 'inspect', '--chunks', 'img');
  await validate(0, 'inspect', '--histogram', 'img');
  await validate(0, 'verify', 'img');
  await validate(0, 'extract', 'img');
  await validate(0, 'extract', '--attachment', 'm', 'img', 'm');
  await validate(10, 'inspect', 'img', 'missing');
  await validate(10, 'verify', 'img', 'missing');
  await validate(10, 'load', 'missing', 'x');
  await validate(2, 'save', '--lvel', 'a', 'b');
  invertByte(join(folder, 'img'), 30_000);
  await validate(14, 'verify', 'img');
  truncateSync(join(folder, 'img'), 40_000);
  await validate(14, 'inspect', 'img');
  await validate(14, 'verify', 'img');
  t.deepEqual([...seen].sort(), readdirSync(join(ROOT, 'docs', 'schema')).sort(), 'every schema was used');
});

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
