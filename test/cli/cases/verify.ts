/** `vmsnap verify`: intact images, damaged ones, and what is no image at all. */
import type { Preparation } from '../support/fixtures.js';
import type { Case } from './case.js';

const image: readonly Preparation[] = [
  { memory: 'mem', pages: 600 },
  { run: ['save', '--quiet', '--frozen', 'mem', 'img'] },
];
const damage: Preparation = { damage: 'img', at: 20000 };

export const verifyCases: readonly Case[] = [
  {
    title: 'an intact image',
    prepare: image,
    args: ['verify', 'img'],
    exitCode: 0,
    stdout: /^img: intact \(2\.3 MiB checked, /,
    stderr: '',
  },
  {
    title: '--structure',
    prepare: image,
    args: ['verify', '--structure', 'img'],
    exitCode: 0,
    stdout: /^img: intact \(structure checked, /,
    stderr: '',
  },
  {
    title: '--quiet is silent',
    prepare: image,
    args: ['verify', '--quiet', 'img', 'img'],
    exitCode: 0,
    stdout: '',
    stderr: '',
  },
  {
    title: 'from standard input',
    prepare: image,
    args: ['verify', '-'],
    stdin: 'img',
    exitCode: 0,
    stdout: /^-: intact /,
    stderr: '',
  },
  {
    title: '--json',
    prepare: image,
    args: ['verify', '--json', 'img'],
    exitCode: 0,
    stdout: /^\{"schema":"vmsnap\.verify",.*"intact":true,.*\}\n$/,
    stderr: '',
  },
  {
    title: 'a damaged chunk, named with the memory that is lost',
    prepare: [...image, damage],
    args: ['verify', '--quiet', 'img'],
    exitCode: 14,
    stdout: /^img: DAMAGED: 1 damaged place .*\n {2}chunk at \d+: .+region .+segment 0, memory lost: .+ at 0x/,
    stderr: '',
  },
  {
    title: 'a damaged chunk is no fault of the structure',
    prepare: [...image, damage],
    args: ['verify', '--structure', 'img'],
    exitCode: 0,
    stdout: /^img: intact/,
    stderr: '',
  },
  {
    title: 'a truncated image',
    prepare: [...image, { truncate: 'img', bytes: 70000 }],
    args: ['verify', 'img'],
    exitCode: 14,
    stdout: /DAMAGED/,
    stderr: '',
  },
  {
    title: 'several images, one of them damaged',
    prepare: [...image, { run: ['save', '--quiet', '--frozen', 'mem', 'img2'] }, damage],
    args: ['verify', '--json', 'img', 'img2'],
    exitCode: 14,
    stdout: /^\{"schema":"vmsnap\.verify-list",.*"intact":false.*"intact":true.*\}\n$/,
    stderr: '',
  },
  {
    title: 'a missing image does not stop the others',
    prepare: image,
    args: ['verify', 'missing', 'img'],
    exitCode: 10,
    stdout: /^img: intact/,
    stderr: /missing/,
  },
  {
    title: 'what is no image',
    prepare: image,
    args: ['verify', 'mem'],
    exitCode: 14,
    stdout: /^mem: DAMAGED: 1 damaged place .*\n {2}header at 0: .+\n$/,
    stderr: '',
  },
  {
    title: 'an empty file',
    prepare: [{ file: 'empty', content: '' }],
    args: ['verify', 'empty'],
    exitCode: 14,
    stdout: /^empty: DAMAGED/,
  },
];
