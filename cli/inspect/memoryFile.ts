/** The report of a memory file of another tool: one screen, or JSON (docs/schema/inspect-memory.json). */
import type { KnownPages, MemoryFileReport } from '../../lib/index.js';
import { printable } from '../output/printable.js';
import { formatTable } from '../output/table.js';
import { formatAddress, formatShare } from '../output/units.js';
import { Numbers, UNKNOWN } from './numbers.js';

const REGIONS_SHOWN = 8;
const FACTS_SHOWN = 12;
const ATTACHMENTS_SHOWN = 6;
const LABEL_WIDTH = 11;
const VALUE_WIDTH = 100;

export function memoryFileScreen(report: MemoryFileReport, exactBytes: boolean): string[] {
  const numbers = new Numbers(exactBytes);
  const width = Math.max(LABEL_WIDTH, ...report.facts.slice(0, FACTS_SHOWN).map(({ label }) => label.length + 1));
  const row = (label: string, value: string): string => {
    const shown = value.length > VALUE_WIDTH ? `${value.slice(0, VALUE_WIDTH - 3)}...` : value;
    return `  ${label.padEnd(width)}${shown}`;
  };
  return [...fileSection(report, numbers, row), ...memorySection(report, numbers, row)];
}

type Row = (label: string, value: string) => string;

function fileSection(report: MemoryFileReport, numbers: Numbers, row: Row): string[] {
  const { format, title, version, machine, facts, attachments } = report;
  const names = attachments
    .slice(0, ATTACHMENTS_SHOWN)
    .map(({ name, sizeBytes }) => `${name} (${numbers.bytes(sizeBytes)})`);
  const more = attachments.length - ATTACHMENTS_SHOWN;
  const known = [machine.name, machine.uuid].filter((part) => part !== undefined).join(', ');
  return [
    `MEMORY FILE ${report.path}`,
    row('format', `${format}${version === undefined ? '' : `, version ${printable(version)}`} (${title})`),
    row('file', `${numbers.bytes(report.fileBytes)}, ${numbers.bytes(report.allocatedBytes)} on disk`),
    ...(known === '' ? [] : [row('machine', printable(known))]),
    ...facts.slice(0, FACTS_SHOWN).map(({ label, value }) => row(label, factText(value, numbers))),
    ...(facts.length > FACTS_SHOWN ? [row('', `and ${facts.length - FACTS_SHOWN} facts more: --json`)] : []),
    ...(names.length === 0
      ? []
      : [row('attached', printable(names.join(', ')) + (more > 0 ? `, and ${more} more` : ''))]),
  ];
}

function factText(value: string | number | boolean, numbers: Numbers): string {
  if (typeof value === 'number') return numbers.count(value);
  return typeof value === 'string' ? printable(value) : value ? 'yes' : 'no';
}

function memorySection({ memory }: MemoryFileReport, numbers: Numbers, row: Row): string[] {
  const { sizeBytes, pageSize, regions, pages } = memory;
  const hidden = regions.length - REGIONS_SHOWN;
  const cells = regions.slice(0, REGIONS_SHOWN).map((region) => {
    const { gpa } = region;
    const addresses =
      gpa === undefined ? 'address unknown' : `${formatAddress(gpa)} - ${formatAddress(gpa + region.sizeBytes - 1)}`;
    return [printable(region.name), addresses, numbers.bytes(region.sizeBytes)];
  });
  const table = formatTable(cells, ['left', 'left', 'right']);
  const count = `${regions.length} region${regions.length === 1 ? '' : 's'}`;
  return [
    'MEMORY',
    row('size', `${numbers.bytes(sizeBytes)} in ${count}; pages of ${numbers.bytes(pageSize)}`),
    ...table.map((line, i) => row(i === 0 ? 'regions' : '', line)),
    ...(hidden > 0 ? [row('', `and ${hidden} more: --json`)] : []),
    row('pages', pagesText(pages, sizeBytes / pageSize, numbers)),
  ];
}

function pagesText({ stored, zero, absent }: KnownPages, total: number, numbers: Numbers): string {
  const counts = Object.entries({ stored, zero, absent }).flatMap(([name, count]) =>
    count === undefined ? [] : [`${numbers.count(count)} ${name} (${formatShare(count, total)})`],
  );
  return counts.length === 0 ? `${UNKNOWN} (the file does not tell without being read)` : counts.join(', ');
}

export function memoryFileJson(report: MemoryFileReport): object {
  const { memory, machine } = report;
  return {
    schema: 'vmsnap.inspect-memory',
    schemaVersion: 1,
    file: { path: report.path, fileBytes: report.fileBytes, allocatedBytes: report.allocatedBytes },
    format: { name: report.format, title: report.title, version: report.version ?? null },
    machine: { name: machine.name ?? null, uuid: machine.uuid ?? null },
    facts: Object.fromEntries(report.facts.map(({ key, value }) => [key, value])),
    memory: {
      sizeBytes: memory.sizeBytes,
      pageSize: memory.pageSize,
      pages: {
        stored: memory.pages.stored ?? null,
        zero: memory.pages.zero ?? null,
        absent: memory.pages.absent ?? null,
      },
      regions: memory.regions.map(({ name, gpa, sizeBytes }) => ({ name, gpa: gpa ?? null, sizeBytes })),
    },
    attachments: report.attachments.map(({ name, sizeBytes }) => ({ name, sizeBytes })),
  };
}
