/**
 * Committed files of formats whose programs no package has, put down byte by byte in another language (test/samples/foreign/make.py):
 * a reader that has misread a layout in the same way as the writers of the other tests is found here.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import test from 'ava';
import type { MemoryFormat } from '../../formats/memoryFile.js';
import { inspectMemoryFile, load, type SaveOptions, save } from '../../lib/index.js';
import { ROOT } from '../cli/support/paths.js';
import { sameBytes } from '../lib/support/expect.js';
import { writeSparse } from '../lib/support/memory.js';
import { workspace } from '../lib/support/workspace.js';

const FOLDER = join(ROOT, 'test/samples/foreign');
const sample = (name: string) => join(FOLDER, name);

interface Expected {
  readonly regions: readonly (readonly [gpa: number, sizeBytes: number])[];
  readonly sha256: string;
}

const EXPECTED = JSON.parse(readFileSync(sample('expected.json'), 'utf8')) as Record<string, Expected>;

interface Case {
  readonly format: MemoryFormat;
  readonly attachments: readonly string[];
  readonly options?: SaveOptions;
}

const CASES: Readonly<Record<string, Case>> = {
  lime: { format: 'lime', attachments: [] },
  avml: { format: 'avml', attachments: [] },
  'firecracker/memory': {
    format: 'firecracker',
    attachments: ['vmstate'],
    options: { vmstate: sample('firecracker/vmstate') },
  },
  'firecracker/diff': {
    format: 'firecracker',
    attachments: ['vmstate'],
    options: { vmstate: sample('firecracker/vmstate'), diffBase: sample('firecracker/memory') },
  },
  'cloud-hypervisor': { format: 'cloud-hypervisor', attachments: ['config.json', 'state.json'] },
};

test('every sample is told of', (t) => {
  t.deepEqual(Object.keys(EXPECTED).sort(), Object.keys(CASES).sort());
});

for (const [name, { format, attachments, options = {} }] of Object.entries(CASES)) {
  test(`the committed ${name} comes back`, async (t) => {
    const folder = workspace(t);
    const source = name === 'firecracker/diff' ? folder.path('diff') : sample(name);
    // Git keeps no holes.
    if (name === 'firecracker/diff') writeSparse(source, readFileSync(sample(name)));
    const { vmstate, diffBase } = options;
    const report = (await inspectMemoryFile(source, { vmstate, diffBase }))!;
    t.is(report.format, format);
    t.deepEqual(
      report.attachments.map((part) => part.name),
      attachments,
    );
    t.deepEqual(
      report.memory.regions.map(({ gpa, sizeBytes }) => [gpa, sizeBytes]),
      EXPECTED[name]!.regions as [number, number][],
    );
    await save(source, folder.path('image'), { ...options, frozen: true, threads: 1 });
    await load(folder.path('image'), folder.path('back'));
    t.is(
      createHash('sha256')
        .update(readFileSync(folder.path('back')))
        .digest('hex'),
      EXPECTED[name]!.sha256,
    );
  });
}

test('the samples are what their script makes', (t) => {
  const folder = workspace(t);
  const made = folder.path('made');
  execFileSync('python3', [sample('make.py'), made]);
  const names = readdirSync(made, { recursive: true, encoding: 'utf8' }).filter((name) =>
    statSync(join(made, name)).isFile(),
  );
  t.true(names.length >= 9);
  for (const name of names) sameBytes(t, readFileSync(sample(name)), readFileSync(join(made, name)), name);
});
