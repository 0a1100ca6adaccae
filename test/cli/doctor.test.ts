/** `vmsnap doctor` on folders that look like machines with DSA: text, exit codes, JSON, permissions. */
import { chmodSync, writeFileSync } from 'node:fs';
import test, { type ExecutionContext } from 'ava';
import { BARE_QUEUE, DsaTree } from '../support/dsaTree.js';
import { temporaryFolder } from './support/folder.js';
import { schemaFaults } from './support/jsonSchema.js';
import { type CliOptions, type CliResult, runCli } from './support/runCli.js';

const COLUMNS = 80;
const NOBODY = 65534;

function treeFor(t: ExecutionContext): DsaTree {
  const folder = temporaryFolder(t);
  chmodSync(folder, 0o755);
  return new DsaTree(folder);
}

function doctor(tree: DsaTree, args: readonly string[] = [], options: CliOptions = {}): Promise<CliResult> {
  return runCli(['doctor', ...args], { ...options, env: tree.environment });
}

/** Every line fits; a word that cannot be broken may stand alone. */
function requireFits(t: ExecutionContext, text: string): void {
  for (const line of text.split('\n')) t.true(line.length <= COLUMNS || !line.trim().slice(2).includes(' '), line);
}

test('a machine without DSA: plain words, and exit code 0', async (t) => {
  const tree = treeFor(t);
  const { exitCode, stdout, stderr } = await doctor(tree);
  t.is(stderr, '');
  // The PCI bus is this machine's own; one with DSA shows faults here.
  t.true(exitCode === 0 || / pci +[0-9a-f]{4}:/.test(stdout), stdout);
  t.regex(stdout, /^MACHINE\n {2}cpu /);
  t.regex(stdout, /\nDETECTORS\n {2}avx2 /);
  t.regex(stdout, /\nVERDICT .+\n {2}detector +save --detector auto takes (avx2|neon|scalar)\n {2}why /);
  requireFits(t, stdout);
});

test('faults stand out with the commands that mend them, to be copied', async (t) => {
  const tree = treeFor(t).device(0).queue(0, 0, BARE_QUEUE).device(2, { cmd_status: '0x80060000' });
  tree.queue(2, 0).queue(2, 1, { state: 'disabled' });
  writeFileSync(tree.node('wq2.0'), 'precious');
  const { exitCode, stdout } = await doctor(tree);
  t.is(exitCode, 18);
  requireFits(t, stdout);
  t.regex(
    stdout,
    /\nDEVICE dsa0\n {2}state +enabled, DSA 1\.0, NUMA node 0, PASID on\n {2}limits +128 entries, 8 queues/,
  );
  t.regex(stdout, /\n {2}not set up wq0\.0\n/);
  t.regex(stdout, /\n {2}status +0x80060000: a shared queue needs a threshold\n/);
  t.regex(
    stdout,
    /\nQUEUE dsa2\/wq2\.0 {2}not usable\n {2}set up +shared, enabled, type user, name vmsnap, size 16,\s+threshold 15/,
  );
  t.regex(stdout, /\n {2}node +\S+wq2\.0:\s+no character device,\s+mode 0644/);
  t.regex(stdout, /\nFAULTS\n/);
  t.regex(
    stdout,
    /\n {4}# accel-config config-wq dsa0\/wq0\.0 -g 0 -s 64 -t 63 -p 10 -m shared \\\n {8}-y user -n vmsnap .*-b 0\n {4}# accel-config enable-device dsa0\n/,
  );
  t.regex(stdout, /\n {4}# accel-config enable-wq dsa2\/wq2\.1\n/);
  t.regex(stdout, /\nVERDICT DSA cannot be used here as it is\n.+takes (avx2|neon|scalar)\n/);
  t.notRegex(stdout, /\[/);
});

test('a node that this user may not open', async (t) => {
  const tree = treeFor(t).device(0).queue(0, 0);
  const node = tree.node('wq0.0');
  writeFileSync(node, '');
  chmodSync(node, 0o600);
  const asUser: CliOptions = process.getuid!() === 0 ? { spawn: { uid: NOBODY, gid: NOBODY } } : {};
  if (process.getuid!() !== 0) chmodSync(node, 0o000);
  const version = await runCli(['--version'], asUser).catch((error: Error) => ({ exitCode: 1, stderr: error.message }));
  if (version.exitCode !== 0) {
    t.pass(`node cannot run as nobody here: ${version.stderr}`);
    return;
  }
  const { exitCode, stdout } = await doctor(tree, ['--json'], asUser);
  t.is(exitCode, 18);
  const report = JSON.parse(stdout) as { devices: { queues: { nodeFacts: { mayOpen: boolean } }[] }[] };
  t.deepEqual(schemaFaults('doctor.json', report), []);
  t.false(report.devices[0]!.queues[0]!.nodeFacts.mayOpen);
});

test('JSON of every kind of machine matches the schema', async (t) => {
  const machines = [
    treeFor(t),
    treeFor(t).device(0).queue(0, 0),
    treeFor(t).device(0).queue(0, 0).link('wq0.0', '/dev/null'),
    treeFor(t).device(0, { pasid_enabled: '0' }).queue(0, 0, BARE_QUEUE),
    // Old kernels, and contents that no kernel writes.
    treeFor(t).file('sys/bus/dsa/devices/dsa0/wq0.0/size', ''),
    treeFor(t).device(0, {
      version: 'x',
      max_transfer_size: '18446744073709551615',
      errors: '\u001b[31m',
      op_cap: ',',
    }),
  ];
  for (const tree of machines) {
    const { stdout, stderr } = await doctor(tree, ['--json']);
    t.is(stderr, '');
    t.deepEqual(schemaFaults('doctor.json', JSON.parse(stdout)), []);
    requireFits(t, (await doctor(tree)).stdout);
  }
});

test('what sysfs says cannot reach the terminal raw', async (t) => {
  const tree = treeFor(t)
    .device(0, { state: '\u001b[31mred' })
    .queue(0, 0, { name: '\u001b]0;title\u0007', state: 'x\u202ey' });
  const { stdout } = await doctor(tree);
  t.regex(stdout, /u\{1b\}\[31mred/);
  for (const control of ['\u001b', '\u0007', '\u202e']) t.false(stdout.includes(control));
});

test('--accel-config prints a configuration, and refuses to replace one', async (t) => {
  const tree = treeFor(t).device(0, { state: 'disabled' }, 0).queue(0, 0, BARE_QUEUE);
  const fresh = await doctor(tree, ['--accel-config']);
  t.is(fresh.exitCode, 0);
  const [device] = JSON.parse(fresh.stdout) as { dev: string; groups: { grouped_workqueues: { dev: string }[] }[] }[];
  t.is(device!.dev, 'dsa0');
  t.is(device!.groups[0]!.grouped_workqueues[0]!.dev, 'wq0.0');
  const used = await doctor(treeFor(t).device(0).queue(0, 0), ['--accel-config']);
  t.is(used.exitCode, 21);
  t.regex(used.stderr, /every DSA device has a queue/);
});
