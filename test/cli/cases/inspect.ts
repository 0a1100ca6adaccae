/** `vmsnap inspect`: the screen, the table, the views, and damaged images. */
import type { Preparation } from '../support/fixtures.js';
import type { Case } from './case.js';

const image: readonly Preparation[] = [
  { memory: 'mem', pages: 600 },
  { file: 'vm.xml', content: '<domain/>' },
  {
    run: [
      ...[
        'save',
        '--quiet',
        '--frozen',
        '--name',
        'web1',
        '--label',
        'rack=7',
        '--attach',
        'vm.xml=vm.xml',
        '--segment-size',
        '1M',
      ],
      ...['--region', 'low=1M@0:mem', '--region', 'high=1M@4G:mem', 'img'],
    ],
  },
];

const snapshot: readonly Preparation[] = [
  { folder: 'ch' },
  { file: 'ch/config.json', content: '{"cpus":{"boot_vcpus":2}}' },
  { file: 'ch/state.json', content: '{"memory_ranges":{"data":[{"gpa":0,"length":2457600}]}}' },
  { memory: 'ch/memory-ranges', pages: 600 },
];

const seen = (title: string, args: readonly string[], ...stdout: readonly RegExp[]): Case => ({
  title,
  prepare: image,
  args: ['inspect', ...args],
  exitCode: 0,
  stdout,
  stderr: '',
});

const damaged = (title: string, damage: Preparation, ...stdout: readonly RegExp[]): Case => ({
  title,
  prepare: [...image, damage],
  args: ['inspect', 'img'],
  exitCode: 14,
  stdout,
  stderr: /^vmsnap: error: img is .+ the first [\d,]+ bytes can be trusted\n$/,
});

export const inspectCases: readonly Case[] = [
  seen(
    'one screen',
    ['img'],
    /^(.*\n){12,30}$/,
    /^IMAGE img\n/,
    /\nMEMORY\n {2}size +2 MiB in 2 regions; pages of 4 KiB, segments of 1 MiB\n/,
    /low +0x0 - 0xfffff +1 MiB/,
    /high +0x100000000 - 0x1000fffff +1 MiB/,
    /\nSTORAGE\n {2}codec +zstd level 1/,
    /\nINTEGRITY\n {2}complete +yes/,
    /\n {2}machine +web1\n/,
    /\n {2}labels +rack=7\n/,
    /vm\.xml \(9 B\)/,
    /\nHEAT .+\n {2}[·░▒▓█]{64}\n$/,
  ),
  seen('exact numbers', ['--bytes', 'img'], /2097152 in 2 regions; pages of 4096,/),
  seen('--json', ['--json', 'img'], /^\{"schema":"vmsnap\.inspect","schemaVersion":1,"image":\{"path":"img",.*\}\n$/),
  seen(
    'several files, with totals',
    ['img', 'img'],
    /^IMAGE +CREATED.*\n(img .* complete\n){2}total +4 MiB .* 2 of 2 complete\n$/,
  ),
  seen(
    'several files with --json',
    ['--json', 'img', 'img'],
    /^\{"schema":"vmsnap\.inspect-list","schemaVersion":1,"images":\[\{"schema":"vmsnap\.inspect"/,
  ),
  seen('--regions', ['--regions', 'img'], /^REGION .*\nlow .*\nhigh .*\n$/),
  seen('--map', ['--map', 'img'], /^REGION .*\nlow +0x0 +12 KiB +zero\nlow +0x3000 +12 KiB +data\n/),
  seen(
    '--map of one state, limited',
    ['--map', '--state', 'uniform', '--limit', '2', 'img'],
    /^REGION .*\nlow +0x6000 +12 KiB +uniform\nlow .* uniform\n$/,
  ),
  seen('--map of a range', ['--map', '--range', '0x3000:4K', 'img'], /^REGION .*\nlow +0x3000 +4 KiB +data\n$/),
  seen(
    '--map --json',
    ['--map', '--json', '--limit', '1', 'img'],
    /^\{"schema":"vmsnap\.map",.*"ranges":\[\{"region":"low","offset":0,"length":12288,"state":"zero"\}\],"error":null\}\n$/,
  ),
  seen('--chunks', ['--chunks', 'img'], /^REGION +SEGMENT +CHUNK.*\n(low|high) +0 +0 /),
  seen('--chunks, none of them', ['--chunks', '--limit', '0', 'img'], /^REGION .*\n$/),
  seen('--histogram', ['--histogram', 'img'], /^CHUNKS by stored size/, /\nRUNS of data pages by length\n/),
  {
    title: 'several files, one of them missing',
    prepare: image,
    args: ['inspect', 'img', 'missing'],
    exitCode: 10,
    stdout: [/^missing +- .*NOT_FOUND$/m, /1 of 2 complete\n$/],
    stderr: /^vmsnap: error: .*missing/,
  },
  {
    title: 'the beginning of standard input',
    prepare: image,
    args: ['inspect', '-'],
    stdin: 'img',
    exitCode: 0,
    stdout: [/\n {2}machine +web1\n/, /complete +unknown/, /file +-\n/],
    stderr: '',
  },
  { title: 'a missing image', args: ['inspect', 'missing'], exitCode: 10, stdout: '', stderr: /missing/ },
  { title: 'what is no image', prepare: image, args: ['inspect', 'mem'], exitCode: 14, stdout: '', stderr: /mem/ },
  {
    title: 'an empty file',
    prepare: [{ file: 'empty', content: '' }],
    args: ['inspect', 'empty'],
    exitCode: 14,
    stdout: '',
    stderr: /empty/,
  },
  { title: 'a folder', prepare: [{ folder: 'dir' }], args: ['inspect', 'dir'], exitCode: 2, stdout: '', stderr: /dir/ },
  damaged(
    'an image that ends too early',
    { truncate: 'img', bytes: 4096 },
    /^IMAGE img\n/,
    /complete +no/,
    /trusted +the first/,
  ),
  damaged('a damaged footer', { damage: 'img', at: -50 }, /^IMAGE img\n/, /problem +CORRUPT/, /machine +web1/),
  {
    title: 'a memory file of another tool',
    prepare: snapshot,
    args: ['inspect', 'ch'],
    exitCode: 0,
    stdout: [
      /^MEMORY FILE ch\n {2}format +cloud-hypervisor \(a Cloud Hypervisor snapshot\)\n/,
      /\n {2}vCPUs +2\n/,
      /config\.json \(\d+ B\), state\.json \(\d+ B\)/,
      /\nMEMORY\n {2}size +2\.3 MiB in 1 region; pages of 4 KiB\n {2}regions +ram-0x0 +0x0 - 0x257fff +2\.3 MiB\n/,
    ],
    stderr: '',
  },
  {
    title: 'memory files and images in one table',
    prepare: [...image, ...snapshot],
    args: ['inspect', 'img', 'ch'],
    exitCode: 0,
    stdout: [/^IMAGE +CREATED/, /\nch +- .* cloud-hypervisor\n/, /2 of 2 complete\n$/],
    stderr: '',
  },
  {
    title: 'raw memory as a Firecracker snapshot',
    prepare: [{ memory: 'mem', pages: 600 }],
    args: ['inspect', '--format', 'firecracker', 'mem'],
    exitCode: 0,
    stdout: [/\n {2}format +firecracker \(the memory of a Firecracker snapshot\)\n/, /\n {2}snapshot +full\n/],
    stderr: '',
  },
  {
    title: 'a format that it is not',
    prepare: [{ memory: 'mem', pages: 600 }],
    args: ['inspect', '--format', 'kdump', 'mem'],
    exitCode: 2,
    stdout: '',
    stderr: /mem is none of the formats known, and not kdump/,
  },
  {
    title: 'the parts of one snapshot for two files',
    prepare: [{ memory: 'mem', pages: 600 }],
    args: ['inspect', '--vmstate', 'mem', 'mem', 'mem'],
    exitCode: 2,
    stdout: '',
    stderr: /--vmstate belongs to one snapshot/,
  },
];
