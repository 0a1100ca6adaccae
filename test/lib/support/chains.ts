/** Random chains of images: a machine's memory, changed again and again, each state saved against the one before. */
import { writeFileSync } from 'node:fs';
import fc from 'fast-check';
import { type CodecName, type SaveOptions, type SaveResult, save } from '../../../lib/index.js';
import { KIB, MIB, makeMemory, PAGE_KINDS, type PageKind, type Run, writeSparse } from './memory.js';
import type { Workspace } from './workspace.js';

/** Pages that become something else from one image to the next. */
interface Change {
  readonly page: number;
  readonly pages: number;
  readonly kind: PageKind;
  readonly seed: number;
}

interface Step {
  readonly changes: readonly Change[];
  readonly codec: CodecName;
  readonly chunkSize: number;
  readonly threads: number;
  readonly sparse: boolean;
}

export interface ChainPlan {
  readonly pageSize: number;
  readonly regionPages: readonly number[];
  readonly runs: readonly Run[];
  readonly seed: number;
  /** The first is saved whole, and its changes do not count. */
  readonly steps: readonly Step[];
}

const kinds = fc.constantFrom(...PAGE_KINDS);

const changes = fc.array(
  fc.record({
    page: fc.nat({ max: 900 }),
    pages: fc.oneof({ weight: 3, arbitrary: fc.integer({ min: 1, max: 12 }) }, fc.integer({ min: 100, max: 300 })),
    kind: kinds,
    seed: fc.integer({ min: 1, max: 1_000_000 }),
  }),
  { maxLength: 8 },
);

const steps = fc.array(
  fc.record({
    changes,
    codec: fc.constantFrom<CodecName>('zstd', 'zlib', 'none'),
    chunkSize: fc.constantFrom(16 * KIB, 64 * KIB, MIB),
    threads: fc.integer({ min: 1, max: 3 }),
    sparse: fc.boolean(),
  }),
  { minLength: 2, maxLength: 6 },
);

export const chainPlans: fc.Arbitrary<ChainPlan> = fc.record({
  pageSize: fc.constantFrom(4 * KIB, 4 * KIB, 16 * KIB),
  regionPages: fc.array(fc.oneof(fc.integer({ min: 1, max: 300 }), fc.constantFrom(255, 256, 257)), {
    minLength: 1,
    maxLength: 3,
  }),
  runs: fc.array(fc.record({ kind: kinds, pages: fc.integer({ min: 1, max: 200 }) }), { maxLength: 12 }),
  seed: fc.integer({ min: 1, max: 1_000_000 }),
  steps,
});

export interface Link {
  readonly image: string;
  readonly memory: Buffer;
  readonly saved: SaveResult;
}

/** Makes the images in a folder. `options` go to every save. */
export async function makeChain(plan: ChainPlan, folder: Workspace, options: SaveOptions = {}): Promise<Link[]> {
  const { pageSize, regionPages, runs, seed } = plan;
  const sizes = regionPages.map((pages) => pages * pageSize);
  const regions = sizes.map((sizeBytes, i) => ({ name: `region-${i}`, gpa: i * 2 ** 33, sizeBytes }));
  const memory = makeMemory(
    sizes.reduce((sum, size) => sum + size, 0),
    runs,
    pageSize,
    seed,
  );
  const links: Link[] = [];
  for (const [i, step] of plan.steps.entries()) {
    if (i > 0) for (const change of step.changes) apply(memory, change, pageSize);
    const [source, image] = [folder.path('memory'), folder.path(`image-${i}`)];
    if (step.sparse) writeSparse(source, memory);
    else writeFileSync(source, memory);
    const { codec, chunkSize, threads } = step;
    const own = { codec, chunkSize: Math.max(chunkSize, pageSize), threads, frozen: true };
    const geometry = i === 0 ? { pageSize, segmentSize: MIB, regions } : { base: links[i - 1]!.image };
    const saved = await save(source, image, { ...own, ...geometry, ...options });
    links.push({ image, memory: Buffer.from(memory), saved });
  }
  return links;
}

function apply(memory: Buffer, { page, pages, kind, seed }: Change, pageSize: number): void {
  const total = memory.length / pageSize;
  const first = page % total;
  const count = Math.min(pages, total - first);
  makeMemory(count * pageSize, [{ kind, pages: count }], pageSize, seed).copy(memory, first * pageSize);
}
