/**
 * Constants and limits of the image format, each as SPEC.md (in this folder) gives it. Section names in the comments are
 * SPEC.md's.
 */
export const KIB = 1024;
export const MIB = 1024 * KIB;

/** Header */
export const HEADER_BYTES = 64;
export const HEADER_MAGIC = Buffer.from('89564d530d0a1a0a', 'hex');
/** What is written, and the newest that is read. */
export const FORMAT_VERSION = 1;
/** The oldest that is read. Each later one is read for ever (SPEC.md, "Versions"). */
export const FORMAT_VERSION_FIRST = 1;
/** Of an encrypted image: the tag of header and start manifest. */
export const HEADER_TAG_AT = 40;
export const HEADER_TAG_BYTES = 16;

/** Header: incompatible feature bits. This reader can name them all; it reads FEATURES_READ. */
export const FEATURE_NAMES: readonly string[] = [
  'references',
  'base',
  'overriding records',
  'encryption',
  'absent pages',
];
export const FEATURE_REFERENCES = 1n << 0n;
export const FEATURE_BASE = 1n << 1n;
export const FEATURE_OVERRIDING = 1n << 2n;
export const FEATURE_ENCRYPTION = 1n << 3n;
export const FEATURE_ABSENT = 1n << 4n;
export const FEATURES_READ =
  FEATURE_REFERENCES | FEATURE_BASE | FEATURE_OVERRIDING | FEATURE_ENCRYPTION | FEATURE_ABSENT;

/** Records */
export const PREFIX_BYTES = 64;
export const KIND_SEGMENT = 0x47455356; // "VSEG" as u32, little endian
export const KIND_ATTACHMENT = 0x54544156;
export const KIND_INDEX_BLOCK = 0x58444956;
export const KIND_END = 0x444e4556;
export const KIND_INDEX_LIST = 0x54534c56;
export const NO_SEGMENT = 0xffff_ffff_ffff_ffffn;
export const TABLES_MAX_BYTES = 16 * MIB;
export const PAYLOAD_MAX_BYTES = 128 * MIB;

/** Encryption */
export const TAG_BYTES = 16;
export const SEAL_NUMBER_BYTES = 8;
/** Of a prefix: all but the two checksums at its end. */
export const PREFIX_SEALED_BYTES = 56;
export const WRAPPED_KEY_MAX_BYTES = 1 * MIB;

/** Segment record */
export const SEGMENT_TABLES_FIXED_BYTES = 24;
/** In the tables. */
export const SEGMENT_CHUNK_COUNT_AT = 16;
export const LEAF_BYTES = MIB;
export const DIGEST_BYTES = 16;
export const WORD_BYTES = 8;
export const REFERENCE_BYTES = 8;
export const CHUNK_ENTRY_BYTES = 8;

/** Attachment record */
export const ATTACHMENT_PART_BYTES = 4 * MIB;
export const ATTACHMENT_CHUNK_BYTES = 256 * KIB;
export const ATTACHMENT_TABLES_FIXED_BYTES = 16;
export const ATTACHMENT_CHUNK_COUNT_AT = 8;

/** Index block, index list */
export const INDEX_BLOCK_ENTRIES = 4096;
export const INDEX_ENTRY_BYTES = 32;
export const INDEX_LIST_ENTRY_BYTES = 16;
export const COUNTED_TABLES_BYTES = 8;

/** Footer */
export const FOOTER_BYTES = 96;
export const FOOTER_MAGIC = Buffer.from('89564d53454e440a', 'hex');
/** Of an encrypted image. */
export const FOOTER_TAG_AT = 80;
export const FOOTER_TAG_BYTES = 12;

/** Limits */
export const PAGE_MIN_BYTES = 4 * KIB;
export const PAGE_MAX_BYTES = 2 * MIB;
export const CHUNK_MIN_BYTES = 4 * KIB;
export const CHUNK_MAX_BYTES = 4 * MIB;
export const SEGMENT_MIN_BYTES = MIB;
export const SEGMENT_MAX_BYTES = 64 * MIB;
export const REGIONS_MAX = 65_535;
export const ATTACHMENTS_MAX = 65_535;
export const SEGMENTS_MAX = 2 ** 32;
/** Of an image with overriding records, for which writers and readers hold some bytes a segment. */
export const OVERRIDING_SEGMENTS_MAX = 2 ** 22;
export const MANIFEST_MAX_BYTES = 16 * MIB;
/** Arrays and objects of a manifest: four times what the most regions and attachments need. */
export const JSON_VALUES_MAX = 4 * 65_536;
export const NAME_MAX_BYTES = 255;
/** Bases below one image. */
export const BASES_MAX = 32;

export type CodecName = 'zstd' | 'zlib' | 'none';

/** What every record starts at a multiple of: of a page where chunks are stored as they are, so that they can be mapped. */
export function alignmentOf(codec: CodecName): number {
  return codec === 'none' ? 4096 : 8;
}

export function roundUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

export function isPowerOfTwo(value: number): boolean {
  return Number.isInteger(value) && value > 0 && Number.isInteger(Math.log2(value));
}
