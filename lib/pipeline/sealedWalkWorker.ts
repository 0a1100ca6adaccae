/**
 * Walks an encrypted image without its key, from a file or a pipe: all that its checksums say of the stored bytes, the order of
 * its records, and its end. Nothing is opened. What that proves: the file is as it was written, unless somebody changed it who
 * meant to. The rest needs the key.
 *
 * Damage of a record's contents does not end it; where a prefix is damaged, or the order, it stops.
 */
import { readUpTo } from '../../formats/readUpTo.js';
import { corrupt } from '../../formats/vmsnap/corrupt.js';
import { decodeFooter } from '../../formats/vmsnap/footer.js';
import { Geometry } from '../../formats/vmsnap/geometry.js';
import {
  checkSealed,
  type ImageHead,
  placeIn,
  requireCountedSize,
  requireTail,
  type WholeRecord,
} from '../../formats/vmsnap/imageFile.js';
import {
  ATTACHMENT_PART_BYTES,
  FOOTER_BYTES,
  KIND_ATTACHMENT,
  KIND_END,
  KIND_INDEX_LIST,
  KIND_SEGMENT,
  PREFIX_BYTES,
} from '../../formats/vmsnap/layout.js';
import {
  checkTables,
  decodePrefix,
  headBytes,
  kindName,
  type RecordPrefix,
  recordBytes,
} from '../../formats/vmsnap/record.js';
import { segmentTablesMaxBytes } from '../../formats/vmsnap/segmentRecord.js';
import { native } from '../../native/binding.js';
import { errnoError, type PlainError, VmsnapError } from '../../native/errors.js';
import { isAborted, type SharedControl, STAT_IMAGE_BYTES, statsOf, WORD_ABORT } from './control.js';
import { rebuildHead } from './link.js';
import { Aborted } from './mutex.js';
import { FINDINGS_MAX } from './readJob.js';

export interface SealedWalkJob {
  readonly kind: 'sealedWalk';
  readonly control: SharedControl;
  readonly image: { readonly fd: number; readonly path: string; readonly isStream: boolean };
  readonly headBytes: Buffer | Uint8Array;
  /** Leave the payloads unread, where that is possible. */
  readonly structureOnly: boolean;
}

export interface SealedWalkResult {
  readonly findings: readonly { readonly structure: string; readonly error: PlainError }[];
  readonly findingCount: number;
  readonly records: number;
  /** Undefined if the end was not met sound. */
  readonly end: { readonly identity: string; readonly fileBytes: number } | undefined;
}

export function runSealedWalkWorker(job: SealedWalkJob): SealedWalkResult {
  return new SealedWalk(job).run();
}

class SealedWalk {
  readonly #job: SealedWalkJob;
  readonly #head: ImageHead;
  readonly #stats: Float64Array;
  readonly #segmentMaxBytes: { tables: number; payload: number };
  readonly #findings: { structure: string; error: PlainError }[] = [];
  #findingCount = 0;
  #offset: number;
  #chain: number;
  #previousSegment = -1;
  #records = 0;
  #end: WholeRecord | undefined;
  #buffer = Buffer.alloc(PREFIX_BYTES);

  constructor(job: SealedWalkJob) {
    this.#job = job;
    this.#head = rebuildHead(job.headBytes, undefined, job.image.path);
    this.#stats = statsOf(job.control, 0);
    this.#offset = this.#head.bytes.length;
    this.#chain = this.#head.headerCrc;
    const { pageSize, segmentSize, chunkSize } = this.#head.start;
    const geometry = new Geometry(pageSize, segmentSize, chunkSize, []);
    const tables = segmentTablesMaxBytes(geometry, this.#head.header.alignmentBytes);
    this.#segmentMaxBytes = { tables, payload: segmentSize };
  }

  run(): SealedWalkResult {
    let end: SealedWalkResult['end'];
    try {
      let list = this.#step();
      while (list === undefined) list = this.#step();
      end = this.#takeFooter(list);
    } catch (error) {
      this.#note('record', error);
    }
    return { findings: this.#findings, findingCount: this.#findingCount, records: this.#records, end };
  }

  /** One record. @returns the index list, which is the last. */
  #step(): WholeRecord | undefined {
    const { alignmentBytes } = this.#head.header;
    const prefix = this.#readPrefix();
    this.#requireOrder(prefix);
    this.#requireSize(prefix);
    const record = this.#readRest(prefix, recordBytes(prefix, alignmentBytes));
    this.#offset += recordBytes(prefix, alignmentBytes);
    this.#chain = prefix.crc;
    this.#records++;
    this.#stats[STAT_IMAGE_BYTES] = this.#offset;
    if (prefix.kind === KIND_SEGMENT) this.#previousSegment = prefix.subject;
    if (prefix.kind === KIND_END) this.#end = { prefix, bytes: Buffer.from(record) };
    return prefix.kind === KIND_INDEX_LIST ? { prefix, bytes: Buffer.from(record) } : undefined;
  }

  #readPrefix(): RecordPrefix {
    const { path } = this.#job.image;
    if (isAborted(this.#job.control)) throw new Aborted();
    const got = this.#read(this.#offset, this.#buffer.subarray(0, PREFIX_BYTES));
    if (got < PREFIX_BYTES)
      throw corrupt(path, this.#offset + got, got === 0 ? 'truncated: no footer' : 'truncated in a record prefix');
    return decodePrefix(this.#buffer, 0, placeIn(this.#head, path, this.#offset));
  }

  #requireOrder(prefix: RecordPrefix): void {
    const { path } = this.#job.image;
    const name = kindName(prefix.kind);
    if ((prefix.kind === KIND_INDEX_LIST) !== (this.#end !== undefined))
      throw corrupt(path, prefix.offset, `${name} record where none can be`);
    if (prefix.chain !== this.#chain)
      throw corrupt(path, prefix.offset, `${name} record does not follow the one before it`);
    if (prefix.previousSegment !== this.#previousSegment)
      throw corrupt(path, prefix.offset, `a segment record is missing before this ${name}`);
  }

  #requireSize(prefix: RecordPrefix): void {
    const { kind, tablesBytes, payloadBytes, offset } = prefix;
    if (kind !== KIND_SEGMENT && kind !== KIND_ATTACHMENT) {
      requireCountedSize(prefix, this.#job.image.path);
      return;
    }
    const most = kind === KIND_SEGMENT ? this.#segmentMaxBytes : { tables: 4096, payload: ATTACHMENT_PART_BYTES };
    if (tablesBytes <= most.tables && payloadBytes <= most.payload) return;
    throw corrupt(this.#job.image.path, offset, `${kindName(kind)} record is larger than it can be`);
  }

  /** @returns the record, or its head where that is enough. */
  #readRest(prefix: RecordPrefix, length: number): Buffer {
    const { path, isStream } = this.#job.image;
    const isCounted = prefix.kind !== KIND_SEGMENT && prefix.kind !== KIND_ATTACHMENT;
    const wanted = this.#job.structureOnly && !isStream && !isCounted ? headBytes(prefix) : length;
    if (this.#buffer.length < wanted) {
      const larger = Buffer.alloc(wanted);
      this.#buffer.copy(larger, 0, 0, PREFIX_BYTES);
      this.#buffer = larger;
    }
    const record = this.#buffer.subarray(0, wanted);
    const got = PREFIX_BYTES + this.#read(this.#offset + PREFIX_BYTES, record.subarray(PREFIX_BYTES));
    if (got < wanted) throw corrupt(path, this.#offset + got, `truncated in a ${kindName(prefix.kind)} record`);
    try {
      if (wanted === length) checkSealed(record, prefix, path);
      else checkTables(record, prefix, path);
    } catch (error) {
      this.#note(kindName(prefix.kind), error);
    }
    return record;
  }

  #takeFooter(list: WholeRecord): SealedWalkResult['end'] {
    const { path } = this.#job.image;
    // One byte more than the footer, to see that the file ends there.
    const bytes = Buffer.alloc(FOOTER_BYTES + 1);
    const got = this.#read(this.#offset, bytes);
    if (got < FOOTER_BYTES) throw corrupt(path, this.#offset + got, 'truncated in the footer');
    if (got > FOOTER_BYTES) throw corrupt(path, this.#offset + FOOTER_BYTES, 'bytes after the end of the image');
    const footer = decodeFooter(bytes.subarray(0, FOOTER_BYTES), this.#offset, this.#head, path);
    requireTail(this.#head, footer, this.#offset, this.#end!, list, path);
    if (footer.recordCount !== this.#records)
      throw corrupt(path, this.#offset, `there are ${this.#records} records, not ${footer.recordCount}`);
    return { identity: footer.identity, fileBytes: footer.fileBytes };
  }

  #note(structure: string, error: unknown): void {
    if (!(error instanceof VmsnapError) || error.code !== 'CORRUPT') throw error;
    this.#findingCount++;
    if (this.#findings.length < FINDINGS_MAX) this.#findings.push({ structure, error: error.toPlain() });
  }

  #read(offset: number, into: Buffer): number {
    const { image, control } = this.#job;
    if (!image.isStream) return readUpTo(image, offset, into);
    const got = native.readStream(image.fd, into, 0, into.length, control.words, WORD_ABORT);
    if (isAborted(control)) throw new Aborted();
    if (got < 0) throw errnoError(got, 'read', image.path, offset);
    return got;
  }
}
