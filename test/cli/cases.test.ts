/** The contract of the command line, case by case. */
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Case } from './cases/case.js';
import { chainCases } from './cases/chain.js';
import { compareCases } from './cases/compare.js';
import { doctorCases } from './cases/doctor.js';
import { estimateCases } from './cases/estimate.js';
import { extractCases } from './cases/extract.js';
import { inspectCases } from './cases/inspect.js';
import { loadCases } from './cases/load.js';
import { saveCases } from './cases/save.js';
import { storeCases } from './cases/store.js';
import { usageCases } from './cases/usage.js';
import { verifyCases } from './cases/verify.js';
import { prepare } from './support/fixtures.js';
import { temporaryFolder } from './support/folder.js';
import { runCli } from './support/runCli.js';

const GROUPS: Readonly<Record<string, readonly Case[]>> = {
  usage: usageCases,
  save: saveCases,
  load: loadCases,
  inspect: inspectCases,
  verify: verifyCases,
  compare: compareCases,
  estimate: estimateCases,
  extract: extractCases,
  doctor: doctorCases,
  chain: chainCases,
  store: storeCases,
};

for (const [group, cases] of Object.entries(GROUPS)) {
  for (const one of cases) test(`${group}: ${one.title}`, runCase, one);
}

async function runCase(t: ExecutionContext, one: Case): Promise<void> {
  const folder = temporaryFolder(t);
  await prepare(folder, one.prepare ?? []);
  const before = readdirSync(folder).sort();
  const result = await runCli(one.args, {
    cwd: folder,
    ...(one.env === undefined ? {} : { env: one.env }),
    ...(one.journal === undefined ? {} : { journal: one.journal }),
    ...(one.stdin === undefined ? {} : { input: readFileSync(join(folder, one.stdin)) }),
  });
  t.is(result.exitCode, one.exitCode, `stderr: ${result.stderr}`);
  expectText(t, 'stdout', result.stdout, one.stdout);
  expectText(t, 'stderr', result.stderr, one.stderr);
  t.deepEqual(readdirSync(folder).sort(), [...(one.files ?? before)].sort(), 'files afterwards');
  for (const [a, b] of one.same ?? []) {
    t.true(readFileSync(join(folder, a)).equals(readFileSync(join(folder, b))), `${a} is not ${b}`);
  }
}

function expectText(t: ExecutionContext, what: string, text: string, expected: Case['stdout']): void {
  if (expected === undefined) return;
  if (expected === '') {
    t.is(text, '', what);
    return;
  }
  for (const pattern of [expected].flat() as RegExp[]) t.regex(text, pattern, what);
}
