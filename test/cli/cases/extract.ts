/** `vmsnap extract`: the list, one attachment, and what is refused. */
import type { Preparation } from '../support/fixtures.js';
import type { Case } from './case.js';

const image: readonly Preparation[] = [
  { memory: 'mem', pages: 16 },
  { file: 'domain', content: '<domain/>' },
  { run: ['save', '--quiet', '--frozen', '--attach', 'vm.xml=domain', '--attach', 'state=mem', 'mem', 'img'] },
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
  args: ['extract', ...args],
  exitCode,
  stdout: '',
  stderr: [/^vmsnap: error: .+\n(hint: .+\n)?$/, stderr],
});

export const extractCases: readonly Case[] = [
  {
    title: 'a list',
    prepare: image,
    args: ['extract', 'img'],
    exitCode: 0,
    stdout: /^vm\.xml +9 B\nstate +64 KiB\n$/,
    stderr: '',
  },
  {
    title: 'a list with --json',
    prepare: image,
    args: ['extract', '--json', 'img'],
    exitCode: 0,
    stdout: /^\{"schema":"vmsnap\.attachments",.*\{"name":"vm\.xml","sizeBytes":9\}.*\}\n$/,
    stderr: '',
  },
  {
    title: 'into its own name',
    prepare: image,
    args: ['extract', '--attachment', 'vm.xml', 'img'],
    exitCode: 0,
    stdout: /^\.\/vm\.xml: 9 B\n$/,
    stderr: '',
    files: ['domain', 'img', 'mem', 'vm.xml'],
    same: [['domain', 'vm.xml']],
  },
  {
    title: 'into another file, silent',
    prepare: image,
    args: ['extract', '--quiet', '--attachment', 'state', 'img', 'out'],
    exitCode: 0,
    stdout: '',
    stderr: '',
    files: ['domain', 'img', 'mem', 'out'],
    same: [['mem', 'out']],
  },
  {
    title: 'to stdout',
    prepare: image,
    args: ['extract', '--attachment', 'vm.xml', 'img', '-'],
    exitCode: 0,
    stdout: /^<domain\/>$/,
    stderr: '',
  },
  {
    title: 'to stdout with --json on stderr',
    prepare: image,
    args: ['extract', '--json', '--attachment', 'vm.xml', 'img', '-'],
    exitCode: 0,
    stdout: /^<domain\/>$/,
    stderr: /^\{"schema":"vmsnap\.extract",.*"sizeBytes":9\}\n$/,
  },
  {
    title: '--force replaces a file',
    prepare: [...image, { file: 'out', content: 'old' }],
    args: ['extract', '--force', '--quiet', '--attachment', 'state', 'img', 'out'],
    exitCode: 0,
    stdout: '',
    stderr: '',
    same: [['mem', 'out']],
  },
  refused('an attachment that is not there', [], ['--attachment', 'vm.xm', 'img'], 10, /vm\.xm/),
  refused(
    'a file that is there',
    [{ file: 'vm.xml', content: 'old' }],
    ['--attachment', 'vm.xml', 'img'],
    21,
    /vm\.xml exists already/,
  ),
  refused('a folder as target', [{ folder: 'dir' }], ['--attachment', 'vm.xml', 'img', 'dir'], 2, /dir is a folder/),
  refused('a damaged table of attachments', [{ truncate: 'img', bytes: 500 }], ['img'], 14, /img/),
];
