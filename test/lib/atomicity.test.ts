/** A name holds the whole old file or the whole new one, at any moment; only the owner can read it; two writers never mix. */
import {
  closeSync,
  existsSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { load, save, verify } from '../../lib/index.js';
import { native } from '../../native/binding.js';
import { failsWith, sameBytes } from './support/expect.js';
import { FolderWatch } from './support/folderWatch.js';
import { MIB, mixedMemory, PAGE, randomMemory } from './support/memory.js';
import { Pipe } from './support/pipes.js';
import { type RunningWork, startWork, succeed } from './support/work.js';
import { type Workspace, workspace } from './support/workspace.js';

process.umask(0);

const MEMORY = mixedMemory(5 * MIB);
const OLD = Buffer.from('what stood there before');

interface Fixture {
  readonly folder: Workspace;
  readonly source: string;
  readonly image: string;
}

async function fixture(t: ExecutionContext): Promise<Fixture> {
  const folder = workspace(t);
  const [source, image] = [folder.path('memory'), folder.path('image')];
  writeFileSync(source, MEMORY);
  await save(source, image, { segmentSize: MIB, threads: 2 });
  return { folder, source, image };
}

/** A save that waits for more of its standard input; `finish` lets it come to its end. */
async function startWaitingSave(image: string): Promise<{ work: RunningWork; finish(): Promise<void>; fail(): void }> {
  const pipe = new Pipe();
  const options = { segmentSize: MIB, threads: 1 };
  const work = startWork({ operation: 'save', source: '-', image, options }, { stdin: pipe.readFd });
  pipe.closeRead();
  pipe.feed(MEMORY.subarray(0, 2 * MIB), false);
  await work.moved;
  return {
    work,
    finish: async () => {
      closeSync(pipe.writeFd);
      succeed(await work.outcome);
    },
    // Half a page: the stream is no memory.
    fail: () => pipe.feed(Buffer.alloc(PAGE / 2), true),
  };
}

const temporaryOf = (name: string): string => `.${name}.vmsnap-tmp`;

test('an image is readable by its owner alone, from the first moment on', async (t) => {
  const folder = workspace(t);
  const watch = new FolderWatch(folder.folder);
  const { finish } = await startWaitingSave(folder.path('image'));
  t.deepEqual(readdirSync(folder.folder), [temporaryOf('image')]);
  await finish();
  watch.close();
  t.is(statSync(folder.path('image')).mode & 0o7777, 0o600);
  t.deepEqual([...watch.modes.get(temporaryOf('image'))!], ['600']);
});

test('so is a loaded target, until it gets the permissions that are wanted', async (t) => {
  const { folder, image } = await fixture(t);
  const watch = new FolderWatch(folder.folder);
  await load(image, folder.path('private'));
  await load(image, folder.path('shared'), { mode: 0o644, owner: { uid: process.getuid!(), gid: process.getgid!() } });
  await load(image, folder.path('placed'), { inPlace: true });
  watch.close();
  t.is(statSync(folder.path('private')).mode & 0o7777, 0o600);
  t.is(statSync(folder.path('shared')).mode & 0o7777, 0o644);
  t.is(statSync(folder.path('placed')).mode & 0o7777, 0o600);
  for (const name of ['private', 'placed']) t.false(watch.modes.get(name)?.has('644') ?? false);
});

test('a save that fails leaves nothing, and an old image as it was', async (t) => {
  const { folder, image } = await fixture(t);
  const before = readFileSync(image);
  const pipe = new Pipe();
  const options = { segmentSize: MIB, force: true };
  const work = startWork({ operation: 'save', source: '-', image, options }, { stdin: pipe.readFd });
  pipe.closeRead();
  pipe.feed(randomMemory(3 * MIB + 5), true);
  t.false((await work.outcome).ok);
  sameBytes(t, readFileSync(image), before, 'the old image');
  t.deepEqual(folder.leftovers(), []);
  const { work: other, fail } = await startWaitingSave(folder.path('new'));
  fail();
  t.false((await other.outcome).ok);
  t.deepEqual(readdirSync(folder.folder).sort(), ['image', 'memory']);
});

test('a load that fails leaves nothing, and an old target as it was', async (t) => {
  const { folder, image } = await fixture(t);
  const damaged = readFileSync(image);
  damaged[Math.floor(damaged.length / 2)]! ^= 1;
  writeFileSync(folder.path('damaged'), damaged);
  await failsWith(t, 'CORRUPT', load(folder.path('damaged'), folder.path('target')));
  t.false(existsSync(folder.path('target')));
  writeFileSync(folder.path('target'), OLD);
  await failsWith(t, 'CORRUPT', load(folder.path('damaged'), folder.path('target'), { force: true }));
  sameBytes(t, readFileSync(folder.path('target')), OLD, 'the old target');
  t.deepEqual(folder.leftovers(), []);
});

test('a load in place that fails marks what it has overwritten, and takes away what it has made', async (t) => {
  const { folder, image } = await fixture(t);
  const damaged = readFileSync(image);
  damaged[Math.floor(damaged.length / 2)]! ^= 1;
  writeFileSync(folder.path('damaged'), damaged);
  await failsWith(t, 'CORRUPT', load(folder.path('damaged'), folder.path('target'), { inPlace: true }));
  t.false(existsSync(folder.path('target')));
  t.deepEqual(folder.leftovers(), []);
  writeFileSync(folder.path('target'), OLD);
  await failsWith(t, 'CORRUPT', load(folder.path('damaged'), folder.path('target'), { inPlace: true }));
  t.deepEqual(folder.leftovers(), ['.target.partial']);
  await load(image, folder.path('target'), { inPlace: true });
  t.deepEqual(folder.leftovers(), []);
  sameBytes(t, readFileSync(folder.path('target')), MEMORY);
});

test('a name that is taken', async (t) => {
  const { folder, source, image } = await fixture(t);
  const before = readFileSync(image);
  await failsWith(t, 'EXISTS', save(source, image), /exists already/);
  sameBytes(t, readFileSync(image), before, 'the image');
  writeFileSync(folder.path('target'), OLD);
  await failsWith(t, 'EXISTS', load(image, folder.path('target')), /exists already/);
  sameBytes(t, readFileSync(folder.path('target')), OLD, 'the target');
  await load(image, folder.path('target'), { force: true });
  sameBytes(t, readFileSync(folder.path('target')), MEMORY);
  await save(source, image, { force: true });
  t.true((await verify(image)).intact);
  t.deepEqual(folder.leftovers(), []);
});

test('a name that is taken while the save runs', async (t) => {
  const folder = workspace(t);
  const { work, fail: _, finish } = await startWaitingSave(folder.path('image'));
  writeFileSync(folder.path('image'), OLD);
  await t.throwsAsync(finish(), { message: /EXISTS/ });
  t.false((await work.outcome).ok);
  sameBytes(t, readFileSync(folder.path('image')), OLD, 'what came between');
  t.deepEqual(folder.leftovers(), []);
});

test('two savers to one name: one of them is told', async (t) => {
  const { folder, source, image } = await fixture(t);
  const { finish } = await startWaitingSave(folder.path('new'));
  await failsWith(t, 'LOCKED', save(source, folder.path('new')), /another vmsnap is writing/);
  await failsWith(t, 'LOCKED', load(image, folder.path('new')), /another vmsnap is writing/);
  await finish();
  t.true((await verify(folder.path('new'))).intact);
  t.deepEqual(folder.leftovers(), []);
});

test('many savers to one name in one process: the image is whole, and who lost was told', async (t) => {
  const { folder, source } = await fixture(t);
  const runs = Array.from({ length: 8 }, () => save(source, folder.path('new'), { threads: 1 }));
  const results = await Promise.allSettled(runs);
  const lost = results.filter((result) => result.status === 'rejected').map((result) => result.reason.code);
  t.is(results.length - lost.length, 1);
  t.deepEqual(
    lost.filter((code) => code !== 'LOCKED' && code !== 'EXISTS'),
    [],
  );
  t.true((await verify(folder.path('new'))).intact);
  t.deepEqual(folder.leftovers(), []);
});

test('two loads in place to one target: one of them is told', async (t) => {
  const { folder, image } = await fixture(t);
  writeFileSync(folder.path('target'), OLD);
  const fd = openSync(folder.path('target'), 'r+');
  t.is(native.tryLock(fd), 0);
  await failsWith(t, 'LOCKED', load(image, folder.path('target'), { inPlace: true }));
  closeSync(fd);
  sameBytes(t, readFileSync(folder.path('target')), OLD, 'the target');
  t.deepEqual(folder.leftovers(), []);
});

test('leftovers are swept, those of live savers are not, nor anything else', async (t) => {
  const { folder, source } = await fixture(t);
  const { finish } = await startWaitingSave(folder.path('live'));
  writeFileSync(folder.path(temporaryOf('dead')), OLD);
  writeFileSync(folder.path(temporaryOf('new')), OLD);
  symlinkSync(source, folder.path(temporaryOf('link')));
  mkdirSync(folder.path(temporaryOf('folder')));
  writeFileSync(folder.path('no.vmsnap-tmp'), OLD);
  const saved = await save(source, folder.path('new'));
  t.is(saved.run.sweptFiles, 2);
  t.deepEqual(folder.leftovers().sort(), ['folder', 'link', 'live'].map(temporaryOf));
  t.true(existsSync(folder.path('no.vmsnap-tmp')));
  sameBytes(t, readFileSync(source), MEMORY);
  await finish();
  t.true((await verify(folder.path('live'))).intact);
});

test('a load sweeps as well', async (t) => {
  const { folder, image } = await fixture(t);
  writeFileSync(folder.path(temporaryOf('target')), OLD);
  await load(image, folder.path('target'));
  t.deepEqual(folder.leftovers(), []);
});

test('behind a symbolic link the file is replaced, and the link stays', async (t) => {
  const { folder, source, image } = await fixture(t);
  mkdirSync(folder.path('elsewhere'));
  writeFileSync(folder.path('elsewhere/image'), OLD);
  symlinkSync('elsewhere/image', folder.path('link'));
  await failsWith(t, 'EXISTS', save(source, folder.path('link')));
  await save(source, folder.path('link'), { force: true });
  t.is(readlinkSync(folder.path('link')), 'elsewhere/image');
  t.true((await verify(folder.path('elsewhere/image'))).intact);
  await load(image, folder.path('link'), { force: true });
  t.true(lstatSync(folder.path('link')).isSymbolicLink());
  sameBytes(t, readFileSync(folder.path('elsewhere/image')), MEMORY);
});

test('a symbolic link that points nowhere', async (t) => {
  const { folder, source } = await fixture(t);
  symlinkSync('nowhere/image', folder.path('link'));
  await t.throwsAsync(save(source, folder.path('link')));
  t.is(readlinkSync(folder.path('link')), 'nowhere/image');
  t.deepEqual(folder.leftovers(), []);
});

test('a folder is neither image nor target nor source', async (t) => {
  const { folder, source, image } = await fixture(t);
  mkdirSync(folder.path('folder'));
  for (const force of [false, true]) {
    await failsWith(t, 'USAGE', save(source, folder.path('folder'), { force }), /is a folder/);
    await failsWith(t, 'USAGE', load(image, folder.path('folder'), { force }), /is a folder/);
  }
  await failsWith(t, 'USAGE', load(image, folder.path('folder'), { inPlace: true }), /is a folder/);
  await failsWith(t, 'NOT_FOUND', save(source, folder.path('no/folder')));
  await failsWith(t, 'NOT_FOUND', load(image, folder.path('no/folder')));
  await failsWith(t, 'NOT_FOUND', load(folder.path('none'), folder.path('new')));
  t.deepEqual(readdirSync(folder.path('folder')), []);
});

test('source and image, image and target are never the same file', async (t) => {
  const { folder, source, image } = await fixture(t);
  const before = readFileSync(image);
  symlinkSync(source, folder.path('soft'));
  linkSync(source, folder.path('hard'));
  for (const name of ['memory', 'soft', 'hard']) {
    await failsWith(t, 'USAGE', save(source, folder.path(name), { force: true }), /same file/);
  }
  const regions = [{ name: 'a', gpa: 0, sizeBytes: MIB, file: folder.path('hard') }];
  await failsWith(t, 'USAGE', save(undefined, source, { regions, force: true }), /same file/);
  sameBytes(t, readFileSync(source), MEMORY);
  for (const options of [{ force: true }, { inPlace: true }]) {
    await failsWith(t, 'USAGE', load(image, image, options), /same file/);
  }
  sameBytes(t, readFileSync(image), before, 'the image');
});

test('an attachment and the image are never the same file', async (t) => {
  const { folder, source } = await fixture(t);
  writeFileSync(folder.path('vm.xml'), OLD);
  const attachments = [{ name: 'vm.xml', file: folder.path('vm.xml') }];
  await failsWith(t, 'USAGE', save(source, folder.path('vm.xml'), { force: true, attachments }), /same file/);
  sameBytes(t, readFileSync(folder.path('vm.xml')), OLD, 'the attachment');
});

test('a name that leaves no room for the name of the temporary file', async (t) => {
  const { folder, source } = await fixture(t);
  const longest = folder.path('n'.repeat(255 - temporaryOf('').length));
  await save(source, longest);
  t.true((await verify(longest)).intact);
  await failsWith(t, 'IO', save(source, `${longest}n`), /name is too long/);
  t.deepEqual(folder.leftovers(), []);
});
