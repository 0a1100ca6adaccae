/** A DSA device that does whatever is wrong in the middle of a save: the image is right, and who should know is told. */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { type DsaDevice, type SaveOptions, type SaveResult, save } from '../../lib/index.js';
import { type DsaFault, type DsaFaultKind, native } from '../../native/binding.js';
import { impatientDevice, QUEUE_BY_WAY } from './support/dsa.js';
import { failsWith, sameBytes } from './support/expect.js';
import { KIB, MIB, mixedMemory, PAGE, randomMemory } from './support/memory.js';
import { startWork } from './support/work.js';
import { type Workspace, workspace } from './support/workspace.js';

process.env.SOURCE_DATE_EPOCH = '1700000000';

const MEMORY = Buffer.concat([mixedMemory(5 * MIB), Buffer.alloc(4 * MIB), randomMemory(MIB), mixedMemory(2 * MIB, 9)]);
const ALWAYS = 1_000_000;
const EAGAIN = 11;
const EIO = 5;

interface Fixture {
  readonly folder: Workspace;
  readonly path: string;
  readonly expected: Buffer;
}

const OPTIONS = { segmentSize: MIB, chunkSize: 64 * KIB, frozen: true, force: true, threads: 2 } as const;

async function fixture(t: ExecutionContext): Promise<Fixture> {
  const folder = workspace(t);
  const path = folder.path('memory');
  writeFileSync(path, MEMORY);
  await save(path, folder.path('expected'), { ...OPTIONS, detector: 'scalar' });
  return { folder, path, expected: readFileSync(folder.path('expected')) };
}

/** A save on the device, of which the image must be right whatever happens. */
async function saveOn(
  t: ExecutionContext,
  { folder, path, expected }: Fixture,
  device: DsaDevice,
  options: SaveOptions = {},
): Promise<SaveResult> {
  const saved = await save(path, folder.path('image'), {
    ...OPTIONS,
    detector: 'dsa-emulated',
    dsa: { device, selfCheck: options.dsa?.selfCheck },
  });
  sameBytes(t, readFileSync(folder.path('image')), expected, 'the image');
  t.deepEqual(folder.leftovers(), []);
  return saved;
}

const codes = (saved: SaveResult): string[] => saved.warnings.map(({ code }) => code);

function addFaults(device: DsaDevice, faults: readonly DsaFault[]): void {
  for (const fault of faults) if (native.dsaAddFault(device.handle, fault) !== 0) throw new Error('no fault added');
}

/** What is mended on the way: no warning. */
const HARMLESS: readonly (readonly [string, readonly DsaFault[]])[] = [
  ['page faults at the start, in the middle and at the end of compares', [0, 1, PAGE / 2, PAGE - 1].map(pageFault)],
  ['page faults in every compare', [{ kind: 'page-fault', count: ALWAYS, value: 64 }]],
  ['write faults', [{ kind: 'write-fault', first: 10, count: 200, value: 512 }]],
  ['batch lists that cannot be read to their end', [{ kind: 'batch-list-fault', first: 1, count: 5, value: 3 }]],
  ['a queue that is full now and then', [{ kind: 'queue-full', first: 3, count: 20 }]],
  ['statuses of trouble, which the device gets over', [{ kind: 'status', first: 30, value: 0x22 }]],
  ['answers that come late', [{ kind: 'late', first: 5, count: 3, value: 20 }]],
];

function pageFault(value: number, i: number): DsaFault {
  return { kind: 'page-fault', first: 10 + i * 50, count: 40, value };
}

for (const [way, queue] of Object.entries(QUEUE_BY_WAY)) {
  test(`${way}: faults that are mended`, async (t) => {
    const made = await fixture(t);
    for (const [what, faults] of HARMLESS) {
      const device = impatientDevice(t, { queues: [queue] });
      addFaults(device, faults);
      const saved = await saveOn(t, made, device);
      // A dedicated queue that is full drops what it is given, and tells nobody: that is a loss.
      const dropped = way === 'movdir64b' && faults[0]!.kind === 'queue-full';
      if (!dropped) t.deepEqual(codes(saved), [], what);
    }
  });

  test(`${way}: faults that make a queue sick, or cost it its work`, async (t) => {
    const made = await fixture(t);
    const plans: readonly (readonly DsaFault[])[] = [
      [{ kind: 'never-written', first: 40, count: 3 }],
      [{ kind: 'status', first: 0, count: ALWAYS, value: 0x1f }],
      [{ kind: 'device-lost', first: 8 }],
      [{ kind: 'device-halted', first: 8 }],
    ];
    for (const faults of plans) {
      const device = impatientDevice(t, { queues: [queue] });
      addFaults(device, faults);
      const saved = await saveOn(t, made, device);
      t.deepEqual(codes(saved), ['dsa-queue-sick'], `${JSON.stringify(faults)}`);
      t.regex(saved.warnings[0]!.message, /the DSA queue .*wq0\.0 was set aside \(.+\)/);
      t.true(saved.run.dsa!.pagesCheckedByCpu > 0);
      t.true(saved.run.dsa!.queues[0]!.counters.timesSick > 0);
    }
  });
}

test('write() that takes a part, or fails', async (t) => {
  const made = await fixture(t);
  for (const way of ['write-batch', 'write-single']) {
    for (const fault of [
      { kind: 'short-write', first: 0, count: ALWAYS, value: 1 },
      { kind: 'write-error', first: 3, count: 5, value: EAGAIN },
      { kind: 'write-error', first: 3, count: 1, value: EIO },
    ] satisfies DsaFault[]) {
      const device = impatientDevice(t, { queues: [QUEUE_BY_WAY[way]!] });
      addFaults(device, [fault]);
      await saveOn(t, made, device);
    }
  }
  t.pass();
});

test('one queue of two is lost: the other goes on', async (t) => {
  const made = await fixture(t);
  const device = impatientDevice(t, { queues: [{}, { mode: 'dedicated' }] });
  addFaults(device, [{ kind: 'never-written', queue: 0, count: ALWAYS }]);
  const saved = await saveOn(t, made, device);
  t.deepEqual(codes(saved), ['dsa-queue-sick']);
  t.true(saved.run.dsa!.queues[1]!.counters.pagesZero > 0);
  t.regex(saved.warnings[0]!.message, /wq0\.0/);
});

test('a device that is lost stays lost for the next save, which the CPU does, and that is told again', async (t) => {
  const made = await fixture(t);
  const device = impatientDevice(t);
  addFaults(device, [{ kind: 'device-lost', first: 8 }]);
  t.deepEqual(codes(await saveOn(t, made, device)), ['dsa-queue-sick']);
  const saved = await saveOn(t, made, device);
  t.deepEqual(codes(saved), ['dsa-queue-sick']);
  t.is(saved.run.dsa!.pagesZero, 0);
  t.is(saved.run.dsa!.pagesCheckedByCpu, MEMORY.length / PAGE);
});

test('wrong answers with a self-check: found, told, and the device is believed no longer', async (t) => {
  const made = await fixture(t);
  for (const count of [1, 500]) {
    const device = impatientDevice(t);
    addFaults(device, [{ kind: 'wrong-answer', first: 100, count }]);
    const saved = await saveOn(t, made, device, { dsa: { selfCheck: true } });
    t.deepEqual(codes(saved), ['dsa-wrong-answer']);
    const { wrong, pages } = saved.run.dsa!.selfCheck!;
    t.true(wrong >= 1 && wrong <= count, `${wrong} wrong of ${pages}`);
    t.regex(saved.warnings[0]!.message, new RegExp(`wrong about ${wrong} of ${pages} pages`));
    t.false(device.reports().usable);
    const after = await saveOn(t, made, device, { dsa: { selfCheck: true } });
    t.is(after.run.dsa!.selfCheck!.pages, 0, 'nobody asks it any more');
  }
});

const RANDOM_KINDS: readonly DsaFaultKind[] = [
  'page-fault',
  'write-fault',
  'status',
  'never-written',
  'late',
  'batch-list-fault',
  'queue-full',
  'short-write',
];

for (const [way, queue] of Object.entries(QUEUE_BY_WAY)) {
  test(`${way}: random faults, never a wrong image`, async (t) => {
    const made = await fixture(t);
    for (let randomSeed = 1; randomSeed <= 8; randomSeed++) {
      const device = impatientDevice(t, {
        queues: [queue, queue],
        random: { randomSeed, randomPermille: randomSeed * 4, randomKinds: RANDOM_KINDS },
      });
      for (const threads of [1, 3]) {
        const { folder, path, expected } = made;
        await save(path, folder.path('image'), { ...OPTIONS, threads, detector: 'dsa-emulated', dsa: { device } });
        sameBytes(t, readFileSync(folder.path('image')), expected, `the image with seed ${randomSeed}`);
      }
    }
  });
}

test('a source that is cut short under the device: the error of the CPU path, and no signal', async (t) => {
  const folder = workspace(t);
  const path = folder.path('memory');
  const big = Buffer.concat([MEMORY, MEMORY, MEMORY, MEMORY]);
  for (const cutBytes of [0, PAGE, 9 * MIB + 5000, big.length - PAGE]) {
    writeFileSync(path, big);
    const device = impatientDevice(t, { queues: [{}, { mode: 'dedicated' }] });
    let cut = false;
    const saving = save(path, folder.path('image'), {
      ...OPTIONS,
      detector: 'dsa-emulated',
      dsa: { device },
      progressIntervalSeconds: 0.001,
      onProgress: ({ doneBytes }) => {
        if (cut || doneBytes === 0) return;
        cut = true;
        truncateSync(path, cutBytes);
      },
    });
    await failsWith(t, 'SOURCE_CHANGED', saving);
    t.true(cut);
    t.deepEqual(folder.leftovers(), []);
  }
});

test('aborted in the middle with segments ahead: nothing is left, and the device can be closed', async (t) => {
  const { folder, path } = await fixture(t);
  for (let round = 0; round < 10; round++) {
    const device = impatientDevice(t);
    const controller = new AbortController();
    const reason = new Error('enough');
    const saving = save(path, folder.path('new'), {
      ...OPTIONS,
      detector: 'dsa-emulated',
      dsa: { device },
      signal: controller.signal,
      progressIntervalSeconds: 0.001,
      onProgress: ({ doneBytes }) => {
        if (doneBytes > round * MIB) controller.abort(reason);
      },
    });
    const error = await saving.then(
      () => undefined,
      (rejection: unknown) => rejection,
    );
    t.true(error === undefined || error === reason);
    t.deepEqual(folder.leftovers(), []);
    device.close();
  }
});

test('killed in the middle with segments ahead: what stood there stands, and the next save sweeps', async (t) => {
  const { folder, path, expected } = await fixture(t);
  const image = folder.path('image');
  writeFileSync(path, Buffer.concat([MEMORY, MEMORY, MEMORY, MEMORY]));
  writeFileSync(image, 'an older image');
  let killed = 0;
  for (let round = 0; round < 6; round++) {
    // What an emulated device has in the folder for temporary files goes with this test's folder.
    const work = startWork(
      { operation: 'save', source: path, image, options: { ...OPTIONS, detector: 'dsa-emulated' } },
      { env: { TMPDIR: folder.folder } },
    );
    await work.moved;
    work.child.kill('SIGKILL');
    const outcome = await work.outcome;
    if (outcome.ok) writeFileSync(image, 'an older image');
    else killed++;
    t.is(readFileSync(image, 'utf8'), 'an older image');
  }
  t.true(killed > 0);
  writeFileSync(path, MEMORY);
  await save(path, image, { ...OPTIONS, detector: 'dsa-emulated' });
  sameBytes(t, readFileSync(image), expected, 'the image');
  t.deepEqual(folder.leftovers(), []);
});
