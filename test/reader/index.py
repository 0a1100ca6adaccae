"""Index blocks and index list against the records they name (SPEC.md, "Index block", "Index list record")."""

import struct

from damage import require
from fields import u32, u64
from records import Record, read_counted
from segments import Segment, absent_pages
from state_map import DATA, REFERENCE, SAME_AS_BASE, UNIFORM

BLOCK_ENTRIES = 4096
ENTRY_BYTES = 32
LIST_ENTRY_BYTES = 16
NO_ENTRY = bytes(ENTRY_BYTES)


def check_index(records: list[Record], segments: dict[int, Segment], segment_count: int) -> None:
    blocks: dict[int, Record] = {}
    for record in records:
        if record.kind == b"VIDX":
            require(record.subject not in blocks, record.offset, f"a second index block {record.subject}")
            _check_block(record, segments, segment_count)
            blocks[record.subject] = record
    _check_list(records[-1], blocks, segments, segment_count)


def _check_block(record: Record, segments: dict[int, Segment], segment_count: int) -> None:
    first = record.subject * BLOCK_ENTRIES
    require(first < segment_count, record.offset, f"index block {record.subject} of no segments")
    count = min(BLOCK_ENTRIES, segment_count - first)
    read_counted(record, count)
    require(len(record.payload) == count * ENTRY_BYTES, record.offset + 8, "index block of a wrong length")
    require(any(record.payload), record.payload_at, "index block without a record")
    for i in range(count):
        found = record.payload[i * ENTRY_BYTES : (i + 1) * ENTRY_BYTES]
        segment = segments.get(first + i)
        at = record.payload_at + i * ENTRY_BYTES
        require(found == _expected_entry(segment), at, f"index entry of segment {first + i} is not what its record is")
        if segment is not None:
            require(segment.record.offset < record.offset, at, "an index block before a record that it names")


def _expected_entry(segment: Segment | None) -> bytes:
    if segment is None:
        return NO_ENTRY
    record = segment.record
    same = segment.pages(SAME_AS_BASE)
    counts = (segment.pages(DATA), segment.pages(UNIFORM), segment.pages(REFERENCE), same, absent_pages(segment), 0)
    return struct.pack("<QIII6H", record.offset, record.head_bytes, len(record.payload), record.crc, *counts)


def _check_list(record: Record, blocks: dict[int, Record], segments: dict[int, Segment], segment_count: int) -> None:
    count = -(-segment_count // BLOCK_ENTRIES)
    read_counted(record, count)
    require(len(record.payload) == count * LIST_ENTRY_BYTES, record.offset + 8, "index list of a wrong length")
    for number in range(count):
        at = number * LIST_ENTRY_BYTES
        block = blocks.get(number)
        expected = (block.offset, block.crc, 0) if block else (0, 0, 0)
        found = (u64(record.payload, at), u32(record.payload, at + 8), u32(record.payload, at + 12))
        require(found == expected, record.payload_at + at, f"index list: entry of block {number} is wrong")
    for number in segments:
        require(number // BLOCK_ENTRIES in blocks, record.offset, f"segment {number} is in no index block")
