/**
 * `load --as`: how memory stands in a target that other tools open.
 *
 * Each format is a list of places for the wanted parts and the bytes of headers in front of them, so the workers load as ever:
 * only the offsets differ. A stream gets the headers in passing, a file when the sizes are known.
 */
import { type CoreMachine, type CoreRange, coreStartBytes, encodeCoreStart } from '../formats/elf/writeCore.js';
import { encodeLimeHeader, LIME_HEADER_BYTES } from '../formats/lime/writeLime.js';
import { VmsnapError } from '../native/errors.js';
import { usage } from './options.js';
import type { RegionSelection } from './pipeline/readJob.js';
import type { TargetFormat } from './types.js';

export const TARGET_FORMATS: readonly TargetFormat[] = ['raw', 'elf', 'lime'];

/** A region of the image as far as it concerns its place in a target. */
export interface ExportRegion {
  readonly name: string;
  /** Undefined: not known. */
  readonly gpa: number | undefined;
}

/** Bytes of a target that are no memory. */
export interface TargetHeader {
  /** In front of whose first byte they stand. */
  readonly region: number;
  readonly offset: number;
  readonly bytes: Uint8Array;
}

export interface TargetLayout {
  readonly format: TargetFormat;
  /** One for each region; undefined: nothing of it is wanted, or it is left out. */
  readonly selection: readonly (RegionSelection | undefined)[];
  /** Names of the regions that the format has no place for, because their address is not known. */
  readonly leftOut: readonly string[];
  /** `lastRegionBytes`: the true size of the last region, which a stream tells only at its end. */
  headers(lastRegionBytes: number): TargetHeader[];
  /** Bytes of the target beside the memory. */
  readonly headerBytes: number;
}

export interface ExportPlan {
  readonly path: string;
  readonly regions: readonly ExportRegion[];
  /** As a raw target has it. */
  readonly selection: readonly (RegionSelection | undefined)[];
  /** The last region's size is told only at the end. */
  readonly openEnded: boolean;
  /** The target takes its bytes in order. */
  readonly toStream: boolean;
}

/** Of a machine's processors, for an ELF core. */
export interface CoreFacts {
  readonly machine: CoreMachine;
  readonly notes: Uint8Array;
}

interface Part {
  readonly region: number;
  readonly gpa: number;
  readonly from: number;
  readonly to: number;
}

export function rawLayout(selection: ExportPlan['selection']): TargetLayout {
  return { format: 'raw', selection, leftOut: [], headers: () => [], headerBytes: 0 };
}

/** @throws USAGE if the target cannot be written in this order, or has no region at all. */
export function coreLayout(plan: ExportPlan, { machine, notes }: CoreFacts): TargetLayout {
  const parts = placeableParts(plan, 'elf');
  const headerBytes = coreStartBytes(parts.length, notes.length);
  const places = placeParts(parts, headerBytes, 0);
  const headers = (lastRegionBytes: number): TargetHeader[] => {
    const ranges = parts.map((part, i): CoreRange => {
      const { gpa, sizeBytes } = trueRange(part, plan, lastRegionBytes);
      return { gpa, sizeBytes, fileOffset: places[i]! };
    });
    return [{ region: parts[0]!.region, offset: 0, bytes: encodeCoreStart(ranges, notes, machine) }];
  };
  return { format: 'elf', ...placed(plan, parts, places), headers, headerBytes };
}

/** @throws USAGE if the target cannot be written in this order, or has no region at all. */
export function limeLayout(plan: ExportPlan): TargetLayout {
  const parts = risingParts(plan, placeableParts(plan, 'lime'));
  const places = placeParts(parts, LIME_HEADER_BYTES, LIME_HEADER_BYTES);
  const headers = (lastRegionBytes: number): TargetHeader[] =>
    parts.map((part, i) => {
      const { gpa, sizeBytes } = trueRange(part, plan, lastRegionBytes);
      return {
        region: part.region,
        offset: places[i]! - LIME_HEADER_BYTES,
        bytes: encodeLimeHeader(gpa, sizeBytes),
      };
    });
  return { format: 'lime', ...placed(plan, parts, places), headers, headerBytes: parts.length * LIME_HEADER_BYTES };
}

/** The wanted parts whose address is known, in the order of the image. */
function placeableParts(plan: ExportPlan, format: TargetFormat): Part[] {
  if (plan.openEnded && plan.toStream) {
    throw usage(
      `the size of the memory in ${plan.path} is known only at its end, and the headers of --as ${format} stand before it`,
      'give a file as the target, or the image as a file',
    );
  }
  const parts = plan.selection.flatMap((selection, region): Part[] => {
    const gpa = plan.regions[region]!.gpa;
    if (selection === undefined || gpa === undefined) return [];
    return [{ region, gpa: gpa + selection.from, from: selection.from, to: selection.to }];
  });
  if (parts.length > 0) return parts;
  throw new VmsnapError(
    'UNSUPPORTED',
    `the guest-physical addresses of the regions in ${plan.path} are not known, and --as ${format} needs them`,
    { path: plan.path, hint: 'load it --as raw: the regions end to end' },
  );
}

/** Readers of LiME files expect rising addresses. */
function risingParts(plan: ExportPlan, parts: readonly Part[]): readonly Part[] {
  const rising = [...parts].sort((a, b) => a.gpa - b.gpa);
  if (rising.every((part, i) => part === parts[i])) return parts;
  if (!plan.toStream && !plan.openEnded) return rising;
  const other = plan.toStream ? 'give a file as the target' : 'give the image as a file';
  throw usage(`the regions of ${plan.path} do not stand by rising address, as --as lime needs them in a stream`, other);
}

/** Where each part begins: end to end, `gapBytes` between two of them. */
function placeParts(parts: readonly Part[], start: number, gapBytes: number): number[] {
  let at = start;
  return parts.map(({ from, to }) => {
    const place = at;
    at += to - from + gapBytes;
    return place;
  });
}

function placed(
  plan: ExportPlan,
  parts: readonly Part[],
  places: readonly number[],
): Pick<TargetLayout, 'selection' | 'leftOut'> {
  const selection: (RegionSelection | undefined)[] = plan.selection.map(() => undefined);
  for (const [i, { region, from, to }] of parts.entries()) selection[region] = { from, to, targetOffset: places[i]! };
  const leftOut = plan.regions
    .filter((_, i) => plan.selection[i] !== undefined && selection[i] === undefined)
    .map(({ name }) => name);
  return { selection, leftOut };
}

function trueRange(part: Part, plan: ExportPlan, lastRegionBytes: number): { gpa: number; sizeBytes: number } {
  const isLast = part.region === plan.regions.length - 1;
  const to = isLast ? Math.min(part.to, lastRegionBytes) : part.to;
  return { gpa: part.gpa, sizeBytes: to - part.from };
}
