/**
 * The list of memory ranges in the state.json of a Cloud Hypervisor snapshot.
 *
 * Where in the JSON it stands has changed from version to version, and older ones keep the state of each device as JSON inside of a
 * string. So it is looked for by its name, `memory_ranges`, at any depth and in such strings; what it says is taken strictly.
 */
import { VmsnapError } from '../../native/errors.js';

/** 512 vCPUs have about half a million values of their own. */
const VALUES_MAX = 4_000_000;
const BRACKETS_MAX = 1_000_000;
const KEY = 'memory_ranges';
const RANGES_MAX = 65_535;

export interface MemoryRange {
  /** Guest-physical address. */
  readonly gpa: number;
  readonly sizeBytes: number;
}

/** `path`: of the file, for messages. @throws CORRUPT: no such list, several that differ, or one that is none. */
export function findMemoryRanges(json: Buffer, path: string): MemoryRange[] {
  const found = findLists(parseJson(json.toString('utf8'), path, 'it'), path);
  if (found.length === 0) throw corruptState(path, `it has no "${KEY}"`);
  const lists = found.map((value) => checkList(value, path));
  const [first] = lists as [MemoryRange[]];
  if (lists.some((list) => !sameRanges(list, first))) throw corruptState(path, `it has several "${KEY}" that differ`);
  return first;
}

/** Refuses what would take many times its size in memory: text of many small values. */
export function parseJson(text: string, path: string, what: string): unknown {
  let brackets = 0;
  let commas = 0;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 0x5b || code === 0x7b) brackets++;
    else if (code === 0x2c) commas++;
  }
  if (brackets > BRACKETS_MAX || commas > VALUES_MAX) {
    throw corruptState(path, `${what} has more than ${BRACKETS_MAX} arrays and objects, or ${VALUES_MAX} values`);
  }
  try {
    return JSON.parse(text);
  } catch {
    throw corruptState(path, `${what} is no valid JSON`);
  }
}

/** All values of that name. Walks without recursion: a hostile file may be nested as deep as it is long. */
function findLists(root: unknown, path: string): unknown[] {
  const found: unknown[] = [];
  const open: unknown[] = [root];
  const note = (value: unknown) => {
    if (typeof value === 'string' && value.includes(`"${KEY}"`)) open.push(parseJson(value, path, 'a state in it'));
    else if (typeof value === 'object' && value !== null) open.push(value);
  };
  while (open.length > 0) {
    const value = open.pop();
    if (Array.isArray(value)) for (const inner of value) note(inner);
    else if (typeof value === 'object' && value !== null) {
      for (const key of Object.keys(value)) {
        const inner = (value as Record<string, unknown>)[key];
        if (key === KEY) found.push(inner);
        else note(inner);
      }
    }
  }
  return found;
}

/** `[{gpa, length}, ...]`, or that as `data` of an object. */
function checkList(value: unknown, path: string): MemoryRange[] {
  const list = Array.isArray(value) ? value : (value as { data?: unknown } | null)?.data;
  if (!Array.isArray(list) || list.length > RANGES_MAX) {
    throw corruptState(path, `"${KEY}" is no list of at most ${RANGES_MAX} ranges`);
  }
  return list.map((item: { gpa?: unknown; length?: unknown } | null, i) => {
    const [gpa, length] = [item?.gpa, item?.length];
    if (!isWhole(gpa) || !isWhole(length) || length === 0 || !Number.isSafeInteger(gpa + length)) {
      throw corruptState(path, `range ${i} of "${KEY}" is no {gpa, length} of whole numbers below 2^53`);
    }
    return { gpa, sizeBytes: length };
  });
}

function isWhole(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) >= 0;
}

function sameRanges(a: readonly MemoryRange[], b: readonly MemoryRange[]): boolean {
  return (
    a.length === b.length && a.every(({ gpa, sizeBytes }, i) => gpa === b[i]!.gpa && sizeBytes === b[i]!.sizeBytes)
  );
}

export function corruptState(path: string, fault: string): VmsnapError {
  return new VmsnapError('CORRUPT', `${path}, of a Cloud Hypervisor snapshot: ${fault}`, { path });
}
