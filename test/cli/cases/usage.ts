/** Calls that are wrong before anything is opened, and the help. */
import { COMMANDS } from '../../../cli/commandTable.js';
import type { Case } from './case.js';

const refused = (title: string, args: readonly string[], ...stderr: readonly RegExp[]): Case => ({
  title,
  args,
  exitCode: 2,
  stdout: '',
  stderr: [/^vmsnap: error: .+\n(hint: .+\n)?$/, ...stderr],
});

const lines = (most: number): RegExp => new RegExp(`^(.{0,80}\\n){5,${most}}$`);

const helped = (command: string): Case => ({
  title: `the help of ${command} fits a screen and has examples`,
  args: [command, '--help'],
  exitCode: 0,
  stdout: [lines(40), /^Usage: vmsnap /, /\nExamples:\n/, command === 'completion' ? /\n {2}--help/ : /--json/],
  stderr: '',
});

export const usageCases: readonly Case[] = [
  { title: '--version', args: ['--version'], exitCode: 0, stdout: /^vmsnap \d+\.\d+\.\d+\S*\n$/, stderr: '' },
  { title: '--help', args: ['--help'], exitCode: 0, stdout: [lines(30), /vmsnap save SOURCE IMAGE/], stderr: '' },
  { title: 'help', args: ['help'], exitCode: 0, stdout: /vmsnap save SOURCE IMAGE/, stderr: '' },
  { title: 'help save', args: ['help', 'save'], exitCode: 0, stdout: /--segment-size/, stderr: '' },
  {
    title: 'no command shows the help as an error',
    args: [],
    exitCode: 2,
    stdout: '',
    stderr: /vmsnap save SOURCE IMAGE/,
  },
  ...COMMANDS.map(({ name }) => helped(name)),

  refused(
    'an unknown command, with the one that was meant',
    ['sav', 'a', 'b'],
    /unknown command: sav/,
    /did you mean save\?/,
  ),
  refused(
    'an unknown command, with all there are',
    ['restore'],
    /unknown command: restore/,
    /save, load, resume, inspect, verify, compare, estimate, .*extract, .*doctor/,
  ),
  refused('help of an unknown command', ['help', 'lod'], /did you mean load\?/),
  refused('an option before the command', ['--json', 'save'], /--json stands before the command/),
  refused(
    'an unknown option, with the one that was meant',
    ['save', '--lvel', '3', 'a', 'b'],
    /--lvel/,
    /did you mean --level\?/,
  ),
  refused('an unknown option that is like none', ['save', '--xyzzy', 'a', 'b'], /--xyzzy/, /vmsnap save --help/),
  refused('a misspelt codec', ['save', '--codec', 'zsdt', 'a', 'b'], /--codec cannot be "zsdt"/, /did you mean zstd\?/),
  refused('a misspelt detector', ['save', '--detector', 'avx', 'a', 'b'], /did you mean avx2\?/),
  refused('a misspelt layout', ['save', '--layout', 'q35', 'a', 'b'], /--layout cannot be "q35"/, /pc-q35/),
  refused('a misspelt state', ['inspect', '--map', '--state', 'dta', 'a'], /did you mean data\?/),
  ...['abc', '1.5', 'NaN', '1e1', '0x1', '23', '-101', 'Infinity', ' 1'].map((level) =>
    refused(
      `--level ${JSON.stringify(level)}`,
      ['save', `--level=${level}`, 'a', 'b'],
      /--level cannot be/,
      /-100 to 22/,
    ),
  ),
  ...['0', '-1', 'all', '1025', '9'.repeat(400)].map((threads) =>
    refused(
      `--threads ${threads.slice(0, 9)}`,
      ['load', `--threads=${threads}`, 'a', 'b'],
      /--threads cannot be/,
      /1 to 1024/,
    ),
  ),
  ...['64KB', '1.5M', '-4K', 'big', '0x', '8192T'].map((size) =>
    refused(
      `--chunk-size ${size}`,
      ['save', `--chunk-size=${size}`, 'a', 'b'],
      /--chunk-size (cannot be|is too large)/,
    ),
  ),
  refused('--no-level is no level 0', ['save', '--no-level', 'a', 'b'], /unknown option: --no-level/),
  refused('an option given twice', ['save', '--level', '1', '--level', '2', 'a', 'b'], /--level is given 2 times/),
  refused('a value left out', ['save', 'a', 'b', '--name'], /--name needs a value/),
  refused('SOURCE and IMAGE missing', ['save'], /SOURCE and IMAGE missing/, /vmsnap save --help/),
  refused('IMAGE missing', ['save', 'a'], /IMAGE missing/),
  refused('an argument too many', ['load', 'a', 'b', 'c'], /one argument too many: "c"/),
  refused('an empty argument', ['load', 'a', ''], /an argument is empty/),
  refused('no image to inspect', ['inspect'], /IMAGE missing/),
  refused('no image to verify', ['verify', '--quiet'], /IMAGE missing/),
  refused('SOURCE beside regions with files', ['save', '--region', 'a=1M@0:f', 's', 'i'], /SOURCE is given/),
  refused(
    'a region that is none',
    ['save', '--region', 'a=1M', 's', 'i'],
    /--region cannot be "a=1M"/,
    /NAME=SIZE@GPA/,
  ),
  refused(
    'a region with a size that is none',
    ['save', '--region', 'a=x@0', 's', 'i'],
    /the size of region a cannot be "x"/,
  ),
  refused('a label without a value', ['save', '--label', 'a', 's', 'i'], /--label KEY=VALUE/),
  refused('a label given twice', ['save', '--label', 'a=1', '--label', 'a=2', 's', 'i'], /--label a is given twice/),
  refused('an attachment without a file', ['save', '--attach', 'a', 's', 'i'], /--attach NAME=FILE/),
  refused('a uuid that is none', ['save', '--uuid', '123', 's', 'i'], /--uuid cannot be "123"/),
  refused('a mode that is none', ['load', '--mode', 'u+rw', 'i', 't'], /--mode cannot be "u\+rw"/),
  refused('an owner that is none', ['load', '--owner', 'no-such-user-here', 'i', 't'], /no user "no-such-user-here"/),
  refused('a range that is none', ['load', '--range', '1M', 'i', 't'], /--range cannot be "1M"/, /OFFSET:LENGTH/),
  refused('two views at once', ['inspect', '--map', '--chunks', 'i'], /--map and --chunks exclude each other/),
  refused('a view of several images', ['inspect', '--map', 'i', 'j'], /--map takes one image/),
  refused('--state without --map', ['inspect', '--state', 'data', 'i'], /--state goes with --map/),
  refused('--limit without a listing', ['inspect', '--limit', '1', 'i'], /--limit goes with --map or --chunks/),
  refused('a view of standard input', ['inspect', '--map', '-'], /needs an image that is a file/),
  refused('extract from standard input', ['extract', '--attachment', 'a', '-', 'f'], /needs an image that is a file/),
  refused('extract into a file without saying what', ['extract', 'i', 'f'], /--attachment NAME/),
  refused('compare with one side', ['compare', 'a'], /B missing/),
  refused('compare from standard input', ['compare', '-', 'a'], /standard input cannot be compared/),
  refused('estimate without a source', ['estimate'], /SOURCE missing/),
  refused('a full sample', ['estimate', '--full', '--sample', '16M', 'a'], /a full estimate takes no sample/),
  refused('a share that is none', ['verify', '--subset', '0/7', '.'], /the share in --subset cannot be "0"/, /1 to 7/),
  refused('a share without a number', ['verify', '--subset', '1', '.'], /--subset cannot be "1"/, /2\/7/),
  refused('a share of standard input', ['verify', '--subset', '1/2', '-'], /--subset goes with folders/),
  refused('a drill of the structure', ['verify', '--restore-drill', '--structure', 'i'], /exclude each other/),
  refused('list without a folder', ['list'], /FOLDER missing/),
  refused('prune without a folder', ['prune', '--keep-last', '1'], /FOLDER missing/),
  refused('prune without a rule', ['prune', '.'], /the policy is empty/, /--keep-daily 7/),
  refused('prune with nothing but zeros', ['prune', '--keep-last', '0', '.'], /the policy is empty/),
  refused('prune by a fraction', ['prune', '--keep-daily', '1.5', '.'], /--keep-daily cannot be "1\.5"/),
  refused('a misspelt rule', ['prune', '--keep-dayly', '1', '.'], /did you mean --keep-daily\?/),
  refused('a zone that is none', ['prune', '--keep-last', '1', '--tz', 'Mars', '.'], /no time zone "Mars"/),
  ...['30', '30x', '1h2d', '1d1d', '-1d', '1.5h', '9999999w'].map((text) =>
    refused(
      `a duration of ${text}`,
      ['prune', `--keep-within=${text}`, '.'],
      /--keep-within cannot be/,
      /90s, 15m, 26h, 30d or 2w3d/,
    ),
  ),
  refused('standard input twice', ['verify', '-', '-'], /- stands twice/),
  {
    title: 'with --json a wrong call is an object on stdout',
    args: ['save', '--json', '--lvel', 'a', 'b'],
    exitCode: 2,
    stdout: /^\{"schema":"vmsnap\.error","schemaVersion":1,"error":\{"code":"USAGE","exitCode":2,.*--lvel.*\}\}\n$/,
    stderr: '',
  },
  {
    title: 'with --json and the image on stdout, the object is on stderr',
    args: ['save', '--json', '--lvel', 'a', '-'],
    exitCode: 2,
    stdout: '',
    stderr: /^\{"schema":"vmsnap\.error".*\}\n$/,
  },
];
