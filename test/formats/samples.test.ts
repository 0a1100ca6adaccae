/**
 * The committed samples: valid ones are what this code writes, and are read alike by vmsnap and by the second reader;
 * damaged ones are refused by both.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { load, verify } from '../../lib/index.js';
import { cat, makeFifo } from '../lib/support/pipes.js';
import { type Workspace, workspace } from '../lib/support/workspace.js';
import { DAMAGED } from '../samples/damage.js';
import { readSampleList, samplePath, validFolder } from '../samples/list.js';
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

const samples = readSampleList();

test('the list names every sample of the tables', (t) => {
  t.deepEqual(
    samples.valid.map(({ name }) => name),
    VALID.map(({ name }) => name),
  );
  t.deepEqual(
    samples.damaged.map(({ name }) => name),
    DAMAGED.map(({ name }) => name),
  );
});

for (const sample of VALID) {
  const listed = samples.valid.find(({ name }) => name === sample.name)!;
  const committed = readFileSync(samplePath('valid', sample.name));

  test(`${sample.name}: this code writes the committed bytes`, async (t) => {
    const made = await makeValid(sample);
    t.true(made.bytes.equals(withToolOf(made.bytes, committed)), 'run test/samples/make.ts if the format was changed');
    t.is(made.digest, listed.digest);
  });

  test(`${sample.name}: load and verify read the committed bytes`, async (t) => {
    const folder = workspace(t);
    const judge = new Judge(folder, 'judged', [validFolder()]);
    judge.put(committed);
    const { intact, findings, identity, digest } = await verify(judge.imagePath, {
      threads: 1,
      baseDirs: [validFolder()],
    });
    t.true(intact, findings[0]?.message);
    t.deepEqual([identity, digest], [listed.identity, listed.digest]);
    const memory = (await judge.load()) as Buffer;
    t.is(memory.length, listed.memoryBytes);
    t.is(xxh3Of(memory).toString('hex'), listed.memoryXxh3);
  });

  test(`${sample.name}: the second reader reads the committed bytes`, async (t) => {
    const reason = missingTool(t, ['python3', 'zstd']);
    if (reason !== undefined) return skip(t, reason);
    const output = workspace(t).path('memory.raw');
    const reading = await readWithSecondReader(samplePath('valid', sample.name), output);
    t.deepEqual([reading.identity, reading.digest], [listed.identity, listed.digest]);
    t.is(xxh3Of(readFileSync(output)).toString('hex'), listed.memoryXxh3);
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

for (const { name, code, passes, base } of samples.damaged) {
  const path = samplePath('damaged', name);

  test(`${name}: this code makes the committed bytes`, (t) => {
    const images = new Map(samples.valid.map((valid) => [valid.name, readFileSync(samplePath('valid', valid.name))]));
    const made = DAMAGED.find((sample) => sample.name === name)!.make(images.get(base)!, images);
    t.true(made.equals(readFileSync(path)));
  });

  test(`${name}: verify and load refuse it`, async (t) => {
    const folder = workspace(t);
    const judge = new Judge(folder, 'judged', [validFolder()]);
    judge.put(readFileSync(path));
    t.is(await judge.verify(), code === 'CORRUPT' ? 'damaged' : code);
    judgeLoad(t, await judge.load(), 'file');
    judgeLoad(t, await loadThroughPipe(folder, path), 'pipe');
  });

  function judgeLoad(t: ExecutionContext, result: Buffer | string, how: 'file' | 'pipe'): void {
    const mayPass = passes === how || passes === 'both';
    if (typeof result === 'string' || !mayPass) {
      t.is(typeof result === 'string' ? result : 'taken', code, `load from a ${how}`);
      return;
    }
    const { memoryXxh3 } = samples.valid.find((valid) => valid.name === base)!;
    t.is(xxh3Of(result).toString('hex'), memoryXxh3, `load from a ${how} gives wrong memory`);
  }
}

test('the second reader refuses every damaged sample, and says where', async (t) => {
  const reason = missingTool(t, ['python3', 'zstd']);
  if (reason !== undefined) return skip(t, reason);
  const refusals = await refusalsOfSecondReader(
    samples.damaged.map(({ name }) => samplePath('damaged', name)),
    [validFolder()],
  );
  t.is(refusals.size, samples.damaged.length);
  for (const [image, refusal] of refusals) t.regex(refusal ?? 'none', / is damaged at offset \d+: /, image);
});

test('the command of the second reader: exit code 1 for damage, 2 where nothing can be said', async (t) => {
  const reason = missingTool(t, ['python3', 'zstd']);
  if (reason !== undefined) return skip(t, reason);
  t.is((await runSecondReader([samplePath('damaged', 'flip-chunk')])).exitCode, 1);
  t.is((await runSecondReader([samplePath('damaged', 'no such sample')])).exitCode, 2);
  t.is((await runSecondReader([])).exitCode, 2);
});

async function loadThroughPipe(folder: Workspace, image: string): Promise<Buffer | string> {
  const [pipe, target] = [makeFifo(folder.path('pipe')), folder.path('piped.raw')];
  writeFileSync(target, '');
  const loading = codeOf(async () => {
    await load(pipe, target, { threads: 1, force: true, baseDirs: [validFolder()] });
    return readFileSync(target);
  });
  return (await Promise.all([loading, cat(image, pipe)]))[0];
}
