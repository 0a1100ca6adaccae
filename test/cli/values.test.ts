/** Readers of single option values: sizes, numbers, ranges, regions, owners. */
import test from 'ava';
import fc from 'fast-check';
import { parseInteger } from '../../cli/options/integers.js';
import { parseKeyValues } from '../../cli/options/keyValueOption.js';
import { parseMode, parseOwner } from '../../cli/options/ownerOption.js';
import { parseRange } from '../../cli/options/rangeOption.js';
import { parseRegion } from '../../cli/options/regionOption.js';
import { parseSize } from '../../cli/options/sizes.js';
import { UsageError } from '../../cli/usageError.js';

const USAGE = { instanceOf: UsageError, code: 'USAGE' };

test('sizes take binary units and hexadecimal', (t) => {
  const good: [string, number][] = [
    ['0', 0],
    ['4096', 4096],
    ['512B', 512],
    ['64K', 65536],
    ['64k', 65536],
    ['64Ki', 65536],
    ['64KiB', 65536],
    ['4M', 4194304],
    ['2G', 2147483648],
    ['1T', 1099511627776],
    ['0x1000', 4096],
    ['0X1f', 31],
    ['9007199254740991', Number.MAX_SAFE_INTEGER],
  ];
  for (const [text, bytes] of good) t.is(parseSize(text, '--size'), bytes, text);
});

test('sizes refuse everything else', (t) => {
  const bad = ['', ' 4', '4 ', '-1', '+1', '1.5G', '1e6', '64KB', '64MB', 'KiB', '0x', '0xg', '4P', 'NaN', '4MiBs'];
  for (const text of bad) t.throws(() => parseSize(text, '--size'), USAGE, text);
  for (const text of ['9007199254740992', '8192T', '0x20000000000000', '9'.repeat(4000)]) {
    t.throws(() => parseSize(text, '--size'), { ...USAGE, message: /too large/ });
  }
});

test('a size that is printed plainly is read back exactly', (t) => {
  fc.assert(fc.property(fc.maxSafeNat(), (bytes) => parseSize(String(bytes), 'x') === bytes));
  t.pass();
});

test('whole numbers only, within their bounds', (t) => {
  t.is(parseInteger('-100', '--level', -100, 22), -100);
  t.is(parseInteger('+3', '--level', -100, 22), 3);
  for (const text of ['abc', '', '1.0', '1e1', '0x10', 'NaN', 'Infinity', '23', '-101', '1 ', '９']) {
    t.throws(() => parseInteger(text, '--level', -100, 22), USAGE, text);
  }
});

test('ranges', (t) => {
  t.deepEqual(parseRange('0x1000:64K'), { offset: 4096, length: 65536 });
  for (const text of ['', '1', '1:', ':1', '1:2:3', '1-2', '0:0']) t.throws(() => parseRange(text), USAGE, text);
});

test('regions, with and without a file and an offset', (t) => {
  const low = { name: 'low', sizeBytes: 2 ** 31, gpa: 0 };
  t.deepEqual(parseRegion('low=2G@0'), low);
  t.deepEqual(parseRegion('low=2G@0:ram'), { ...low, file: 'ram' });
  t.deepEqual(parseRegion('low=2G@0:ram+4096'), { ...low, file: 'ram', fileOffset: 4096 });
  t.deepEqual(parseRegion('low=2G@0:/a/b+0x1000'), { ...low, file: '/a/b', fileOffset: 4096 });
  t.deepEqual(parseRegion('high=1M@0x100000000:r'), { name: 'high', sizeBytes: 2 ** 20, gpa: 2 ** 32, file: 'r' });
});

test('a region file may hold +, :, @ and =', (t) => {
  const file = (text: string): unknown[] => {
    const { file: path, fileOffset } = parseRegion(`a=1M@0:${text}`);
    return [path, fileOffset];
  };
  t.deepEqual(file('a+b'), ['a+b', undefined]);
  t.deepEqual(file('a+b+2M'), ['a+b', 2 ** 21]);
  t.deepEqual(file('a+1+0'), ['a+1', 0]);
  t.deepEqual(file('0000:00:1f.0@x=y'), ['0000:00:1f.0@x=y', undefined]);
  t.deepEqual(file('+5'), ['+5', undefined]);
});

test('regions refuse what has no name, size or address', (t) => {
  for (const text of ['', 'a', 'a=1M', '=1M@0', 'a=@0', 'a=1M@', 'a=1M@0:', 'a=x@0', 'a=1M@y', 'a=1M@-1']) {
    t.throws(() => parseRegion(text), USAGE, text);
  }
});

test('keys and values split at the first =', (t) => {
  t.deepEqual(
    [...parseKeyValues('label', 'KEY=VALUE', ['a=1', 'b=x=y', 'c='])],
    [
      ['a', '1'],
      ['b', 'x=y'],
      ['c', ''],
    ],
  );
  t.throws(() => parseKeyValues('label', 'KEY=VALUE', ['a']), USAGE);
  t.throws(() => parseKeyValues('label', 'KEY=VALUE', ['=a']), USAGE);
  t.throws(() => parseKeyValues('label', 'KEY=VALUE', ['a=1', 'a=2']), { ...USAGE, message: /twice/ });
});

test('owners by name and by number', (t) => {
  const tables = {
    passwd: 'root:x:0:0::/root:/bin/sh\nqemu:x:64055:108::/:/bin/false\n',
    group: 'root:x:0:\nkvm:x:109:\n',
  };
  t.deepEqual(parseOwner('qemu', tables), { uid: 64055, gid: 108 });
  t.deepEqual(parseOwner('qemu:kvm', tables), { uid: 64055, gid: 109 });
  t.deepEqual(parseOwner('64055:7', tables), { uid: 64055, gid: 7 });
  t.deepEqual(parseOwner('64055', tables), { uid: 64055, gid: 108 });
  t.deepEqual(parseOwner('12345', tables), { uid: 12345, gid: process.getgid!() });
  for (const text of ['', ':kvm', 'qemu:', 'nobody-here', 'qemu:nogroup-here', 'a:b:c', '-1', '4294967295:0']) {
    t.throws(() => parseOwner(text, tables), USAGE, text);
  }
});

test('modes are octal', (t) => {
  t.is(parseMode('600'), 0o600);
  t.is(parseMode('0640'), 0o640);
  for (const text of ['', '6', '888', 'u+rw', '0o600', '07777']) t.throws(() => parseMode(text), USAGE, text);
});
