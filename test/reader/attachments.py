"""Attachment records against the table in the end manifest (SPEC.md, "Attachment record")."""

from chunks import ENTRY_BYTES, Chunk, ChunkDecoder, split_payload
from damage import require
from end_manifest import Attachment
from fields import require_zeros, u32
from records import PREFIX_BYTES, Record

PART_BYTES = 4 << 20
CHUNK_BYTES = 256 << 10
FIXED_BYTES = 16


def read_parts(records: list[Record], attachments: list[Attachment]) -> list[list[Chunk]]:
    """The chunks of each attachment."""
    found: list[list[Chunk]] = [[] for _ in attachments]
    sizes = [0] * len(attachments)
    parts = [0] * len(attachments)
    before = None
    for record in records:
        if record.kind == b"VATT":
            number = record.subject
            require(number < len(attachments), record.offset + 32, f"attachment {number} of {len(attachments)}")
            if parts[number] == 0:
                good = attachments[number].offset == record.offset
                require(good, record.offset, f"the end manifest has attachment {number} elsewhere")
            else:
                require(before == number, record.offset, f"the parts of attachment {number} are apart")
                require(sizes[number] % PART_BYTES == 0, record.offset, "a part after the last")
            raw_length, chunks = _read_part(record, parts[number])
            parts[number] += 1
            sizes[number] += raw_length
            found[number] += chunks
        if record.kind != b"VIDX":
            before = record.subject if record.kind == b"VATT" else None
    for attachment, size in zip(attachments, sizes):
        require(attachment.size == size, attachment.offset, f"attachment {attachment.name!r} of {size} bytes")
        require(size > 0 or attachment.offset == 0, attachment.offset, "an empty attachment has an offset")
    return found


def _read_part(record: Record, expected_part: int) -> tuple[int, list[Chunk]]:
    tables, at = record.tables, record.offset + PREFIX_BYTES
    require(len(tables) >= FIXED_BYTES, at, "tables are too short")
    part, raw_length, chunk_count, _ = (u32(tables, 4 * i) for i in range(4))
    require(part == expected_part, at, f"part {part}, expected {expected_part}")
    require(1 <= raw_length <= PART_BYTES, at + 4, f"part of {raw_length} bytes")
    require(chunk_count == -(-raw_length // CHUNK_BYTES), at + 8, f"{chunk_count} chunks")
    require_zeros(tables, 12, 16, at + 12, "reserved field of an attachment")
    end = FIXED_BYTES + ENTRY_BYTES * chunk_count
    require(end <= len(tables), at, "tables are longer than their length")
    require_zeros(tables, end, len(tables), at + end, "end of the tables")
    raw_lengths = [min(CHUNK_BYTES, raw_length - done) for done in range(0, raw_length, CHUNK_BYTES)]
    return raw_length, split_payload(record, FIXED_BYTES, raw_lengths)


def check_contents(parts: list[list[Chunk]], decoder: ChunkDecoder) -> list[bytes]:
    return [b"".join(decoder.raw(chunk) for chunk in chunks) for chunks in parts]
