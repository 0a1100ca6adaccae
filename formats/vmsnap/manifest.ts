/**
 * Start and end manifest: JSON <-> checked objects (SPEC.md, "Start manifest", "End manifest record").
 *
 * Only the keys of the specification are taken over, each checked; nothing of a hostile manifest reaches the rest of
 * the program unchecked, and no object is built from its keys.
 */
import { VmsnapError } from '../../native/errors.js';
import { corrupt } from './corrupt.js';
import { Geometry } from './geometry.js';
import {
  ATTACHMENTS_MAX,
  CHUNK_MAX_BYTES,
  CHUNK_MIN_BYTES,
  type CodecName,
  isPowerOfTwo,
  JSON_VALUES_MAX,
  MANIFEST_MAX_BYTES,
  NAME_MAX_BYTES,
  PAGE_MAX_BYTES,
  PAGE_MIN_BYTES,
  REGIONS_MAX,
  SEGMENT_MAX_BYTES,
  SEGMENT_MIN_BYTES,
  WRAPPED_KEY_MAX_BYTES,
} from './layout.js';

export interface RegionManifest {
  readonly name: string;
  /** Guest-physical address; undefined where it is not known (a ROM or video RAM that a source names without one). */
  readonly gpa: number | undefined;
  /** Undefined in the last region of an image that was written from a stream of unknown length. */
  readonly sizeBytes: number | undefined;
}

/** The image that a differential image refers to. */
export interface BaseManifest {
  /** 32 hex digits. */
  readonly identity: string;
  /** Without a folder. */
  readonly fileName: string;
}

export interface EncryptionManifest {
  /** The file key as a file of age, in binary form. */
  readonly wrappedKey: Buffer;
}

export interface StartManifest {
  readonly tool: string;
  readonly createdAt: string;
  readonly pageSize: number;
  readonly segmentSize: number;
  readonly chunkSize: number;
  readonly codec: { readonly name: CodecName; readonly level: number | undefined };
  readonly machine: { readonly name: string | undefined; readonly uuid: string | undefined };
  readonly labels: ReadonlyMap<string, string>;
  readonly source: { readonly kind: string; readonly name: string | undefined };
  /** Undefined in an image that is whole by itself. */
  readonly base: BaseManifest | undefined;
  /** Undefined in an image that is not encrypted. */
  readonly encryption: EncryptionManifest | undefined;
  readonly regions: readonly RegionManifest[];
}

export interface PageCounts {
  readonly zero: number;
  readonly data: number;
  readonly uniform: number;
  readonly reference: number;
  readonly sameAsBase: number;
  readonly absent: number;
}

export interface AttachmentManifest {
  readonly name: string;
  readonly sizeBytes: number;
  readonly offset: number;
}

export interface EndManifest {
  readonly regions: readonly { readonly sizeBytes: number; readonly sum: string }[];
  readonly digest: string;
  readonly pages: PageCounts;
  readonly chunks: { readonly count: number; readonly stored: number; readonly raw: number };
  readonly source: { readonly mayHaveChanged: boolean };
  readonly attachments: readonly AttachmentManifest[];
}

export function encodeStartManifest(manifest: StartManifest): Buffer {
  const { tool, createdAt, pageSize, segmentSize, chunkSize, codec, machine, source, base, encryption } = manifest;
  const labels = [...manifest.labels].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
  return encodeJson({
    tool,
    createdAt,
    pageSize,
    segmentSize,
    chunkSize,
    codec: { name: codec.name, level: codec.level },
    machine: { name: machine.name, uuid: machine.uuid },
    labels: Object.fromEntries(labels),
    source: { kind: source.kind, name: source.name },
    base: base === undefined ? undefined : { identity: base.identity, fileName: base.fileName },
    encryption: encryption && { wrappedKey: encryption.wrappedKey.toString('base64') },
    regions: manifest.regions.map(({ name, gpa, sizeBytes }) => ({ name, gpa, sizeBytes })),
  });
}

export function encodeEndManifest(manifest: EndManifest): Buffer {
  const { regions, digest, pages, chunks, source, attachments } = manifest;
  const { zero, data, uniform, reference, sameAsBase, absent } = pages;
  return encodeJson({
    regions: regions.map(({ sizeBytes, sum }) => ({ sizeBytes, sum })),
    digest,
    pages: { zero, data, uniform, reference, sameAsBase, absent },
    chunks: { count: chunks.count, stored: chunks.stored, raw: chunks.raw },
    source: { mayHaveChanged: source.mayHaveChanged },
    attachments: attachments.map(({ name, sizeBytes, offset }) => ({ name, sizeBytes, offset })),
  });
}

function encodeJson(value: unknown): Buffer {
  const bytes = Buffer.from(JSON.stringify(value), 'utf8');
  if (bytes.length <= MANIFEST_MAX_BYTES && countBrackets(bytes) <= JSON_VALUES_MAX) return bytes;
  if (bytes.length <= MANIFEST_MAX_BYTES) {
    throw new VmsnapError('USAGE', `the manifest would have more than ${JSON_VALUES_MAX} brackets ("[" and "{")`, {
      hint: 'use fewer brackets in labels and names',
    });
  }
  throw new VmsnapError('USAGE', `the manifest would have ${bytes.length} bytes, more than ${MANIFEST_MAX_BYTES}`, {
    hint: 'use fewer or shorter labels, regions and attachments',
  });
}

/** `offset` is where the JSON lies in the file, for messages. */
export function decodeStartManifest(json: Buffer, path: string, offset: number): StartManifest {
  const check = new Checker(path, offset, 'start manifest');
  const root = check.parse(json);
  const codec = check.object(root, 'codec');
  const machine = check.object(root, 'machine');
  const source = check.object(root, 'source');
  const manifest: StartManifest = {
    tool: check.string(root, 'tool'),
    createdAt: check.string(root, 'createdAt'),
    pageSize: check.powerOfTwo(root, 'pageSize', PAGE_MIN_BYTES, PAGE_MAX_BYTES),
    segmentSize: check.powerOfTwo(root, 'segmentSize', SEGMENT_MIN_BYTES, SEGMENT_MAX_BYTES),
    chunkSize: check.powerOfTwo(root, 'chunkSize', CHUNK_MIN_BYTES, CHUNK_MAX_BYTES),
    codec: { name: decodeCodecName(check, codec), level: check.optionalLevel(codec) },
    machine: { name: check.optionalString(machine, 'name'), uuid: check.optionalString(machine, 'uuid') },
    labels: check.stringMap(root, 'labels'),
    source: { kind: check.string(source, 'kind'), name: check.optionalString(source, 'name') },
    base: decodeBase(check, root),
    encryption: decodeEncryption(check, root),
    regions: check.array(root, 'regions', 1, REGIONS_MAX).map((region) => ({
      name: check.string(region, 'name'),
      gpa: check.optionalInteger(region, 'gpa'),
      sizeBytes: check.optionalInteger(region, 'sizeBytes'),
    })),
  };
  if (manifest.chunkSize < manifest.pageSize || manifest.chunkSize > manifest.segmentSize) {
    throw check.fail('chunkSize is not between pageSize and segmentSize');
  }
  const fault = regionsFault(manifest.regions, manifest.pageSize);
  if (fault !== undefined) throw check.fail(fault);
  if (manifest.base !== undefined && manifest.regions.at(-1)!.sizeBytes === undefined) {
    throw check.fail('with a base, every region has a size');
  }
  return manifest;
}

function decodeBase(check: Checker, root: JsonObject): BaseManifest | undefined {
  if (root.base === undefined) return undefined;
  const base = check.object(root, 'base');
  const fileName = check.string(base, 'fileName');
  const fault = fileNameFault(fileName);
  if (fault !== undefined) throw check.fail(`the base's name ${JSON.stringify(fileName)} ${fault}`);
  return { identity: check.hex128(base, 'identity'), fileName };
}

function decodeEncryption(check: Checker, root: JsonObject): EncryptionManifest | undefined {
  if (root.encryption === undefined) return undefined;
  const text = check.string(check.object(root, 'encryption'), 'wrappedKey');
  const wrappedKey = Buffer.from(text, 'base64');
  // Buffer.from takes anything.
  if (wrappedKey.toString('base64') !== text) throw check.fail('"wrappedKey" is no base64');
  if (wrappedKey.length > WRAPPED_KEY_MAX_BYTES)
    throw check.fail(`"wrappedKey" has ${wrappedKey.length} bytes (allowed: ${WRAPPED_KEY_MAX_BYTES})`);
  return { wrappedKey };
}

function decodeCodecName(check: Checker, codec: JsonObject): CodecName {
  const name = check.string(codec, 'name');
  if (name === 'zstd' || name === 'zlib' || name === 'none') return name;
  throw new VmsnapError('UNSUPPORTED', `${check.path} is compressed with "${name}", which this vmsnap does not know`, {
    path: check.path,
    offset: check.offset,
    hint: 'use a newer vmsnap',
  });
}

/** What is wrong with a list of regions, or undefined. Savers and readers ask the same. */
export function regionsFault(regions: readonly RegionManifest[], pageSize: number): string | undefined {
  const names = new Set<string>();
  for (const [i, region] of regions.entries()) {
    const fault = nameFault(region.name);
    if (fault !== undefined) return `region name ${JSON.stringify(region.name)} ${fault}`;
    if (names.has(region.name)) return `two regions are named ${JSON.stringify(region.name)}`;
    names.add(region.name);
    const gpa = region.gpa ?? 0;
    if (gpa % pageSize !== 0) return `region ${region.name} does not start at a page boundary`;
    if (region.sizeBytes === undefined) {
      if (i !== regions.length - 1) return `region ${region.name} has no size`;
      continue;
    }
    if (region.sizeBytes <= 0) return `region ${region.name} is empty`;
    if (region.sizeBytes % pageSize !== 0)
      return `the size of region ${region.name} is no multiple of the page size, ${pageSize}`;
    if (!Number.isSafeInteger(gpa + region.sizeBytes)) return `region ${region.name} ends beyond 2^53`;
  }
  return overlapFault(regions);
}

/** Of a region without an address nothing can be said. */
function overlapFault(regions: readonly RegionManifest[]): string | undefined {
  const placed = regions.flatMap((region) => (region.gpa === undefined ? [] : [{ ...region, gpa: region.gpa }]));
  const sorted = placed.sort((a, b) => a.gpa - b.gpa);
  for (let i = 1; i < sorted.length; i++) {
    const before = sorted[i - 1]!;
    const end = before.gpa + (before.sizeBytes ?? 1);
    if (end > sorted[i]!.gpa) return `regions ${before.name} and ${sorted[i]!.name} overlap in guest-physical memory`;
  }
  return undefined;
}

/** What is wrong with a region's or an attachment's name, or undefined. */
export function nameFault(name: string): string | undefined {
  // A lone surrogate has no bytes of its own: two such names would be one.
  if (Buffer.from(name).toString() !== name) return 'is not valid Unicode';
  const bytes = Buffer.byteLength(name);
  if (bytes < 1 || bytes > NAME_MAX_BYTES) return `has ${bytes} bytes (allowed: 1 to ${NAME_MAX_BYTES})`;
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are just what is refused here
  if (/[\u0000-\u001f\u007f-\u009f]/.test(name)) return 'has control characters';
  return undefined;
}

/** Names of attachments become file names, that of a base is one: nothing that leaves the folder. */
export function fileNameFault(name: string): string | undefined {
  if (name === '.' || name === '..' || name.includes('/')) return 'cannot be a file name';
  return nameFault(name);
}

export function decodeEndManifest(json: Buffer, start: StartManifest, path: string, offset: number): EndManifest {
  const check = new Checker(path, offset, 'end manifest');
  const root = check.parse(json);
  const pages = check.object(root, 'pages');
  const chunks = check.object(root, 'chunks');
  const source = check.object(root, 'source');
  const manifest: EndManifest = {
    regions: check.array(root, 'regions', start.regions.length, start.regions.length).map((region) => ({
      sizeBytes: check.integer(region, 'sizeBytes'),
      sum: check.hex128(region, 'sum'),
    })),
    digest: check.hex128(root, 'digest'),
    pages: {
      zero: check.integer(pages, 'zero'),
      data: check.integer(pages, 'data'),
      uniform: check.integer(pages, 'uniform'),
      reference: check.integer(pages, 'reference'),
      sameAsBase: check.integer(pages, 'sameAsBase'),
      absent: check.integer(pages, 'absent'),
    },
    chunks: {
      count: check.integer(chunks, 'count'),
      stored: check.integer(chunks, 'stored'),
      raw: check.integer(chunks, 'raw'),
    },
    source: { mayHaveChanged: check.boolean(source, 'mayHaveChanged') },
    attachments: check.array(root, 'attachments', 0, ATTACHMENTS_MAX).map((attachment) => ({
      name: check.string(attachment, 'name'),
      sizeBytes: check.integer(attachment, 'sizeBytes'),
      offset: check.integer(attachment, 'offset'),
    })),
  };
  requireSizes(manifest, start, check);
  requireAttachmentNames(manifest, check);
  return manifest;
}

function requireSizes(end: EndManifest, start: StartManifest, check: Checker): void {
  const sized = start.regions.map((region, i) => ({ ...region, sizeBytes: end.regions[i]!.sizeBytes }));
  for (const [i, region] of start.regions.entries()) {
    if (region.sizeBytes !== undefined && region.sizeBytes !== end.regions[i]!.sizeBytes) {
      throw check.fail(`region ${region.name} has another size than in the start manifest`);
    }
  }
  const fault = regionsFault(sized, start.pageSize);
  if (fault !== undefined) throw check.fail(fault);
  const geometry = imageGeometry(start, end);
  if (!geometry.withinLimits) throw check.fail('the regions are larger than the format allows');
  const { zero, data, uniform, reference, sameAsBase, absent } = end.pages;
  if (zero + data + uniform + reference + sameAsBase + absent !== geometry.totalBytes / start.pageSize) {
    throw check.fail('page counts do not add up to the memory');
  }
}

function requireAttachmentNames(end: EndManifest, check: Checker): void {
  const names = new Set<string>();
  for (const { name } of end.attachments) {
    const fault = fileNameFault(name);
    if (fault !== undefined) throw check.fail(`attachment name ${JSON.stringify(name)} ${fault}`);
    if (names.has(name)) throw check.fail(`two attachments are named ${JSON.stringify(name)}`);
    names.add(name);
  }
}

/** The geometry of a whole image. Before the end manifest is known, an open-ended region counts as empty. */
export function imageGeometry(start: StartManifest, end: EndManifest | undefined): Geometry {
  const sizes = start.regions.map((region, i) => end?.regions[i]?.sizeBytes ?? region.sizeBytes ?? 0);
  return new Geometry(start.pageSize, start.segmentSize, start.chunkSize, sizes);
}

type JsonObject = Record<string, unknown>;

const OPEN_BRACKET = 0x5b;
const OPEN_BRACE = 0x7b;

/** Arrays and objects, and brackets in strings, which are few in names. */
function countBrackets(json: Buffer): number {
  let count = 0;
  for (const byte of json) if (byte === OPEN_BRACKET || byte === OPEN_BRACE) count++;
  return count;
}

/** Takes single values out of parsed JSON, each with its type checked. */
class Checker {
  constructor(
    readonly path: string,
    readonly offset: number,
    readonly what: string,
  ) {}

  fail(fault: string): VmsnapError {
    return corrupt(this.path, this.offset, `${this.what}: ${fault}`);
  }

  parse(json: Buffer): JsonObject {
    // Parsed, each bracket costs tens of bytes: 16 MiB of them would be half a GiB.
    if (countBrackets(json) > JSON_VALUES_MAX)
      throw this.fail(`it has more than ${JSON_VALUES_MAX} arrays and objects`);
    let value: unknown;
    try {
      value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(json));
    } catch {
      throw this.fail('it is no valid JSON');
    }
    return this.asObject(value, 'it');
  }

  object(parent: JsonObject, key: string): JsonObject {
    return this.asObject(own(parent, key), key);
  }

  array(parent: JsonObject, key: string, min: number, max: number): JsonObject[] {
    const value = own(parent, key);
    if (!Array.isArray(value) || value.length < min || value.length > max) {
      throw this.fail(`"${key}" is no array of ${min === max ? min : `${min} to ${max}`} objects`);
    }
    return value.map((item) => this.asObject(item, `an item of "${key}"`));
  }

  string(parent: JsonObject, key: string): string {
    const value = own(parent, key);
    if (typeof value !== 'string') throw this.fail(`"${key}" is no string`);
    return value;
  }

  optionalString(parent: JsonObject, key: string): string | undefined {
    return own(parent, key) === undefined ? undefined : this.string(parent, key);
  }

  boolean(parent: JsonObject, key: string): boolean {
    const value = own(parent, key);
    if (typeof value !== 'boolean') throw this.fail(`"${key}" is neither true nor false`);
    return value;
  }

  integer(parent: JsonObject, key: string): number {
    const value = own(parent, key);
    if (!Number.isSafeInteger(value) || (value as number) < 0)
      throw this.fail(`"${key}" is no integer from 0 to 2^53 - 1`);
    return value as number;
  }

  optionalInteger(parent: JsonObject, key: string): number | undefined {
    return own(parent, key) === undefined ? undefined : this.integer(parent, key);
  }

  optionalLevel(codec: JsonObject): number | undefined {
    const value = own(codec, 'level');
    if (value === undefined) return undefined;
    if (!Number.isSafeInteger(value)) throw this.fail('"level" is no integer');
    return value as number;
  }

  powerOfTwo(parent: JsonObject, key: string, min: number, max: number): number {
    const value = this.integer(parent, key);
    if (!isPowerOfTwo(value) || value < min || value > max) {
      throw this.fail(`"${key}" is ${value}, no power of two from ${min} to ${max}`);
    }
    return value;
  }

  hex128(parent: JsonObject, key: string): string {
    const value = this.string(parent, key);
    if (!/^[0-9a-f]{32}$/.test(value)) throw this.fail(`"${key}" is no 32 hex digits`);
    return value;
  }

  stringMap(parent: JsonObject, key: string): Map<string, string> {
    const map = new Map<string, string>();
    const object = this.object(parent, key);
    for (const name of Object.keys(object)) map.set(name, this.string(object, name));
    return map;
  }

  private asObject(value: unknown, what: string): JsonObject {
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as JsonObject;
    throw this.fail(`${what} is no object`);
  }
}

/** Own properties only, so that a manifest cannot answer with something inherited. */
function own(object: JsonObject, key: string): unknown {
  return Object.hasOwn(object, key) ? object[key] : undefined;
}
