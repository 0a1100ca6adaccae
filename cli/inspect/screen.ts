/** One image on one screen: at most 30 lines, however many regions or problems it has. */
import type { ChainReport, InspectRegion, InspectReport } from '../../lib/index.js';
import { printable } from '../output/printable.js';
import { formatTable } from '../output/table.js';
import { formatAddress, formatShare } from '../output/units.js';
import { heatBar, heatLegend } from './heatBar.js';
import { Numbers, UNKNOWN } from './numbers.js';
import { bareMessage, isStream, reportExitCode } from './trust.js';

const REGIONS_SHOWN = 4;
const PROBLEMS_SHOWN = 4;
/** The image, its base, and so on. */
const LINKS_SHOWN = 4;
const LABEL_WIDTH = 11;
const VALUE_WIDTH = 100;

export function reportScreen(report: InspectReport, exactBytes: boolean): string[] {
  const numbers = new Numbers(exactBytes);
  return [
    ...imageSection(report, numbers),
    ...memorySection(report, numbers),
    ...storageSection(report, numbers),
    ...chainSection(report, numbers),
    ...integritySection(report, numbers),
    ...heatSection(report, numbers),
  ];
}

function row(label: string, value: string): string {
  const shown = value.length > VALUE_WIDTH ? `${value.slice(0, VALUE_WIDTH - 3)}...` : value;
  return `  ${label.padEnd(LABEL_WIDTH)}${shown}`;
}

/** The row only if there is something to say. */
function optionalRow(label: string, value: string): string[] {
  return value === '' ? [] : [row(label, value)];
}

function imageSection(report: InspectReport, numbers: Numbers): string[] {
  const { format, machine, labels, source, attachments } = report;
  const features = [...format.compatibleFeatures, ...format.incompatibleFeatures];
  const names = (attachments ?? []).map(({ name, sizeBytes }) => `${name} (${numbers.bytes(sizeBytes)})`);
  return [
    `IMAGE ${report.path}`,
    row('format', `version ${format.readVersion}${features.length > 0 ? `, ${features.join(', ')}` : ''}`),
    row('created', `${printable(report.createdAt)} by ${printable(report.tool)}`),
    ...optionalRow('machine', printable([machine.name, machine.uuid].filter((part) => part !== undefined).join(', '))),
    ...optionalRow('qemu', qemuText(report)),
    ...optionalRow('labels', printable([...labels].map(([key, value]) => `${key}=${value}`).join(', '))),
    row('source', printable([source.kind, source.name].filter((part) => part !== undefined).join(', '))),
    ...optionalRow('attached', printable(names.join(', '))),
    ...optionalRow('encrypted', encryptionText(report)),
  ];
}

function encryptionText({ encryption }: InspectReport): string {
  if (encryption === undefined) return '';
  const isPassphrase = encryption.recipients.includes('scrypt');
  const whom = isPassphrase ? 'with a passphrase' : `for ${plural(encryption.recipients.length, 'recipient')}`;
  const kinds = isPassphrase ? '' : ` (${[...new Set(encryption.recipients)].join(', ')})`;
  return printable(`${whom}${kinds}; ${encryption.opened ? 'opened' : 'sealed: the rest needs a key'}`);
}

function qemuText({ qemu }: InspectReport): string {
  if (qemu === undefined) return '';
  return printable(`${qemu.machineType}, QEMU ${qemu.qemuVersion}, ${plural(qemu.disks, 'disk')}`);
}

function memorySection({ memory }: InspectReport, numbers: Numbers): string[] {
  const { pages, pageSize, regions } = memory;
  const geometry = `pages of ${numbers.bytes(pageSize)}, segments of ${numbers.bytes(memory.segmentSize)}`;
  const hidden = regions.length - REGIONS_SHOWN;
  const lines = [
    'MEMORY',
    row('size', `${numbers.bytes(memory.sizeBytes)} in ${plural(regions.length, 'region')}; ${geometry}`),
    ...regionRows(regions.slice(0, REGIONS_SHOWN), pageSize, numbers),
    ...optionalRow('', hidden > 0 ? `and ${plural(hidden, 'region')} more: --regions` : ''),
  ];
  if (pages === undefined || memory.sizeBytes === undefined) return [...lines, row('pages', UNKNOWN)];
  const total = memory.sizeBytes / pageSize;
  const counts: [string, number][] = [
    ['data', pages.data],
    ['uniform', pages.uniform],
    ['zero', pages.zero],
    ['reference', pages.reference],
    ['same as base', pages.sameAsBase],
    ['absent', pages.absent],
  ];
  const shown = counts.filter(([, count], i) => i < 3 || count > 0);
  const texts = shown.map(([name, count]) => `${numbers.count(count)} ${name} (${formatShare(count, total)})`);
  return [...lines, row('pages', texts.join(', '))];
}

function regionRows(regions: readonly InspectRegion[], pageSize: number, numbers: Numbers): string[] {
  const cells = regions.map(({ name, gpa, sizeBytes, dataPages }) => {
    const known = dataPages !== undefined && sizeBytes !== undefined;
    const data = known ? `${formatShare(dataPages, sizeBytes / pageSize)} data` : '';
    return [printable(name), addresses(gpa, sizeBytes), numbers.bytes(sizeBytes), data];
  });
  const table = formatTable(cells, ['left', 'left', 'right', 'right']);
  return table.map((line, i) => row(i === 0 ? 'regions' : '', line));
}

function addresses(gpa: number | undefined, sizeBytes: number | undefined): string {
  if (gpa === undefined) return UNKNOWN;
  return `${formatAddress(gpa)} - ${sizeBytes === undefined ? '...' : formatAddress(gpa + sizeBytes - 1)}`;
}

function storageSection(report: InspectReport, numbers: Numbers): string[] {
  const { storage } = report;
  const level = storage.level === undefined ? '' : ` level ${storage.level}`;
  return [
    'STORAGE',
    row('codec', `${storage.codec}${level}, chunks of ${numbers.bytes(storage.chunkSize)}`),
    row('data', storedText(storage, numbers)),
    row('file', [fileText(report, numbers), ...smaller(storage.memoryRatio, 'memory', numbers)].join(', ')),
    ...optionalRow('index', storage.indexBytes === undefined ? '' : numbers.bytes(storage.indexBytes)),
  ];
}

function storedText({ storedBytes, chunks, rawChunks, dataRatio }: InspectReport['storage'], numbers: Numbers): string {
  if (storedBytes === undefined) return UNKNOWN;
  const where = `${numbers.bytes(storedBytes)} in ${numbers.count(chunks)} chunks (${numbers.count(rawChunks)} uncompressed)`;
  return [where, ...smaller(dataRatio, 'the pages', numbers)].join(', ');
}

function fileText({ fileBytes, allocatedBytes }: InspectReport, numbers: Numbers): string {
  return allocatedBytes === undefined
    ? UNKNOWN
    : `${numbers.bytes(fileBytes)} (${numbers.bytes(allocatedBytes)} on disk)`;
}

function smaller(ratio: number | undefined, than: string, numbers: Numbers): string[] {
  return ratio === undefined ? [] : [`${numbers.ratio(ratio)} times smaller than ${than}`];
}

/** Only of a differential image. */
function chainSection({ base, chain }: InspectReport, numbers: Numbers): string[] {
  if (base === undefined) return [];
  const lines = ['CHAIN', row('base', `${base.fileName} (identity ${base.identity})`)];
  if (chain === undefined) return lines;
  const { images, problem } = chain;
  const hidden = images.length - LINKS_SHOWN;
  return [
    ...lines,
    row('restore', restoreText(chain, numbers)),
    ...linkRows(images.slice(0, LINKS_SHOWN), numbers),
    ...optionalRow('', hidden > 0 ? `and ${plural(hidden, 'image')} more: --json` : ''),
    ...optionalRow('problem', problem === undefined ? '' : printable(problem.message)),
    ...optionalRow('', problem?.hint === undefined ? '' : printable(problem.hint)),
  ];
}

function restoreText({ complete, images }: ChainReport, numbers: Numbers): string {
  if (!complete) return 'impossible: the chain is not complete';
  const chunks = images.reduce((sum, { restoreChunks }) => sum + (restoreChunks ?? 0), 0);
  const bytes = images.reduce((sum, { restoreBytes }) => sum + (restoreBytes ?? 0), 0);
  const what = `${numbers.count(chunks)} chunks, ${numbers.bytes(bytes)}`;
  return `reads at most ${what} from ${plural(images.length, 'file')}`;
}

function linkRows(images: ChainReport['images'], numbers: Numbers): string[] {
  const cells = images.map(({ path, fileBytes, restoreChunks, restoreBytes }) => [
    printable(path),
    numbers.bytes(fileBytes),
    restoreChunks === undefined ? '' : `${numbers.count(restoreChunks)} chunks`,
    restoreBytes === undefined ? '' : `${numbers.bytes(restoreBytes)} to read`,
  ]);
  const table = formatTable(cells, ['left', 'right', 'right', 'right']);
  return table.map((line, i) => row(i === 0 ? 'images' : '', line));
}

function integritySection(report: InspectReport, numbers: Numbers): string[] {
  const { problems, source, memory, identity } = report;
  const hidden = problems.length - PROBLEMS_SHOWN;
  return [
    'INTEGRITY',
    row('complete', soundness(report)),
    ...problems.slice(0, PROBLEMS_SHOWN).map(({ code, offset, message }) => {
      return row(
        'problem',
        `${code}${offset === undefined ? '' : ` at ${offset}`}: ${bareMessage(message, report.path, offset)}`,
      );
    }),
    ...optionalRow('', hidden > 0 ? `and ${plural(hidden, 'problem')} more: --json` : ''),
    ...(reportExitCode(report) === 0
      ? []
      : [row('trusted', `the first ${numbers.count(report.trustedBytes)} bytes; vmsnap verify tells about the rest`)]),
    row('identity', identity ?? UNKNOWN),
    row('digest', memory.digest === undefined ? UNKNOWN : `${memory.digest} (of the memory, XXH3-128)`),
    ...optionalRow('source', source.mayHaveChanged === true ? 'may have changed while it was read' : ''),
  ];
}

function soundness(report: InspectReport): string {
  const { complete, problems } = report;
  if (isStream(report)) return 'unknown: of a stream only the beginning is read';
  if (report.encryption?.opened === false && complete && problems.length === 0)
    return 'yes, as far as it can be told without the key';
  if (complete && problems.length === 0) return 'yes; header, manifests, index and footer are sound';
  return complete ? 'yes, but damaged' : 'no: the image ends before its footer, or its end is damaged';
}

function heatSection({ heat, memory }: InspectReport, numbers: Numbers): string[] {
  if (heat === undefined) return [`HEAT ${UNKNOWN}`];
  const cell = memory.sizeBytes === undefined ? '' : `; a cell is ${numbers.bytes(memory.sizeBytes / heat.length)}`;
  return [`HEAT ${heatLegend(heat)}${cell}`, `  ${heatBar(heat)}`];
}

function plural(count: number, word: string): string {
  return `${count} ${word}${count === 1 ? '' : 's'}`;
}
