/**
 * Coverage-guided fuzzing of the readers in TypeScript: `node dist/test/fuzz/fuzz.js [SECONDS [TARGET...]]`, 5 s a target by default.
 *
 * Seeds and dictionaries lie in test/fuzz/. FUZZ_CORPUS=FOLDER keeps what is found beyond the seeds and begins with it the next time,
 * FUZZ_SEED=N makes other changes. An input that ends in anything but an answer or a refusal (another error, a crash, thirty
 * seconds without a sign of life, too much memory) is made small and left in dist/fuzz/; `FUZZ_ONLY=FILE ... 1 TARGET` runs it again. Exit code 1 then.
 */
import { fork } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BUNDLE, buildReaders } from './instrument.js';
import type { FuzzOrder, FuzzWord } from './loop.js';

const TARGETS = ['image', 'dumps', 'machines', 'snapshots', 'texts'];
const HERE = fileURLToPath(new URL('../../../test/fuzz/', import.meta.url));
const LOOP = fileURLToPath(new URL('loop.js', import.meta.url));
const SILENT_MS_MAX = 30_000;
const SMALLER_TRIES = 200;

type Ending = { readonly fault: string } | Extract<FuzzWord, { kind: 'done' }>;

function runLoop(order: FuzzOrder): Promise<Ending> {
  return new Promise((resolve) => {
    // Its own folder, so that what a dead one leaves goes with it.
    const child = fork(LOOP, [JSON.stringify(order)], {
      execArgv: ['--max-old-space-size=1024'],
      env: { ...process.env, VMSNAP_FUZZ_FOLDER: dirname(order.current), SOURCE_DATE_EPOCH: '1700000000' },
    });
    let ending: Ending | undefined;
    const silent = setTimeout(() => {
      ending = { fault: `it hung for ${SILENT_MS_MAX / 1000} s` };
      child.kill('SIGKILL');
    }, SILENT_MS_MAX);
    const listen = () => {
      silent.refresh();
    };
    child.on('message', (word: FuzzWord) => {
      listen();
      if (word.kind === 'failed') ending = { fault: word.error };
      if (word.kind === 'done') ending = word;
    });
    child.once('exit', (code, signal) => {
      clearTimeout(silent);
      resolve(ending ?? { fault: `the process ended with ${signal ?? code}` });
    });
  });
}

/** Without line numbers, so that a smaller input that fails at the same place is known as such. */
const kindOf = (fault: string) => fault.split('\n').slice(0, 3).join('\n').replaceAll(/\d+/g, 'N');

/** Leaves out pieces, large ones first, as long as it fails in the same way. */
async function makeSmaller(order: FuzzOrder, file: string, fault: string): Promise<void> {
  let bytes = readFileSync(file);
  const trial = `${file}.trial`;
  let tries = 0;
  for (let piece = bytes.length >> 1; piece >= 1 && tries < SMALLER_TRIES; piece >>= 1) {
    for (let at = 0; at < bytes.length && tries < SMALLER_TRIES; tries++) {
      const less = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + piece)]);
      writeFileSync(trial, less);
      const ending = await runLoop({ ...order, only: trial });
      if ('fault' in ending && kindOf(ending.fault) === kindOf(fault)) bytes = less;
      else at += piece;
    }
  }
  rmSync(trial, { force: true });
  writeFileSync(file, bytes);
}

async function fuzzTarget(target: string, seconds: number, counters: number, scratch: string): Promise<boolean> {
  const out = dirname(BUNDLE);
  const found = join(process.env.FUZZ_CORPUS ?? join(scratch, 'corpus'), target);
  mkdirSync(found, { recursive: true });
  const current = join(scratch, `current-${target}`);
  const order: FuzzOrder = {
    target,
    counters,
    seconds,
    seed: Number(process.env.FUZZ_SEED ?? 1),
    corpus: [join(HERE, 'corpus', target), found],
    dictionary: join(HERE, `${target}.dict`),
    current,
    only: process.env.FUZZ_ONLY,
  };
  const ending = await runLoop(order);
  if (!('fault' in ending)) {
    const { runs, corpus, covered, peakBytes } = ending;
    const mib = Math.ceil(peakBytes / 2 ** 20);
    console.log(`${target}: ${runs} runs, ${covered} places reached, corpus of ${corpus}, peak ${mib} MiB`);
    return true;
  }
  if (!existsSync(current)) {
    console.error(`${target}: FAILED before its first input\n${ending.fault}`);
    return false;
  }
  const file = join(out, `crash-${target}`);
  copyFileSync(current, file);
  await makeSmaller(order, file, ending.fault);
  console.error(`${target}: FAILED, see ${file}\n${ending.fault}`);
  return false;
}

const [seconds = '5', ...wanted] = process.argv.slice(2);
const counters = await buildReaders();
const scratch = mkdtempSync('/dev/shm/vmsnap-fuzz-');
let sound = true;
try {
  for (const target of wanted.length > 0 ? wanted : TARGETS)
    sound = (await fuzzTarget(target, Number(seconds), counters, scratch)) && sound;
} finally {
  rmSync(scratch, { recursive: true, force: true });
}
process.exitCode = sound ? 0 : 1;
