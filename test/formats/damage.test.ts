/**
 * A campaign of damage over images of each codec and feature: verify notices all of it, load refuses or restores right, salvage
 * never gives a wrong page that it does not list.
 *
 * VMSNAP_DAMAGE=N does N damages of each kind to each image instead of a few; the numbers are drawn from VMSNAP_DAMAGE_SEED.
 */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import test from 'ava';
import { load, salvage, verify } from '../../lib/index.js';
import { type Workspace, workspace } from '../lib/support/workspace.js';
import { type Random, randomNumbers } from '../support/randomNumbers.js';
import { codeOf } from './support/judge.js';
import { allVictims, codecVictim, overridingVictim, salvageFault, type Victim } from './support/victims.js';

const ROUNDS = Number(process.env.VMSNAP_DAMAGE ?? 4);
const SEED = Number(process.env.VMSNAP_DAMAGE_SEED ?? 1);
const ROUND_SECONDS_MAX = 5;
const BLOCK = 4096;
const REFUSALS = ['CORRUPT', 'UNSUPPORTED', 'BASE_MISMATCH'];

/** @returns a damaged copy; one that happens to be as before is not counted. */
type Harm = (image: Buffer, random: Random, other: Buffer) => Buffer;

const HARMS: Readonly<Record<string, Harm>> = {
  'a byte flipped': (image, random) => {
    image[random(image.length)]! ^= 1 << random(8);
    return image;
  },
  'a prefix of it': (image, random) => image.subarray(0, random(image.length)),
  'a block zeroed': (image, random) => {
    const at = blockOf(image, random);
    return image.fill(0, at, Math.min(at + BLOCK, image.length));
  },
  'a block of random bytes': (image, random) => {
    const at = blockOf(image, random);
    for (let i = at; i < Math.min(at + BLOCK, image.length); i++) image[i] = random(256);
    return image;
  },
  'two blocks swapped': (image, random) => {
    const [a, b] = [blockOf(image, random), blockOf(image, random)];
    const [one, two] = [a, b].map((at) => Buffer.from(image.subarray(at, at + BLOCK))) as [Buffer, Buffer];
    if (one.length === two.length) {
      one.copy(image, b);
      two.copy(image, a);
    }
    return image;
  },
  'a block twice': (image, random) => {
    const [from, to] = [blockOf(image, random), blockOf(image, random)];
    image.copy(image, to, from, Math.min(from + BLOCK, image.length));
    return image;
  },
  'bytes put in': (image, random) => {
    const at = random(image.length);
    return Buffer.concat([image.subarray(0, at), Buffer.alloc(1 + random(100), random(256)), image.subarray(at)]);
  },
  'bytes taken out': (image, random) => {
    const at = random(image.length);
    return Buffer.concat([image.subarray(0, at), image.subarray(at + 1 + random(5000))]);
  },
  'records of another image': (image, random, other) => {
    const from = random(Math.min(image.length, other.length));
    other.copy(image, from, from, from + 1 + random(200_000));
    return image;
  },
  'the end of another image': (image, random, other) => {
    const at = random(Math.min(image.length, other.length));
    return Buffer.concat([image.subarray(0, at), other.subarray(at)]);
  },
  'several of these': (image, random, other) => {
    const all = Object.values(HARMS).slice(0, -1);
    let harmed = image;
    for (let i = 2 + random(4); i > 0; i--) harmed = all[random(all.length)]!(Buffer.from(harmed), random, other);
    return harmed;
  },
};

function blockOf(image: Buffer, random: Random): number {
  return random(Math.ceil(image.length / BLOCK)) * BLOCK;
}

const TALLY = { damaged: 0, refused: 0, restored: 0, salvaged: 0, allWhole: 0, notSalvaged: 0 };

class Trial {
  readonly #folder: Workspace;
  readonly #image: string;
  readonly #target: string;
  readonly tally = { ...TALLY };

  constructor(folder: Workspace, victim: Victim) {
    this.#folder = folder;
    this.#image = folder.path('harmed.vms');
    this.#target = folder.path('target');
    if (victim.base !== undefined) writeFileSync(folder.path(victim.base.name), victim.base.image);
  }

  /** @returns what went wrong, or undefined. */
  async run(victim: Victim, harmed: Buffer): Promise<string | undefined> {
    writeFileSync(this.#image, harmed);
    this.tally.damaged++;
    return (await this.#verify()) ?? (await this.#load(victim)) ?? (await this.#salvage(victim));
  }

  async #verify(): Promise<string | undefined> {
    const found = await codeOf(async () => (await verify(this.#image, { threads: 1 })).intact);
    return found === false || REFUSALS.includes(String(found)) ? undefined : `verify says ${found}`;
  }

  async #load(victim: Victim): Promise<string | undefined> {
    const options = { threads: 1, force: true };
    const outcome = await codeOf(async () => (await load(this.#image, this.#target, options)).proven);
    if (REFUSALS.includes(outcome)) {
      this.tally.refused++;
      return this.#folder.leftovers().length === 0 ? undefined : 'load left something behind';
    }
    this.tally.restored++;
    const right = readFileSync(this.#target).equals(victim.memory);
    rmSync(this.#target);
    return right ? undefined : `load gives wrong memory (${outcome})`;
  }

  async #salvage(victim: Victim): Promise<string | undefined> {
    const result = await codeOf(() => salvage(this.#image, this.#target, { threads: 2, force: true }));
    if (typeof result === 'string') {
      this.tally.notSalvaged++;
      return REFUSALS.includes(result) ? undefined : `salvage ends with ${result}`;
    }
    this.tally[result.lost.length === 0 ? 'allWhole' : 'salvaged']++;
    const fault = salvageFault(readFileSync(this.#target), victim.memory, result.lost);
    rmSync(this.#target);
    return fault === undefined ? undefined : `salvage (${result.way}): ${fault}`;
  }
}

const NAMES = ['codec zstd', 'codec zlib', 'codec none', 'base', 'references', 'absent', 'overriding'];

for (const name of NAMES) {
  test(`${name}: no damage goes unseen, none gives wrong memory unsaid`, async (t) => {
    t.timeout(ROUNDS * Object.keys(HARMS).length * ROUND_SECONDS_MAX * 1000);
    const folder = workspace(t);
    const victim = (await allVictims(folder)).find((each) => each.name === name)!;
    // Of another machine: the head, and so the binding, differs.
    const other = (await codecVictim(folder, name === 'codec none' ? 'zstd' : 'none', 44)).image;
    const random = randomNumbers(SEED * 7919 + NAMES.indexOf(name));
    const trial = new Trial(folder, victim);
    for (const [what, harm] of Object.entries(HARMS)) {
      for (let round = 0; round < ROUNDS; round++) {
        const harmed = harm(Buffer.from(victim.image), random, other);
        if (harmed.equals(victim.image) || hasHeadOf(other, harmed)) continue;
        const fault = await trial.run(victim, harmed);
        if (fault !== undefined) {
          if (process.env.VMSNAP_DAMAGE_KEEP !== undefined) writeFileSync(process.env.VMSNAP_DAMAGE_KEEP, harmed);
          t.fail(`${what}, round ${round}: ${fault}`);
        }
      }
    }
    t.log(JSON.stringify(trial.tally));
    t.true(trial.tally.refused > 0 && trial.tally.salvaged + trial.tally.notSalvaged > 0);
  });
}

test('overriding: a record of the image that stands for another time is never taken', async (t) => {
  const folder = workspace(t);
  const victim = overridingVictim(folder);
  const trial = new Trial(folder, victim);
  const random = randomNumbers(SEED);
  for (let i = 0; i < 10 * ROUNDS; i++) {
    // Damage in front, where the records are that others override.
    const harmed = Buffer.from(victim.image);
    harmed[random(Math.floor(harmed.length * 0.9))]! ^= 1 << random(8);
    t.is(await trial.run(victim, harmed), undefined);
  }
});

/** What begins as the other image does is the other image, and its memory is not the victim's. */
function hasHeadOf(other: Buffer, harmed: Buffer): boolean {
  const headBytes = 64 + other.readUInt32LE(32);
  return harmed.subarray(0, headBytes).equals(other.subarray(0, headBytes));
}
