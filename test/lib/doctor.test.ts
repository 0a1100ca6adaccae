/** The doctor: every fault that it knows, in folders that show it, with the command that mends it. */
import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { commandStatusMeaning } from '../../lib/doctor/commandStatus.js';
import { queueDiagnoses } from '../../lib/doctor/queueDiagnoses.js';
import { verdictOf } from '../../lib/doctor/verdict.js';
import {
  type Diagnosis,
  type DoctorDevice,
  type DoctorQueue,
  type DoctorReport,
  doctor,
  type Verdict,
} from '../../lib/index.js';
import { BARE_QUEUE, DsaTree } from '../support/dsaTree.js';
import { diskWorkspace } from './support/workspace.js';

function treeFor(t: ExecutionContext): DsaTree {
  return new DsaTree(diskWorkspace(t).path('machine'));
}

function only(t: ExecutionContext, report: DoctorReport): Diagnosis {
  t.is(report.diagnoses.length, 1, JSON.stringify(report.diagnoses));
  return report.diagnoses[0]!;
}

function codes({ diagnoses }: DoctorReport): string[] {
  return diagnoses.map(({ code, subject }) => `${subject} ${code}`);
}

const WQ_OPTIONS = '-p 10 -m shared -y user -n vmsnap';

test('a machine without DSA: nothing is wrong', (t) => {
  const report = doctor(treeFor(t).options);
  t.is(report.verdict.outcome, 'none');
  t.is(report.verdict.detector, report.verdict.cpuDetector);
  t.deepEqual(report.diagnoses, []);
  t.deepEqual(report.devices, []);
  t.is(report.accelConfig, undefined);
  t.is(report.system.kernel, '6.12.9-amd64');
  t.deepEqual(report.system.iommuWords, ['intel_iommu=on,sm_on']);
  t.is(report.verdict.detector, report.detectors.find(({ available }) => available)!.name);
});

test('facts of the system', (t) => {
  const tree = treeFor(t)
    .file('sys/class/iommu/dmar0/intel-iommu/ecap', '3ef9a86f050df')
    .file('sys/class/iommu/dmar1/intel-iommu/ecap', 'f050df')
    .file('sys/class/iommu/odd/intel-iommu/ecap', 'not a number')
    .file('sys/devices/system/cpu/umwait_control/max_time', '100000')
    .file('sys/devices/system/cpu/umwait_control/enable_c02', '1')
    .file('sys/module/idxd/refcnt', '0')
    .file('proc/cpuinfo', 'processor\t: 0\nmodel name\t: A CPU\n');
  const { system, cpu } = doctor(tree.options);
  t.deepEqual(system.iommuUnits, [
    { name: 'dmar0', scalableMode: true, pasid: true },
    { name: 'dmar1', scalableMode: false, pasid: false },
    { name: 'odd', scalableMode: undefined, pasid: undefined },
  ]);
  t.deepEqual(system.umwait, { maxTicks: 100_000, deepState: true });
  t.true(system.idxdLoaded);
  t.is(cpu.model, 'A CPU');
  t.is(cpu.architecture === 'aarch64', cpu.neon);
});

test('a device without its driver, or with another', (t) => {
  const none = only(t, doctor(treeFor(t).pci('0000:6a:01.0', '0x0b25').options));
  t.like(none, { code: 'pci-no-driver', severity: 'fault', subject: '0000:6a:01.0', commands: ['modprobe idxd'] });

  const vfio = doctor(treeFor(t).pci('0000:6a:01.0', '0x0b25', 'vfio-pci').file('sys/module/idxd/refcnt', '0').options);
  t.is(vfio.verdict.outcome, 'unusable');
  t.like(only(t, vfio), { code: 'pci-other-driver', severity: 'fault' });
  t.regex(vfio.diagnoses[0]!.message, /vfio-pci/);
  t.is(vfio.diagnoses[0]!.commands.at(-1), 'echo 0000:6a:01.0 > /sys/bus/pci/drivers/idxd/bind');
  t.deepEqual(vfio.pci, [
    { address: '0000:6a:01.0', id: '8086:0b25', processors: 'Sapphire Rapids and its successors', driver: 'vfio-pci' },
  ]);

  // Other devices of Intel are none, and one that idxd has is as it should be.
  const fine = doctor(treeFor(t).pci('0000:00:01.0', '0x1234').pci('0000:6a:01.0', '0x11fb', 'idxd').options);
  t.deepEqual(fine.diagnoses, []);
  t.is(fine.pci.length, 1);
});

test('a device bound elsewhere is only a remark beside one that is here', (t) => {
  const tree = treeFor(t).device(0).queue(0, 0).pci('0000:6a:01.0', '0x0b25', 'vfio-pci');
  const remark = doctor(tree.options).diagnoses.find(({ code }) => code === 'pci-other-driver');
  t.is(remark?.severity, 'remark');
});

test('the folder of devices cannot be read', (t) => {
  const tree = treeFor(t).file('sys/bus/dsa/devices', 'a file');
  const report = doctor(tree.options);
  t.is(only(t, report).code, 'sysfs-unreadable');
  t.is(report.verdict.outcome, 'unusable');
});

test('a device that nobody has set up: commands and a configuration', (t) => {
  const tree = treeFor(t).device(2, { state: 'disabled' }, 0);
  tree.queue(2, 0, { ...BARE_QUEUE, size: '100', type: 'kernel', group_id: '1' }).queue(2, 1, BARE_QUEUE);
  const report = doctor(tree.options);
  t.is(report.verdict.outcome, 'unusable');
  const fault = only(t, report);
  t.like(fault, { code: 'no-user-queue', subject: 'dsa2' });
  // 28 of 128 entries are left.
  t.deepEqual(fault.commands, [
    'accel-config config-engine dsa2/engine2.0 -g 0',
    'accel-config config-engine dsa2/engine2.1 -g 0',
    'accel-config config-engine dsa2/engine2.2 -g 0',
    'accel-config config-engine dsa2/engine2.3 -g 0',
    `accel-config config-wq dsa2/wq2.1 -g 0 -s 28 -t 27 ${WQ_OPTIONS} -d user -b 0`,
    'accel-config enable-device dsa2',
    'accel-config enable-wq dsa2/wq2.1',
  ]);
  t.deepEqual(report.accelConfig, [
    {
      dev: 'dsa2',
      groups: [
        {
          dev: 'group2.0',
          grouped_workqueues: [
            {
              dev: 'wq2.1',
              mode: 'shared',
              size: 28,
              group_id: 0,
              priority: 10,
              block_on_fault: 0,
              type: 'user',
              driver_name: 'user',
              name: 'vmsnap',
              threshold: 27,
            },
          ],
          grouped_engines: [0, 1, 2, 3].map((engine) => ({ dev: `engine2.${engine}`, group_id: 0 })),
        },
      ],
    },
  ]);
});

test('an enabled device is disabled first, engines that serve stay, old kernels know no driver name', (t) => {
  const tree = treeFor(t).device(0, { clients: '2' }).queue(0, 0, BARE_QUEUE);
  tree.file('proc/sys/kernel/osrelease', '6.1.0-18-amd64');
  const report = doctor(tree.options);
  const fault = only(t, report);
  t.regex(fault.advice, /2 programs use the device/);
  t.deepEqual(fault.commands, [
    'accel-config disable-device dsa0',
    `accel-config config-wq dsa0/wq0.0 -g 0 -s 64 -t 63 ${WQ_OPTIONS} -b 0`,
    'accel-config enable-device dsa0',
    'accel-config enable-wq dsa0/wq0.0',
  ]);
  t.notRegex(JSON.stringify(report.accelConfig), /driver_name/);
});

test('PASID off: the command line, or the firmware', (t) => {
  const off = treeFor(t).device(0, { pasid_enabled: '0', cmd_status: '0x80110000' }).queue(0, 0);
  off.file('proc/cmdline', 'quiet intel_iommu=on');
  const asked = doctor(off.options);
  t.deepEqual(codes(asked), ['dsa0 pasid-off', 'dsa0 command-status']);
  t.regex(asked.diagnoses[0]!.commands[0]!, /intel_iommu=on,sm_on.+grub/);
  t.is(asked.diagnoses[0]!.commands[1], 'update-grub && reboot');
  t.regex(asked.diagnoses[1]!.message, /need the IOMMU with PASID.+0x80110000/);

  const firmware = doctor(treeFor(t).device(0, { pasid_enabled: '0' }).queue(0, 0).options);
  t.deepEqual(codes(firmware), ['dsa0 pasid-off']);
  t.regex(firmware.diagnoses[0]!.advice, /VT-d/);
});

test('a queue that is set up and off', (t) => {
  const queue = only(t, doctor(treeFor(t).device(0).queue(0, 1, { state: 'disabled' }).options));
  t.like(queue, { code: 'queue-disabled', subject: 'dsa0/wq0.1', commands: ['accel-config enable-wq dsa0/wq0.1'] });
  const device = doctor(treeFor(t).device(0, { state: 'disabled' }).queue(0, 1, { state: 'disabled' }).options);
  t.deepEqual(only(t, device).commands, ['accel-config enable-device dsa0', 'accel-config enable-wq dsa0/wq0.1']);
});

test('a queue that could not be enabled, because something is missing', (t) => {
  const tree = treeFor(t).device(0, { state: 'disabled', cmd_status: '0x80040000' });
  const report = doctor(tree.queue(0, 0, { state: 'disabled', name: '' }).options);
  t.deepEqual(codes(report), ['dsa0 command-status', 'dsa0/wq0.0 queue-disabled']);
  t.regex(report.diagnoses[0]!.message, /the queue has no name/);
  t.is(
    report.diagnoses[0]!.commands[0],
    `accel-config config-wq dsa0/wq0.0 -g 0 -s 64 -t 63 ${WQ_OPTIONS} -d user -b 0`,
  );
});

test('a device that has halted', (t) => {
  const report = doctor(treeFor(t).device(0, { state: 'halted' }).queue(0, 0, { state: 'disabled' }).options);
  t.deepEqual(codes(report), ['dsa0 device-halted', 'dsa0/wq0.0 queue-disabled']);
});

test('queues of other types are left alone, unless one is asked for', (t) => {
  const tree = treeFor(t)
    .device(0)
    .queue(0, 0, { state: 'disabled' })
    .queue(0, 1, { type: 'kernel' })
    .queue(0, 2, BARE_QUEUE);
  t.deepEqual(codes(doctor(tree.options)), ['dsa0/wq0.0 queue-disabled']);
  const kernel = only(t, doctor({ ...tree.options, nodes: [tree.node('wq0.1')] }));
  t.is(kernel.code, 'queue-other-type');
  t.is(kernel.commands[0], 'accel-config disable-wq dsa0/wq0.1');
  const bare = doctor({ ...tree.options, nodes: [tree.node('wq0.2')] });
  t.is(only(t, bare).code, 'queue-not-set-up');
  t.is(bare.verdict.outcome, 'unusable');
  t.true(bare.diagnoses[0]!.commands.some((command) => command.startsWith('accel-config config-wq dsa0/wq0.2 ')));
});

test('a node that is no queue', (t) => {
  const tree = treeFor(t).device(0).queue(0, 0, { state: 'disabled' });
  for (const node of ['/dev/null', tree.node('wq0.7'), '', 'wq0.0']) {
    const report = doctor({ ...tree.options, nodes: [node] });
    t.like(only(t, report), { code: 'no-such-queue', subject: node });
    t.regex(report.diagnoses[0]!.advice, /wq0\.0/);
    t.is(report.verdict.outcome, 'unusable');
  }
  const nothing = doctor({ ...treeFor(t).options, nodes: ['/dev/dsa/wq0.0'] });
  t.is(only(t, nothing).code, 'no-such-queue');
  t.is(nothing.verdict.outcome, 'unusable');
});

test('a node by another name: a link to it, a way around', (t) => {
  const tree = treeFor(t).device(0).queue(0, 0);
  writeFileSync(tree.node('wq0.0'), '');
  const link = join(tree.root, 'my-queue');
  symlinkSync(tree.node('wq0.0'), link);
  for (const node of [link, `${tree.root}/dev/../dev/dsa/wq0.0`, tree.node('wq0.0')]) {
    t.is(only(t, doctor({ ...tree.options, nodes: [node] })).code, 'node-no-device', node);
  }
  // A link to something else keeps its name.
  const other = join(tree.root, 'other');
  symlinkSync('/dev/null', other);
  t.like(only(t, doctor({ ...tree.options, nodes: [other] })), { code: 'no-such-queue', subject: other });
});

test('an enabled queue whose node is missing', (t) => {
  const tree = treeFor(t).device(0).queue(0, 0);
  const report = doctor(tree.options);
  t.is(only(t, report).code, 'node-missing');
  const queue = report.devices[0]!.queues[0]!;
  t.is(queue.nodeFacts?.kind, 'missing');
  t.deepEqual(
    queue.probe?.steps.map(({ what, error }) => [what, error]),
    [
      ['sysfs', undefined],
      ['open', 'ENOENT'],
    ],
  );
});

test('a file in the place of a node is neither mapped nor written to', (t) => {
  const tree = treeFor(t).device(0).queue(0, 0).queue(0, 1);
  writeFileSync(tree.node('wq0.0'), 'precious');
  mkdirSync(tree.node('wq0.1'));
  const report = doctor(tree.options);
  t.deepEqual(codes(report), ['dsa0/wq0.0 node-no-device', 'dsa0/wq0.1 node-no-device']);
  for (const queue of report.devices[0]!.queues) t.is(queue.probe, undefined);
});

test('a character device that is no queue is found out, and does not hang', (t) => {
  const tree = treeFor(t).device(0).queue(0, 0).queue(0, 1);
  // One takes every descriptor and answers none, the other takes nothing.
  tree.link('wq0.0', '/dev/null').link('wq0.1', '/dev/full');
  const report = doctor(tree.options);
  t.deepEqual(codes(report), ['dsa0/wq0.0 probe-failed', 'dsa0/wq0.1 probe-failed']);
  const errors = report.devices[0]!.queues.map(({ probe }) => probe!.steps.at(-1)!.error);
  t.deepEqual(errors, ['ETIMEDOUT', 'ENOSPC']);
  for (const queue of report.devices[0]!.queues) t.false(queue.usable);
});

test('what a device does not accept', (t) => {
  const op_config = '00000000,00000000,00000000,00000000,00000000,00000000,00000001,003f03bf';
  t.like(only(t, doctor(treeFor(t).device(0).queue(0, 0, { op_config }).options)), {
    code: 'no-compare',
    commands: [
      'accel-config disable-wq dsa0/wq0.0',
      'echo 00000001,003f03ff > /sys/bus/dsa/devices/dsa0/wq0.0/op_config',
      'accel-config enable-wq dsa0/wq0.0',
    ],
  });
});

test('a kernel that cannot make pages reachable', (t) => {
  const withKernel = (kernel: string): DsaTree => treeFor(t).file('proc/sys/kernel/osrelease', kernel);
  const old = doctor(withKernel('5.10.0-32-amd64').device(0).queue(0, 0, { state: 'disabled' }).options);
  t.deepEqual(codes(old), ['Linux 5.10.0-32-amd64 kernel-too-old', 'dsa0/wq0.0 queue-disabled']);
  for (const kernel of ['5.14.0', '6.1.0-28-amd64', 'odd']) {
    const report = doctor(withKernel(kernel).device(0).queue(0, 0, { state: 'disabled' }).options);
    t.deepEqual(codes(report), ['dsa0/wq0.0 queue-disabled'], kernel);
  }
  t.deepEqual(doctor(withKernel('4.19.0').options).diagnoses, []);
});

test('an emulated device passes, and every report of it says what it is', (t) => {
  const report = doctor({ emulated: true });
  t.true(report.emulated);
  t.is(report.verdict.outcome, 'ready');
  t.is(report.verdict.detector, report.verdict.cpuDetector);
  t.regex(report.verdict.reason, /emulated/);
  const queues = report.devices.flatMap((device) => device.queues);
  const ways = ['enqcmd', 'movdir64b', 'write-batch', 'write-single'];
  t.deepEqual(
    queues.map(({ probe }) => probe!.way),
    process.arch === 'x64' ? ways : ['write-batch', 'write-batch', 'write-batch', 'write-single'],
  );
  for (const { usable, probe } of queues) {
    t.true(usable);
    t.deepEqual(
      probe!.selfTest.map(({ name, right, pages }) => [name, right === pages]),
      ['zero', 'first-byte', 'middle-byte', 'last-byte', 'mixed'].map((name) => [name, true]),
    );
  }
  t.deepEqual(codes(report), ['dsa0/wq0.2, dsa2/wq2.0 portal-refused', 'dsa2/wq2.0 batch-refused']);
  t.true(report.diagnoses.every(({ severity }) => severity === 'remark'));
  t.is(report.accelConfig, undefined);
});

let emulated: DoctorDevice | undefined;

/** A queue that works (the emulated one), with something else about it. */
function emulatedQueue(change: (queue: DoctorQueue) => DoctorQueue): { device: DoctorDevice; queue: DoctorQueue } {
  emulated ??= doctor({ emulated: true }).devices[0]!;
  return { device: emulated, queue: change(emulated.queues[2]!) };
}

test('what only a real device shows', (t) => {
  const { system } = doctor(treeFor(t).options);
  const diagnose = (change: (probe: NonNullable<DoctorQueue['probe']>) => object, usable = false): Diagnosis[] => {
    const { device, queue } = emulatedQueue((working) => {
      return { ...working, usable, probe: { ...working.probe!, ...change(working.probe!) } };
    });
    return queueDiagnoses(device, queue, system);
  };
  const failing = (what: string, error: string) => () => {
    return { way: 'none', reason: 'R', hint: 'H', selfTest: [], steps: [step('open'), step('map'), step(what, error)] };
  };
  const step = (what: string, error?: string): object => ({ what, error, status: undefined });

  const opening = (error: string) => () => ({ way: 'none', reason: 'R', hint: 'H', steps: [step('open', error)] });
  t.like(diagnose(opening('EBUSY'))[0], { code: 'queue-busy', severity: 'fault' });
  t.regex(diagnose(opening('EBUSY'))[0]!.commands[0]!, /^fuser -v .+wq0\.2$/);
  t.is(diagnose(opening('EACCES'))[0]!.code, 'node-permission');
  t.like(diagnose(opening('EOPNOTSUPP'))[0], { code: 'probe-failed', message: 'R', advice: 'H', commands: [] });
  t.is(diagnose(failing('noop-write', 'ETIMEDOUT'))[0]!.code, 'probe-failed');
  t.is(diagnose(failing('compare', 'EIO'))[0]!.code, 'wrong-answers');

  const lying = diagnose(({ selfTest }) => ({
    selfTest: selfTest.map((one) => ({ ...one, right: 0, wrong: one.pages })),
  }));
  t.is(lying[0]!.code, 'wrong-answers');
  t.regex(lying[0]!.message, /WRONG.+first-byte/);
  const silent = diagnose(({ selfTest }) => ({
    selfTest: selfTest.map((one) => ({ ...one, right: 0, unknown: one.pages })),
  }));
  t.is(silent[0]!.code, 'no-answers');
  const small = diagnose(() => ({ batchPages: 32 }), true);
  t.deepEqual(
    small.map(({ code, severity }) => [code, severity]),
    [
      ['portal-refused', 'remark'],
      ['small-batches', 'remark'],
    ],
  );
});

test('the verdict on real queues', (t) => {
  const nothing = doctor(treeFor(t).options);
  const judge = (
    queues: (all: readonly DoctorQueue[]) => readonly DoctorQueue[],
    nodes: readonly string[] = [],
  ): Verdict => {
    const { device } = emulatedQueue((queue) => queue);
    return verdictOf({ ...nothing, devices: [{ ...device, queues: queues(device.queues) }] }, nodes);
  };
  const breakFirst = ([first, ...rest]: readonly DoctorQueue[]): DoctorQueue[] => [
    { ...first!, usable: false },
    ...rest,
  ];
  const ready = judge((all) => all);
  t.like(ready, { outcome: 'ready', detector: 'dsa', cpuDetector: nothing.verdict.detector });
  t.regex(ready.reason, /^3 queues work; .+4 KiB/);
  t.like(judge(breakFirst), { outcome: 'partly', detector: 'dsa' });
  // A queue that nobody has set up for programs takes nothing from the verdict.
  t.is(
    judge((all) => breakFirst(all).map((queue, i) => (i === 0 ? { ...queue, type: 'none' } : queue))).outcome,
    'ready',
  );
  t.like(
    judge((all) => all.map((queue) => ({ ...queue, usable: false }))),
    { outcome: 'unusable', detector: ready.cpuDetector },
  );
  const nodes = emulatedQueue((queue) => queue).device.queues.map(({ node }) => node);
  t.is(judge(breakFirst, nodes.slice(1)).outcome, 'ready');
  const asked = judge(breakFirst, nodes);
  t.is(asked.outcome, 'unusable');
  t.true(asked.reason.startsWith(`${nodes[0]} cannot be used`));
});

test('an unprivileged user is told which group to join, or how to make one', (t) => {
  const { system } = doctor(treeFor(t).options);
  const commands = (mode: number, group: string): readonly string[] => {
    const { device, queue } = emulatedQueue((working) => {
      const nodeFacts = { kind: 'character-device', mode, owner: 'root', group, mayOpen: false } as const;
      return { ...working, usable: false, node: '/dev/dsa/wq0.2', nodeFacts };
    });
    const [fault] = queueDiagnoses(device, queue, system);
    t.is(fault!.code, 'node-permission');
    return fault!.commands;
  };
  t.regex(commands(0o660, 'accel').join(), /^usermod -aG accel \S+$/);
  for (const made of [commands(0o600, 'root'), commands(0o640, 'accel'), commands(0o660, 'root')]) {
    t.true(made.includes('chgrp dsa /dev/dsa/wq0.2 && chmod 0660 /dev/dsa/wq0.2'));
    t.true(made.some((command) => command.includes('ENV{DEVNAME}=="*dsa/wq*", GROUP="dsa", MODE="0660"')));
  }
});

test('the command status in words', (t) => {
  t.is(commandStatusMeaning('0x0'), undefined);
  t.is(commandStatusMeaning('0x80040000'), 'the queue has no name');
  t.is(commandStatusMeaning('0x80050000'), 'a shared queue needs PASID, which is off');
  t.is(commandStatusMeaning('0x80200000'), 'the queue has no driver name');
  t.regex(commandStatusMeaning('0x80990000')!, /does not know/);
  t.is(commandStatusMeaning('0x1f'), 'the hardware refused a command (error 0x1f)');
  t.regex(commandStatusMeaning('0xffffffffffffffff')!, /does not know/);
});
