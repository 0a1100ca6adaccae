/** `vmsnap estimate`: what it prints, and what it refuses. */
import type { Preparation } from '../support/fixtures.js';
import type { Case } from './case.js';

const memory: Preparation = { memory: 'mem', pages: 600 };

export const estimateCases: readonly Case[] = [
  {
    title: 'a small memory file, all of it',
    prepare: [memory],
    args: ['estimate', 'mem'],
    exitCode: 0,
    stdout: [
      /^mem: 2\.3 MiB of memory, an image of \d.* [KM]iB\ntime: about .+, roughly; zstd level 1, .+, 1 thread\n/,
      /\npages: 50\.0 % data, 25\.0 % uniform, 25\.0 % zero\nlooked at: all of it that is no hole, in .+ s\n$/,
    ],
    stderr: '',
  },
  {
    title: 'a larger one, with bounds',
    prepare: [{ memory: 'mem', pages: 8192 }],
    args: ['estimate', '--sample', '16M', '--level', '3', 'mem'],
    exitCode: 0,
    stdout: [
      /^mem: 32 MiB of memory, an image of about .+, .+ to .+\n/,
      /\nlooked at: 16 MiB of 32 MiB that is no hole/,
    ],
    stderr: '',
  },
  {
    title: '--target',
    prepare: [memory],
    args: ['estimate', '--target', '.', 'mem'],
    exitCode: 0,
    stdout: /\n\.: .+ free, it fits\n$/,
    stderr: '',
  },
  {
    title: '--target that tells of no limit',
    prepare: [memory],
    args: ['estimate', '--target', '/proc', 'mem'],
    exitCode: 0,
    stdout: /\n\/proc: no limit told, whether it fits is not known\n$/,
    stderr: '',
  },
  {
    title: '--json',
    prepare: [memory],
    args: ['estimate', '--json', '--full', '--codec', 'none', 'mem'],
    exitCode: 0,
    stdout:
      /^\{"schema":"vmsnap\.estimate","schemaVersion":1,"memoryBytes":2457600,.*"confidence":1,.*"target":null,.*\}\n$/,
    stderr: '',
  },
  {
    title: 'regions with files of their own',
    prepare: [memory],
    args: ['estimate', '--region', 'a=1M@0:mem', '--region', 'b=1M@4G:mem+1M'],
    exitCode: 0,
    stdout: /^the regions: 2 MiB of memory, /,
    stderr: '',
  },
  {
    title: 'standard input',
    prepare: [memory],
    args: ['estimate', '-'],
    stdin: 'mem',
    exitCode: 2,
    stdout: '',
    stderr: /^vmsnap: error: standard input can be read only once.*\nhint: .+\n$/,
  },
  {
    title: 'a sample that says too little',
    prepare: [memory],
    args: ['estimate', '--sample', '1M', 'mem'],
    exitCode: 2,
    stdout: '',
    stderr: /says too little; it takes 16777216 or more/,
  },
  {
    title: 'a missing source',
    args: ['estimate', 'missing'],
    exitCode: 10,
    stdout: '',
    stderr: /missing/,
  },
];
