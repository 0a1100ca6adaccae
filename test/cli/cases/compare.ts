/** `vmsnap compare`: its three exit codes, what it prints, and what it refuses. */
import type { Preparation } from '../support/fixtures.js';
import type { Case } from './case.js';

const memory: Preparation = { memory: 'mem', pages: 600 };
const later: Preparation = { memory: 'later', pages: 600 };
const image: Preparation = { run: ['save', '--quiet', '--frozen', 'mem', 'img'] };
const laterImage: Preparation = { run: ['save', '--quiet', '--frozen', 'later', 'img2'] };
/** One byte of a page of text, in page 4 (makeMemory: three pages of a kind, zero pages first). */
const changed: Preparation = { damage: 'later', at: 4 * 4096 + 99 };
/** And one of a zero page. */
const wasZero: Preparation = { damage: 'later', at: 12 * 4096 };

export const compareCases: readonly Case[] = [
  {
    title: 'an image and the memory it was saved from',
    prepare: [memory, image],
    args: ['compare', 'img', 'mem'],
    exitCode: 0,
    stdout:
      /^A img: image, 2\.3 MiB\nB mem: raw memory, 2\.3 MiB\nequal \(2\.3 MiB compared, .+\); 150 of 600 pages are zero\n$/,
    stderr: '',
  },
  {
    title: 'two images that differ, and where',
    prepare: [memory, image, later, changed, wasZero, laterImage],
    args: ['compare', 'img', 'img2'],
    exitCode: 1,
    stdout: [
      /^A img: image, 2\.3 MiB\nB img2: image, 2\.3 MiB\nDIFFERENT: 0\.3 % of the memory \(/,
      /\nPAGES\n {2}same +598 .+ 149 of them zero on both sides\n {2}changed +1 .+\n {2}became zero +0 .+\n {2}was zero +1 /,
      /\nRANGES\n {2}ram {2}0x4000 {2}4 KiB {2}changed\n {2}ram {2}0xc000 {2}4 KiB {2}was zero\nHEAT /,
      /\nHEAT · same .+ a cell is 37\.5 KiB\n {2}░░·{62}\n$/,
    ],
    stderr: '',
  },
  {
    title: '--limit shows fewer ranges',
    prepare: [memory, later, changed, wasZero],
    args: ['compare', '--limit', '1', 'mem', 'later'],
    exitCode: 1,
    stdout: /\nRANGES\n {2}ram {2}0x4000 {2}4 KiB {2}changed\n {2}and 1 more: --limit N or --json\n/,
    stderr: '',
  },
  {
    title: '--quiet says nothing, equal',
    prepare: [memory, image],
    args: ['compare', '--quiet', 'img', 'mem'],
    exitCode: 0,
    stdout: '',
    stderr: '',
  },
  {
    title: '--quiet says nothing, different',
    prepare: [memory, later, changed],
    args: ['compare', '--quiet', 'mem', 'later'],
    exitCode: 1,
    stdout: '',
    stderr: '',
  },
  {
    title: '--json',
    prepare: [memory, image, later, changed],
    args: ['compare', '--json', 'img', 'later'],
    exitCode: 1,
    stdout:
      /^\{"schema":"vmsnap\.compare","schemaVersion":1,.*"equal":false,.*"ranges":\[\{"region":"ram","offset":16384,"length":4096,"change":"changed"\}\],"rangesCut":false,.*\}\n$/,
    stderr: '',
  },
  {
    title: '--range leaves the rest out',
    prepare: [memory, later, changed],
    args: ['compare', '--range', '5M:1', 'mem', 'later'],
    exitCode: 2,
    stdout: '',
    stderr: /beyond the 2457600 bytes/,
  },
  {
    title: '--range and --region',
    prepare: [memory, later, changed],
    args: ['compare', '--region', 'ram', '--range', '0x5000:64K', 'mem', 'later'],
    exitCode: 0,
    stdout: /\nequal \(64 KiB compared/,
    stderr: '',
  },
  {
    title: 'a differential image and its base in another folder',
    prepare: [
      memory,
      image,
      later,
      changed,
      { folder: 'sub' },
      { run: ['save', '--quiet', '--frozen', '--base', 'img', 'later', 'sub/child'] },
    ],
    args: ['compare', '--base-dir', '.', 'sub/child', 'later'],
    exitCode: 0,
    stdout: /^A sub\/child: image with 1 base, 2\.3 MiB\n/,
    stderr: '',
  },
  {
    title: 'a base that is not found is no difference',
    prepare: [
      memory,
      image,
      { folder: 'sub' },
      { run: ['save', '--quiet', '--frozen', '--base', 'img', 'mem', 'sub/child'] },
    ],
    args: ['compare', '--quiet', 'sub/child', 'mem'],
    exitCode: 16,
    stdout: '',
    stderr: /^vmsnap: error: .+\nhint: .+--base-dir\n$/,
  },
  {
    title: 'a missing side is no difference',
    prepare: [memory],
    args: ['compare', '--quiet', 'mem', 'missing'],
    exitCode: 10,
    stdout: '',
    stderr: /missing/,
  },
  {
    title: 'a damaged image is no difference',
    prepare: [memory, image, { damage: 'img', at: 20000 }],
    args: ['compare', 'img', 'mem'],
    exitCode: 14,
    stdout: '',
    stderr: /img is damaged/,
  },
];
