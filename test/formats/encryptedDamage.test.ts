/** Encrypted images against accident and against an enemy who lacks the key: nothing goes unseen, and no load gives wrong memory. */
import test, { type ExecutionContext } from 'ava';
import { type KeySources, load, type SaveOptions, verify } from '../../lib/index.js';
import { makeKey } from '../lib/support/keys.js';
import { type Workspace, workspace } from '../lib/support/workspace.js';
import { kindOf, putTogether, type SealedParts, takeSealedApart, withChecksums } from './support/forgeSealed.js';
import { codeOf, Judge } from './support/judge.js';
import { smallImage, tinyMemory } from './support/smallImages.js';

/** Each byte takes some milliseconds; the whole image is gone through with VMSNAP_ALL_FLIPS=1. */
const STEP = process.env.VMSNAP_ALL_FLIPS === '1' ? 1 : 11;

async function sealedImage(folder: Workspace, options: SaveOptions = {}) {
  const key = await makeKey();
  const encryption = { recipients: [key.recipient] };
  const keys: KeySources = { identities: [key.identity] };
  const image = await smallImage(folder, { ...options, encryption }, tinyMemory());
  return { ...image, encryption, keys };
}

/** Refused by whoever has the key: `verify` says damaged or refuses, and `load` refuses. */
async function refused(t: ExecutionContext, judge: Judge, image: Buffer, what: string): Promise<void> {
  judge.put(image);
  const verdict = await judge.verify();
  if (verdict !== 'damaged' && verdict !== 'CORRUPT' && verdict !== 'KEY') t.fail(`${what}: verify says ${verdict}`);
  const loaded = await judge.load();
  if (Buffer.isBuffer(loaded)) t.fail(`${what}: load gives memory`);
}

test('bytes of an encrypted image all over it, changed in turn: each is noticed with the key and without it', async (t) => {
  const folder = workspace(t);
  const { bytes, memory, keys } = await sealedImage(folder);
  const judge = new Judge(folder, 'judged', [], keys);
  const keyless = new Judge(folder, 'judged');
  judge.put(bytes);
  t.is(await judge.verify(), 'intact');
  t.deepEqual(await keyless.verify(), 'intact');
  for (let at = 0; at < bytes.length; at += STEP) {
    judge.put(flipped(bytes, at));
    const verdict = await judge.verify();
    if (verdict !== 'damaged') t.fail(`flip at ${at}: verify with the key says ${verdict}`);
    const outside = await keyless.verify();
    if (outside !== 'damaged') t.fail(`flip at ${at}: verify without the key says ${outside}`);
    const loaded = await judge.load();
    const right = loaded === 'CORRUPT' || (Buffer.isBuffer(loaded) && loaded.equals(memory));
    if (!right) t.fail(`flip at ${at}: load gives ${typeof loaded === 'string' ? loaded : 'wrong memory'}`);
  }
  t.pass();
});

test('bytes changed, and every checksum put right again: noticed with the key', async (t) => {
  const folder = workspace(t);
  const { bytes, keys } = await sealedImage(folder);
  const judge = new Judge(folder, 'judged', [], keys);
  t.true(withChecksums(bytes).equals(bytes));
  let forged = 0;
  let tried = 0;
  for (let at = 3; at < bytes.length; at += STEP) {
    tried++;
    let image: Buffer;
    try {
      image = withChecksums(flipped(bytes, at));
    } catch {
      // A length that leads out of the file: nothing to put right.
      continue;
    }
    // What is taken for a checksum, an offset or the identity was put right, and is as it was.
    if (image.equals(bytes)) continue;
    forged++;
    judge.put(image);
    const verdict = await judge.verify();
    if (verdict === 'intact') t.fail(`change at ${at}: verify says intact`);
    const loaded = await judge.load();
    if (Buffer.isBuffer(loaded)) {
      // What a load by the index does not read: padding and attachments.
      if (!loaded.equals(tinyMemory())) t.fail(`change at ${at}: load gives wrong memory`);
    }
  }
  t.true(forged > tried / 2);
});

/** One bit, another from byte to byte. */
function flipped(image: Buffer, at: number): Buffer {
  const copy = Buffer.from(image);
  copy[at]! ^= 1 << (at % 8);
  return copy;
}

test('an encrypted image that ends too early is noticed', async (t) => {
  const folder = workspace(t);
  const { bytes, keys } = await sealedImage(folder);
  const judge = new Judge(folder, 'judged', [], keys);
  for (let length = 0; length < bytes.length; length += 3 * STEP)
    await refused(t, judge, bytes.subarray(0, length), `${length} bytes`);
  await refused(t, judge, bytes.subarray(0, -1), 'all but the last byte');
  t.pass();
});

const others = (kind: string) => (record: Buffer) => kindOf(record) === kind;

test('records moved, repeated, left out, or taken from another image of the same key are noticed', async (t) => {
  const folder = workspace(t);
  const own = await sealedImage(folder);
  // The same memory for the same recipient, and so as alike as two images can be.
  const twin = await smallImage(folder, { encryption: own.encryption }, tinyMemory());
  const judge = new Judge(folder, 'judged', [], own.keys);
  const forge = async (what: string, change: (parts: SealedParts, other: SealedParts) => void) => {
    const parts = takeSealedApart(own.bytes);
    change(parts, takeSealedApart(twin.bytes));
    const image = putTogether(parts);
    if (image.equals(own.bytes)) t.fail(`${what}: nothing was changed`);
    await refused(t, judge, image, what);
  };
  const swap = (records: Buffer[], a: number, b: number) => {
    [records[a], records[b]] = [records[b]!, records[a]!];
  };
  const segments = takeSealedApart(own.bytes).records.filter(others('VSEG')).length;
  t.is(segments, 2);
  await forge('two segments swapped', ({ records }) => swap(records, 0, 1));
  await forge('their subjects swapped', ({ records }) => {
    const [a, b] = [records[0]!.readBigUInt64LE(32), records[1]!.readBigUInt64LE(32)];
    records[0]!.writeBigUInt64LE(b, 32);
    records[1]!.writeBigUInt64LE(a, 32);
  });
  await forge('the first segment left out', ({ records }) => void records.shift());
  await forge('a segment repeated', ({ records }) => void records.splice(1, 0, records[0]!));
  await forge('the attachment left out', ({ records }) => {
    records.splice(records.findIndex(others('VATT')), 1);
  });
  for (const [i, record] of takeSealedApart(own.bytes).records.entries()) {
    await forge(`record ${i} (${kindOf(record)}) of the twin`, ({ records }, other) => {
      records[i] = other.records[i]!;
    });
  }
  await forge('the head of the twin', (parts, other) => {
    parts.header = other.header;
    parts.manifest = other.manifest;
  });
  await forge('the footer of the twin', (parts, other) => {
    parts.footer = other.footer;
  });
  await forge('all records of the twin', (parts, other) => {
    parts.records = other.records;
  });
  await forge('another name for the machine', (parts) => {
    const at = parts.manifest.indexOf('"kind":"raw"');
    parts.manifest.write('"kind":"rao"', at);
  });
  await forge('the bytes of a chunk from the twin', ({ records }, other) => {
    const head = 64 + records[0]!.readUInt32LE(4);
    other.records[0]!.copy(records[0]!, head, head);
  });
  t.pass();
});

test('a changed stanza of a recipient is no key, or damage, and never another memory', async (t) => {
  const folder = workspace(t);
  const { bytes, keys } = await sealedImage(folder);
  const judge = new Judge(folder, 'judged', [], keys);
  const parts = takeSealedApart(bytes);
  const text = parts.manifest.toString('latin1');
  const at = text.indexOf('"wrappedKey":"') + '"wrappedKey":"'.length;
  const end = text.indexOf('"', at);
  for (let i = at; i < end; i += STEP) {
    const changed = takeSealedApart(bytes);
    changed.manifest[i] = changed.manifest[i] === 0x41 ? 0x42 : 0x41;
    const image = putTogether(changed);
    if (image.equals(bytes)) continue;
    judge.put(image);
    const verdict = await judge.verify();
    if (verdict === 'intact') t.fail(`base64 character ${i - at}: intact`);
    const loaded = await judge.load();
    if (Buffer.isBuffer(loaded)) t.fail(`base64 character ${i - at}: load gives memory`);
  }
  t.pass();
});

test('without the key nothing is loaded, and verify says that nothing is proven', async (t) => {
  const folder = workspace(t);
  const { bytes, keys } = await sealedImage(folder);
  const judge = new Judge(folder);
  judge.put(bytes);
  t.is(await codeOf(() => load(judge.imagePath, folder.path('target'))), 'KEY');
  t.is(await codeOf(() => load(judge.imagePath, folder.path('target'), { keys: { identities: [] } })), 'KEY');
  const outside = await verify(judge.imagePath);
  t.true(outside.intact && outside.sealed);
  const inside = await verify(judge.imagePath, { keys });
  t.true(inside.intact && !inside.sealed);
  t.is(inside.identity, outside.identity);
});
