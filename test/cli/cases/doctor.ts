/** `vmsnap doctor`: calls that are wrong, and what it says of a device in software. */
import type { Case } from './case.js';

const NOWHERE = { VMSNAP_DSA_SYSFS: '/nonexistent/devices', VMSNAP_DSA_DEV: '/nonexistent/dsa' };

const refused = (title: string, args: readonly string[], ...stderr: readonly RegExp[]): Case => ({
  title,
  args: ['doctor', ...args],
  exitCode: 2,
  stdout: '',
  stderr: [/^vmsnap: error: .+\n(hint: .+\n)?$/, ...stderr],
});

export const doctorCases: readonly Case[] = [
  {
    title: 'an emulated device passes and is called emulated',
    args: ['doctor', '--emulated'],
    exitCode: 0,
    stdout: [
      /^EMULATED DEVICE\n/,
      /\nDEVICE dsa0 \(emulated\)\n/,
      /\nQUEUE dsa0\/wq0\.0 {2}usable\n/,
      /\n {2}self-test {2}5 of 5 passed\n/,
      /mmap refused \(EPERM\): normal on kernels since 6\.9\.1/,
      /BATCH refused by write\(\): normal/,
      /\nVERDICT the emulated device works\n/,
    ],
    stderr: '',
  },
  {
    title: '--json',
    args: ['doctor', '--emulated', '--json'],
    exitCode: 0,
    stdout: /^\{"schema":"vmsnap\.doctor","schemaVersion":1,"emulated":true,.*"outcome":"ready".*\}\n$/,
    stderr: '',
  },
  {
    title: 'a queue that is asked for and not there',
    args: ['doctor', '--dsa', '/dev/dsa/wq0.0'],
    env: NOWHERE,
    exitCode: 18,
    stdout: [
      /\nFAULTS\n {2}- \/dev\/dsa\/wq0\.0: this is no work queue/,
      /\nVERDICT DSA cannot be used here as it is\n/,
    ],
    stderr: '',
  },
  {
    title: 'no configuration without a device',
    args: ['doctor', '--accel-config'],
    env: NOWHERE,
    exitCode: 10,
    stdout: '',
    stderr: /^vmsnap: error: there is no DSA device to configure\nhint: vmsnap doctor tells why\n$/,
  },
  refused('an argument', ['/dev/dsa/wq0.0'], /one argument too many/),
  refused('a real queue of an emulated device', ['--emulated', '--dsa', '/dev/dsa/wq0.0'], /--dsa names a real queue/),
  refused('two answers at once', ['--emulated', '--accel-config'], /--emulated and --accel-config exclude each other/),
  refused('a configuration of one queue', ['--accel-config', '--dsa', 'x'], /--accel-config and --dsa exclude/),
  refused('--dsa without a node', ['--dsa'], /--dsa needs a value/),
];
