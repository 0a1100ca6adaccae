/** The memory digest of an image against one taken by the plain words of SPEC.md from the memory itself. */
import test from 'ava';
import fc from 'fast-check';
import { memoryDigest, sumHex, sumRegions } from '../../formats/vmsnap/memoryDigest.js';
import { native } from '../../native/binding.js';
import { KIB, MIB, mixedMemory } from '../lib/support/memory.js';
import { workspace } from '../lib/support/workspace.js';
import { xxh3Of } from './forge.js';
import { smallImage } from './support/smallImages.js';

const BLOCK_BYTES = 4096;
const MODULUS = 2n ** 128n;

function leafDigest(leaf: Buffer): Buffer {
  const padded = Buffer.concat([leaf, Buffer.alloc(MIB - leaf.length)]);
  const blocks: Buffer[] = [];
  for (let at = 0; at < MIB; at += BLOCK_BYTES) blocks.push(xxh3Of(padded.subarray(at, at + BLOCK_BYTES)));
  return xxh3Of(Buffer.concat(blocks));
}

function regionSum(region: number, memory: Buffer): bigint {
  let sum = 0n;
  for (let leaf = 0; leaf * MIB < memory.length; leaf++) {
    const bytes = memory.subarray(leaf * MIB, (leaf + 1) * MIB);
    if (bytes.every((byte) => byte === 0)) continue;
    const contribution = Buffer.alloc(16);
    contribution.writeUInt32LE(region, 0);
    contribution.writeBigUInt64LE(BigInt(leaf), 8);
    sum += BigInt(`0x${xxh3Of(Buffer.concat([contribution, leafDigest(bytes)])).toString('hex')}`);
  }
  return sum % MODULUS;
}

test('the digest of a saved machine is what SPEC.md says, in any geometry', async (t) => {
  const sizes = [640 * KIB, 2 * MIB, 448 * KIB];
  const memory = mixedMemory(3 * MIB + 64 * KIB, 5);
  memory.fill(0, MIB, 2 * MIB);
  let start = 0;
  const regions = sizes.map((sizeBytes) => {
    const bytes = memory.subarray(start, start + sizeBytes);
    start += sizeBytes;
    return bytes;
  });
  const expected = memoryDigest(
    regions.map((bytes, i) => ({ sizeBytes: bytes.length, sum: regionSum(i, bytes).toString(16).padStart(32, '0') })),
  );
  for (const geometry of [
    {},
    { segmentSize: 4 * MIB, chunkSize: 256 * KIB },
    { pageSize: 64 * KIB, chunkSize: 64 * KIB },
  ]) {
    const { digest } = await smallImage(
      workspace(t),
      { ...geometry, regions: sizes.map((sizeBytes, i) => ({ name: `r${i}`, gpa: i * 2 ** 32, sizeBytes })) },
      memory,
    );
    t.is(digest, expected);
  }
});

test('sums of several threads add up modulo 2^128', (t) => {
  const word = fc.bigInt({ min: 0n, max: 2n ** 64n - 1n });
  fc.assert(
    fc.property(fc.array(fc.tuple(word, word), { maxLength: 6 }), (parts) => {
      const sums = sumRegions(
        parts.map((pair) => BigUint64Array.from(pair)),
        1,
      );
      const expected = parts.reduce((sum, [low, high]) => sum + low + (high << 64n), 0n) % MODULUS;
      t.is(BigInt(`0x${sumHex(sums, 0)}`), expected);
    }),
  );
});

test('zero leaves add nothing', (t) => {
  const leaves = new Uint8Array(16);
  const sum = new BigUint64Array(2);
  native.digestSegment(new Uint8Array(256), 256, BLOCK_BYTES, new Uint8Array(0), new BigUint64Array(0), leaves);
  t.is(Buffer.from(leaves).toString('hex'), leafDigest(Buffer.alloc(0)).toString('hex'));
  native.addLeaves(3, 9, leaves, 1, sum);
  t.deepEqual([...sum], [0n, 0n]);
});
