/** Whether a segment record is the one that an index entry names, and has the pages that it says. */
import { corrupt } from '../../formats/vmsnap/corrupt.js';
import type { IndexEntry } from '../../formats/vmsnap/imageIndex.js';
import { KIND_SEGMENT } from '../../formats/vmsnap/layout.js';
import { headBytes, type RecordPrefix } from '../../formats/vmsnap/record.js';
import type { SegmentTables } from '../../formats/vmsnap/segmentRecord.js';
import type { VmsnapError } from '../../native/errors.js';

export function matchesEntry(prefix: RecordPrefix, segment: number, entry: IndexEntry): boolean {
  return (
    prefix.kind === KIND_SEGMENT &&
    prefix.subject === segment &&
    prefix.crc === entry.prefixCrc &&
    headBytes(prefix) === entry.headBytes &&
    prefix.payloadBytes === entry.payloadBytes
  );
}

export function entryMismatch(path: string, segment: number, offset: number): VmsnapError {
  return corrupt(path, offset, `this is not the record of segment ${segment} that the index names`);
}

export function requireCounts(
  tables: SegmentTables,
  entry: IndexEntry,
  segment: number,
  prefix: RecordPrefix,
  path: string,
): void {
  const equal =
    tables.dataPages === entry.dataPages &&
    tables.uniformPages === entry.uniformPages &&
    tables.sameAsBasePages === entry.sameAsBasePages &&
    tables.absentPages === entry.absentPages &&
    tables.referencePages === entry.referencePages;
  if (!equal)
    throw corrupt(path, prefix.offset, `index entry of segment ${segment} has other page counts than its record`);
}
