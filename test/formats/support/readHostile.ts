/** Reads a hostile image in every way there is, in a process of its own: IMAGE FOLDER. Says what came of it, in JSON. */
import { join } from 'node:path';
import { extract, inspect, load, openImage, verify } from '../../../lib/index.js';
import { codeOf } from './judge.js';

const [image, folder] = process.argv.slice(2) as [string, string];
const started = performance.now();
const tryTo = (name: string, action: () => Promise<string>) => codeOf(action).then((said) => `${name}: ${said}`);

const said = [
  await tryTo('inspect', async () => ((await inspect(image)).problems.length === 0 ? 'fine' : 'problems')),
  await tryTo('verify', async () => ((await verify(image, { threads: 2 })).intact ? 'intact' : 'damaged')),
  await tryTo('load', async () => {
    await load(image, join(folder, 'target.raw'), { threads: 2 });
    return 'loaded';
  }),
  await tryTo('read', async () => {
    const opened = await openImage(image);
    try {
      const [region] = opened.regions;
      await opened.read(region!.name, 0, Math.min(8192, region!.sizeBytes));
      return 'read';
    } finally {
      await opened.close();
    }
  }),
  await tryTo('extract', async () => {
    await extract(image, 'machine.txt', join(folder, 'machine.txt'));
    return 'extracted';
  }),
];
// In KiB, the most that the process ever had.
const rssBytes = process.resourceUsage().maxRSS * 1024;
process.stdout.write(JSON.stringify({ said, rssBytes, seconds: (performance.now() - started) / 1000 }));
