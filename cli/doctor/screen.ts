/** The report for people, at most 80 columns: facts first, then what is to be mended, the verdict last. */
import pc from 'picocolors';
import type { Diagnosis, DoctorDevice, DoctorQueue, DoctorReport, ProbeStep, SystemFacts } from '../../lib/index.js';
import { printable } from '../output/printable.js';
import { formatBytes } from '../output/units.js';
import { wrap, wrapCommand } from '../output/wrap.js';
import { OUTCOME_TITLES, STEP_TITLES, WAY_TITLES } from './words.js';

type Colors = ReturnType<typeof pc.createColors>;

const COLUMNS = 80;
const LABEL_WIDTH = 11;
const INDENT = 2;
const COMMAND_INDENT = 4;
const UNKNOWN = '-';
const EMULATED_TEXT =
  'The devices below are software inside this process. They show that the path works, and say nothing about this' +
  ' machine, and nothing about the speed of a real device.';
/** The software error register, all zero. */
const NO_ERRORS = /^(0x)?[0 x]*$/;
/** The status of a completion record that says that all went well. */
const SUCCESS = /\(01\)$/;

export function doctorScreen(report: DoctorReport, colored: boolean): string[] {
  const colors = pc.createColors(colored);
  return [
    ...emulatedSection(report, colors),
    ...machineSection(report),
    ...hardwareSection(report),
    ...report.devices.flatMap((device) => deviceSection(device, report.emulated)),
    ...diagnosisSection('FAULTS', report, 'fault', colors.red),
    ...diagnosisSection('REMARKS', report, 'remark', colors.cyan),
    ...verdictSection(report, colors),
  ];
}

function row(label: string, value: string): string[] {
  const lines = wrap(printable(value), COLUMNS - INDENT - LABEL_WIDTH);
  return lines.map((line, i) => `${' '.repeat(INDENT)}${(i === 0 ? label : '').padEnd(LABEL_WIDTH)}${line}`);
}

function optionalRow(label: string, value: string): string[] {
  return value === '' ? [] : row(label, value);
}

function emulatedSection({ emulated }: DoctorReport, colors: Colors): string[] {
  if (!emulated) return [];
  return [
    colors.yellow('EMULATED DEVICE'),
    ...wrap(EMULATED_TEXT, COLUMNS - INDENT).map((line) => `${' '.repeat(INDENT)}${line}`),
  ];
}

function machineSection({ cpu, detectors, system }: DoctorReport): string[] {
  const { architecture, model, ...features } = cpu;
  const names = Object.entries(features).filter(([name]) => isFeatureOf(name, architecture));
  const having = names.filter(([, present]) => present).map(([name]) => name);
  const lacking = names.filter(([, present]) => !present).map(([name]) => name);
  const has = [having.join(', '), lacking.length === 0 ? '' : `without ${lacking.join(', ')}`];
  return [
    'MACHINE',
    ...row('cpu', `${model ?? architecture}`),
    ...row('', has.filter((part) => part !== '').join('; ')),
    ...row('kernel', system.kernel),
    ...row('iommu', iommuText(system)),
    ...optionalRow('umwait', umwaitText(system)),
    'DETECTORS',
    ...detectors.flatMap(({ name, available, reason }) => row(name, `${available ? 'yes' : 'no'}: ${reason}`)),
  ];
}

function isFeatureOf(name: string, architecture: string): boolean {
  return (name === 'neon') === (architecture === 'aarch64');
}

function iommuText({ iommuUnits, iommuWords }: SystemFacts): string {
  const scalable = iommuUnits.filter(({ scalableMode }) => scalableMode === true).length;
  const units =
    iommuUnits.length === 0
      ? 'none'
      : `${iommuUnits.map(({ name }) => name).join(', ')} (${scalable} with scalable mode)`;
  return `${units}; command line: ${iommuWords.length === 0 ? 'nothing about it' : iommuWords.join(' ')}`;
}

function umwaitText({ umwait }: SystemFacts): string {
  if (umwait === undefined) return '';
  return `at most ${umwait.maxTicks} ticks, C0.2 ${umwait.deepState ? 'allowed' : 'not allowed'}`;
}

function hardwareSection({ emulated, pci, devices, system }: DoctorReport): string[] {
  if (emulated) return [];
  const driver = system.idxdLoaded ? 'loaded' : 'not loaded';
  const none = pci.length === 0 && devices.length === 0;
  const nothing =
    'no DSA device on the PCI bus. Intel Xeon has them since Sapphire Rapids; a guest does not see those of its host.';
  return [
    'DSA',
    ...pci.flatMap(({ address, id, processors, driver: bound }) => {
      return row('pci', `${address} (${id}, ${processors}): ${bound === undefined ? 'no driver' : `driver ${bound}`}`);
    }),
    ...(none ? row('pci', nothing) : []),
    ...row('driver', `module idxd is ${driver}`),
  ];
}

function deviceSection(device: DoctorDevice, emulated: boolean): string[] {
  const { maxQueueEntries, maxQueues, maxEngines, maxBatch, maxTransferBytes, commandStatusMeaning } = device;
  const pasid = { 1: 'PASID on', 0: 'PASID off' }[device.pasidEnabled] ?? 'PASID unknown';
  const parts = [device.state || 'state unknown', versionText(device.version), numaText(device.numaNode), pasid];
  const limits = `${maxQueueEntries} entries, ${maxQueues} queues, ${maxEngines} engines, batches of ${maxBatch}`;
  const unused = device.queues.filter((queue) => !isShown(queue)).map(({ name }) => name);
  return [
    `DEVICE ${device.name}${emulated ? ' (emulated)' : ''}`,
    ...row('state', parts.filter((part) => part !== '').join(', ')),
    ...row('limits', `${limits}, transfers of ${formatBytes(maxTransferBytes)}`),
    ...optionalRow(
      'status',
      commandStatusMeaning === undefined ? '' : `${device.commandStatus}: ${commandStatusMeaning}`,
    ),
    ...optionalRow('errors', NO_ERRORS.test(device.errors) ? '' : device.errors),
    ...device.queues.filter(isShown).flatMap((queue) => queueSection(device, queue)),
    ...optionalRow('not set up', unused.join(', ')),
  ];
}

/** Queues that nobody has set up are only named. */
function isShown({ size, state, probe }: DoctorQueue): boolean {
  return size > 0 || state === 'enabled' || probe !== undefined;
}

function versionText(version: number): string {
  return version === 0 ? '' : `DSA ${version >> 8}.${version & 0xff}`;
}

function numaText(node: number): string {
  return node < 0 ? '' : `NUMA node ${node}`;
}

function queueSection(device: DoctorDevice, queue: DoctorQueue): string[] {
  const { probe } = queue;
  return [
    `QUEUE ${device.name}/${queue.name}  ${queue.usable ? 'usable' : 'not usable'}`,
    ...row('set up', setUpText(queue)),
    ...row('limits', `batches of ${queue.maxBatch}, transfers of ${formatBytes(queue.maxTransferBytes)}`),
    ...optionalRow('node', nodeText(queue)),
    ...(probe === undefined ? row('probe', 'not tried') : probeRows(probe)),
  ];
}

function setUpText(queue: DoctorQueue): string {
  const { mode, state, type, label, group, size, threshold } = queue;
  return [
    mode || 'mode unknown',
    state || 'state unknown',
    `type ${type || UNKNOWN}`,
    ...(label === '' ? [] : [`name ${label}`]),
    `size ${size}`,
    ...(mode === 'shared' ? [`threshold ${threshold}`] : []),
    group < 0 ? 'in no group' : `group ${group}`,
    ...(queue.blockOnFault ? ['blocks on faults'] : []),
    ...(queue.atsDisabled ? ['ATS off'] : []),
    ...(queue.prsDisabled ? ['PRS off'] : []),
  ].join(', ');
}

function nodeText({ node, nodeFacts }: DoctorQueue): string {
  if (nodeFacts === undefined) return '';
  const { kind, mode, owner, group, mayOpen } = nodeFacts;
  if (kind === 'missing') return `${node} is missing`;
  const may = mayOpen ? 'you may open it' : 'you may not open it';
  const what = kind === 'other' ? 'no character device, ' : '';
  return `${node}: ${what}mode ${(mode ?? 0).toString(8).padStart(4, '0')}, ${owner}:${group}; ${may}`;
}

function probeRows(probe: NonNullable<DoctorQueue['probe']>): string[] {
  const { steps, way, depth, selfTest } = probe;
  const answers = steps.map((step) => `${STEP_TITLES[step.what] ?? step.what} ${stepAnswer(step)}`);
  const unit = `compares up to ${formatBytes(probe.maxUnitBytes)}`;
  const batches = probe.batches ? `batches of ${probe.batchPages} pages` : 'no batches';
  const passed = selfTest.filter(({ right, pages }) => right === pages);
  const failed = selfTest.filter((one) => !passed.includes(one));
  const failures = failed.map(({ name, wrong, unknown }) => `${name}: ${wrong} wrong, ${unknown} without answer`);
  const selfText = [`${passed.length} of ${selfTest.length} passed`, ...failures].join('; ');
  return [
    ...optionalRow('probe', answers.join('; ')),
    ...(way === 'none' ? [] : row('way', `${WAY_TITLES[way] ?? way}, ${batches}, ${unit}, ${depth} in flight`)),
    ...optionalRow('self-test', selfTest.length === 0 ? '' : selfText),
  ];
}

function stepAnswer({ what, error, status }: ProbeStep): string {
  if (what === 'compare' && error === 'EIO') return 'WRONG';
  if (what === 'sysfs' && error !== undefined) return 'not ready';
  if (error === 'ETIMEDOUT') return 'no answer';
  if (error !== undefined) return `refused (${error})`;
  return status === undefined || SUCCESS.test(status) ? 'ok' : status;
}

function diagnosisSection(
  title: string,
  { diagnoses }: DoctorReport,
  severity: Diagnosis['severity'],
  paint: (text: string) => string,
): string[] {
  const shown = diagnoses.filter((diagnosis) => diagnosis.severity === severity);
  return shown.length === 0 ? [] : [paint(title), ...shown.flatMap(diagnosisLines)];
}

function diagnosisLines({ subject, message, advice, commands }: Diagnosis): string[] {
  const text = `${subject}: ${message}${advice === '' ? '' : `; ${advice}`}.`;
  const [first, ...rest] = wrap(printable(text), COLUMNS - COMMAND_INDENT);
  return [
    `${' '.repeat(INDENT)}- ${first}`,
    ...rest.map((line) => `${' '.repeat(COMMAND_INDENT)}${line}`),
    ...commands.flatMap(commandLines),
  ];
}

/** `#` as a root shell's prompt. */
function commandLines(command: string): string[] {
  const lines = wrapCommand(printable(command), COLUMNS - COMMAND_INDENT - 2);
  return lines.map((line, i) => `${' '.repeat(COMMAND_INDENT)}${i === 0 ? '# ' : '  '}${line}`);
}

function verdictSection({ verdict, emulated }: DoctorReport, colors: Colors): string[] {
  const { outcome, detector, cpuDetector, reason } = verdict;
  const paint = { ready: colors.green, none: colors.green, partly: colors.yellow, unusable: colors.red }[outcome];
  const choice = `${detector} for memory in 2 MiB pages, ${cpuDetector} for all other`;
  const title = emulated && outcome === 'ready' ? 'the emulated device works' : OUTCOME_TITLES[outcome];
  return [
    paint(`VERDICT ${title}`),
    ...row('detector', `save --detector auto takes ${detector === cpuDetector ? detector : choice}`),
    ...row('why', `${reason}.`),
  ];
}
