/**
 * The committed samples of every format version: valid ones are read alike by vmsnap and by the second reader, damaged ones are
 * refused by both. The valid ones of today's version are what this code writes.
 */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { FORMAT_VERSION } from '../../formats/vmsnap/layout.js';
import { load, verify } from '../../lib/index.js';
import { cat, makeFifo } from '../lib/support/pipes.js';
import { type Workspace, workspace } from '../lib/support/workspace.js';
import { DAMAGED } from '../samples/damage.js';
import {
  type ListedFile,
  readSampleList,
  sampleKeyFiles,
  sampleKeys,
  samplePath,
  samplesFolder,
  sampleVersions,
  validFolder,
} from '../samples/list.js';
import { makeValid, VALID } from '../samples/valid.js';
import { editStart, forge, type Json, takeApart, xxh3Of } from './forge.js';
import { codeOf, Judge } from './support/judge.js';
import {
  missingTool,
  readWithSecondReader,
  refusalsOfSecondReader,
  runSecondReader,
  skip,
} from './support/secondReader.js';

const TOOLS = ['python3', 'python3-cryptography', 'zstd'] as const;
const samples = readSampleList();

test('there are samples of every version from 1 on', (t) => {
  t.deepEqual(
    sampleVersions(),
    Array.from({ length: FORMAT_VERSION }, (_, i) => i + 1),
  );
});

test('the list names every sample of the tables', (t) => {
  const names = (list: readonly { readonly name: string }[]) => list.map(({ name }) => name).sort();
  t.deepEqual(names(samples.valid), names(VALID));
  t.deepEqual(names(samples.damaged), names(DAMAGED));
});

for (const sample of VALID) {
  const listed = samples.valid.find(({ name }) => name === sample.name)!;
  const committed = readFileSync(samplePath('valid', sample.name));

  test(`${sample.name}: this code writes the committed bytes`, async (t) => {
    const made = await makeValid(sample);
    t.is(made.digest, listed.digest);
    if (sample.encryptedFor !== undefined) {
      // Other keys, and so other bytes: of the same lengths, at the same places.
      t.false(made.bytes.equals(committed));
      t.deepEqual(shapeOf(made.bytes), shapeOf(committed));
      return;
    }
    t.true(made.bytes.equals(withToolOf(made.bytes, committed)), 'a writer of this version writes other bytes');
  });
}

/** Kind, subject, lengths and place of each record: what an encrypted image shows of itself. */
function shapeOf(image: Buffer): unknown {
  return takeApart(image).records.map(({ kind, subject, tables, payload }) => [
    kind,
    subject,
    tables.length,
    payload.length,
  ]);
}

for (const version of sampleVersions()) {
  const { valid, damaged } = readSampleList(version);

  test(`version ${version}: the committed files are those of the list, every byte`, (t) => {
    for (const [kind, list] of Object.entries({ valid, damaged }) as ['valid' | 'damaged', readonly ListedFile[]][]) {
      const files = readdirSync(join(samplesFolder(version), kind)).sort();
      t.deepEqual(files, list.map(({ name }) => `${name}.vms`).sort());
      for (const { name, sha256 } of list) {
        const bytes = readFileSync(samplePath(kind, name, version));
        t.is(createHash('sha256').update(bytes).digest('hex'), sha256, `${name}: a committed sample never changes`);
      }
    }
  });

  for (const listed of valid) {
    const path = samplePath('valid', listed.name, version);

    test(`version ${version}, ${listed.name}: load and verify read the committed bytes`, async (t) => {
      const folder = workspace(t);
      const baseDirs = [validFolder(version)];
      const keys = sampleKeys(version);
      const judge = new Judge(folder, 'judged', baseDirs, keys);
      judge.put(readFileSync(path));
      const { intact, sealed, findings, identity, digest } = await verify(judge.imagePath, {
        threads: 1,
        baseDirs,
        keys,
      });
      t.true(intact && !sealed, findings[0]?.message);
      t.deepEqual([identity, digest], [listed.identity, listed.digest]);
      const memory = (await judge.load()) as Buffer;
      t.is(memory.length, listed.memoryBytes);
      t.is(xxh3Of(memory).toString('hex'), listed.memoryXxh3);
    });

    test(`version ${version}, ${listed.name}: the second reader reads the committed bytes`, async (t) => {
      const reason = missingTool(t, TOOLS);
      if (reason !== undefined) return skip(t, reason);
      const output = workspace(t).path('memory.raw');
      const reading = await readWithSecondReader(path, output, sampleKeyFiles(version));
      t.deepEqual([reading.identity, reading.digest], [listed.identity, listed.digest]);
      t.is(xxh3Of(readFileSync(output)).toString('hex'), listed.memoryXxh3);
    });
  }

  for (const { name, code, passes, base } of damaged) {
    const path = samplePath('damaged', name, version);
    const { memoryXxh3 } = valid.find((sample) => sample.name === base)!;

    test(`version ${version}, ${name}: verify and load refuse it`, async (t) => {
      const folder = workspace(t);
      const judge = new Judge(folder, 'judged', [validFolder(version)], sampleKeys(version));
      judge.put(readFileSync(path));
      t.is(await judge.verify(), code === 'CORRUPT' ? 'damaged' : code);
      judgeLoad(t, await judge.load(), 'file');
      judgeLoad(t, await loadThroughPipe(folder, path, version), 'pipe');
    });

    function judgeLoad(t: ExecutionContext, result: Buffer | string, how: 'file' | 'pipe'): void {
      const mayPass = passes === how || passes === 'both';
      if (typeof result === 'string' || !mayPass) {
        t.is(typeof result === 'string' ? result : 'taken', code, `load from a ${how}`);
        return;
      }
      t.is(xxh3Of(result).toString('hex'), memoryXxh3, `load from a ${how} gives wrong memory`);
    }
  }

  test(`version ${version}: the second reader refuses every damaged sample, and says where`, async (t) => {
    const reason = missingTool(t, TOOLS);
    if (reason !== undefined) return skip(t, reason);
    const refusals = await refusalsOfSecondReader(
      damaged.map(({ name }) => samplePath('damaged', name, version)),
      [validFolder(version)],
      sampleKeyFiles(version),
    );
    t.is(refusals.size, damaged.length);
    for (const [image, refusal] of refusals)
      t.regex(refusal ?? 'none', / is damaged at offset \d+: |: none of the keys given opens the image/, image);
  });
}

for (const { name, base } of samples.damaged) {
  test(`${name}: this code makes the committed bytes`, (t) => {
    const images = new Map(samples.valid.map((valid) => [valid.name, readFileSync(samplePath('valid', valid.name))]));
    const made = DAMAGED.find((sample) => sample.name === name)!.make(images.get(base)!, images);
    t.true(made.equals(readFileSync(samplePath('damaged', name))));
  });
}

/** The name of the tool carries its version, which may differ from the one that the sample was made with. */
function withToolOf(image: Buffer, sample: Buffer): Buffer {
  const { tool } = JSON.parse(takeApart(image).startManifest.toString()) as Json;
  return forge(sample, (forged) => {
    editStart(forged, (manifest) => {
      manifest.tool = tool;
    });
  });
}

test('the command of the second reader: exit code 1 for damage, 2 where nothing can be said', async (t) => {
  const reason = missingTool(t, TOOLS);
  if (reason !== undefined) return skip(t, reason);
  t.is((await runSecondReader([samplePath('damaged', 'flip-chunk')])).exitCode, 1);
  t.is((await runSecondReader([samplePath('damaged', 'no such sample')])).exitCode, 2);
  t.is((await runSecondReader([samplePath('valid', 'encrypted')])).exitCode, 2);
  t.is((await runSecondReader([])).exitCode, 2);
});

async function loadThroughPipe(folder: Workspace, image: string, version: number): Promise<Buffer | string> {
  const [pipe, target] = [makeFifo(folder.path('pipe')), folder.path('piped.raw')];
  writeFileSync(target, '');
  const loading = codeOf(async () => {
    const options = { baseDirs: [validFolder(version)], keys: sampleKeys(version) };
    await load(pipe, target, { threads: 1, force: true, ...options });
    return readFileSync(target);
  });
  return (await Promise.all([loading, cat(image, pipe)]))[0];
}
