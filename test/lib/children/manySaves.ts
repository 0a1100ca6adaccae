/** Saves many sources at the same time, in one process: their paths as JSON in the first argument. Says how long it took, and its peak. */
import { save } from '../../../lib/index.js';
import { peakMemoryBytes } from '../../../lib/limits.js';

const paths = JSON.parse(process.argv[2]!) as readonly { source: string; image: string }[];
const started = performance.now();
await Promise.all(paths.map(({ source, image }) => save(source, image, { threads: 2, frozen: true })));
const seconds = (performance.now() - started) / 1000;
process.stdout.write(JSON.stringify({ seconds, peakBytes: peakMemoryBytes() }));
