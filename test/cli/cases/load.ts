/** `vmsnap load`: what it prints, and every image and target that it refuses. */
import type { Preparation } from '../support/fixtures.js';
import type { Case } from './case.js';

const image: readonly Preparation[] = [
  { memory: 'mem', pages: 600 },
  { run: ['save', '--quiet', '--frozen', 'mem', 'img'] },
];

const refused = (
  title: string,
  prepare: readonly Preparation[],
  args: readonly string[],
  exitCode: number,
  stderr: RegExp,
): Case => ({
  title,
  prepare: [...image, ...prepare],
  args: ['load', ...args],
  exitCode,
  stdout: '',
  stderr: [/^vmsnap: error: .+\n(hint: .+\n)?$/, stderr],
});

export const loadCases: readonly Case[] = [
  {
    title: 'into a new file, with a summary',
    prepare: image,
    args: ['load', 'img', 'out'],
    exitCode: 0,
    stdout: /^out: 2\.3 MiB of memory, .+ of it data, .+\nproven: the digest of the whole memory is right\n$/,
    stderr: '',
    files: ['img', 'mem', 'out'],
    same: [['mem', 'out']],
  },
  {
    title: '--quiet is silent',
    prepare: image,
    args: ['load', '--quiet', 'img', 'out'],
    exitCode: 0,
    stdout: '',
    stderr: '',
    files: ['img', 'mem', 'out'],
    same: [['mem', 'out']],
  },
  {
    title: '--json',
    prepare: image,
    args: ['load', '--json', 'img', 'out'],
    exitCode: 0,
    stdout: /^\{"schema":"vmsnap\.load","schemaVersion":1,"target":"out","memoryBytes":2457600,.*\}\n$/,
    stderr: '',
    files: ['img', 'mem', 'out'],
  },
  {
    title: 'to stdout, and nothing else there',
    prepare: image,
    args: ['load', '--json', '--range', '12K:4K', 'img', '-'],
    exitCode: 0,
    stdout: /^.{4}/s,
    stderr: /^\{"schema":"vmsnap\.load",.*\}\n$/,
  },
  {
    title: 'from standard input',
    prepare: image,
    args: ['load', '--quiet', '-', 'out'],
    stdin: 'img',
    exitCode: 0,
    stdout: '',
    stderr: '',
    files: ['img', 'mem', 'out'],
    same: [['mem', 'out']],
  },
  {
    title: '--force replaces a file',
    prepare: [...image, { file: 'out', content: 'old' }],
    args: ['load', '--quiet', '--force', 'img', 'out'],
    exitCode: 0,
    stdout: '',
    stderr: '',
    same: [['mem', 'out']],
  },
  {
    title: '--in-place over stale bytes',
    prepare: [...image, { memory: 'out', pages: 600 }, { damage: 'out', at: 0 }],
    args: ['load', '--quiet', '--in-place', '--force', 'img', 'out'],
    exitCode: 0,
    stdout: '',
    stderr: '',
    same: [['mem', 'out']],
  },
  refused('a missing image', [], ['missing', 'out'], 10, /missing/),
  refused('what is no image', [], ['mem', 'out'], 14, /mem/),
  refused('an empty file', [{ file: 'empty', content: '' }], ['empty', 'out'], 14, /empty/),
  refused('an image that is a folder', [{ folder: 'dir' }], ['dir', 'out'], 2, /dir/),
  refused('a truncated image', [{ truncate: 'img', bytes: 70000 }], ['img', 'out'], 14, /img/),
  refused('a damaged image', [{ damage: 'img', at: 20000 }], ['img', 'out'], 14, /img/),
  refused('an image of a newer version', [{ damage: 'img', at: 8 }], ['img', 'out'], 14, /img/),
  refused('a target that is there', [{ file: 'out', content: 'old' }], ['img', 'out'], 21, /out exists already/),
  refused('a target that is a folder', [{ folder: 'dir' }], ['img', 'dir'], 2, /dir is a folder/),
  refused('a target in a folder that is not there', [], ['img', 'no/out'], 10, /no\/out/),
  refused('a region that is not there', [], ['--region', 'nvram', 'img', 'out'], 10, /nvram/),
  refused('a range beyond the end', [], ['--range', '1G:4K', 'img', 'out'], 2, /range/),
];
