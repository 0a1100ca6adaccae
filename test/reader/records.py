"""The walk over the records: prefix, tables CRC, chain, binding and padding of each (SPEC.md, "Records")."""

from dataclasses import dataclass

from crc32c import crc32c
from damage import require
from encryption import ChunkSeal, SealKeys
from fields import require_zeros, round_up, take, u32, u64
from header import Header

PREFIX_BYTES = 64
TABLES_MAX_BYTES = 16 << 20
PAYLOAD_MAX_BYTES = 128 << 20
KINDS = (b"VSEG", b"VATT", b"VIDX", b"VEND", b"VLST")
COUNTED_KINDS = (b"VIDX", b"VEND", b"VLST")
NO_SEGMENT = 2**64 - 1


@dataclass(frozen=True)
class Record:
    kind: bytes
    offset: int
    subject: int
    previous: int
    crc: int
    stored: bytes
    """Prefix, tables and payload, as they stand in the file."""
    head_bytes: int
    tables: bytes
    """Opened, and without their seal, in an encrypted image."""
    payload: bytes
    """Opened in an encrypted image where it is one chunk; the chunks of others are opened one by one."""
    seal: ChunkSeal | None

    @property
    def payload_at(self) -> int:
        return self.offset + self.head_bytes

    @property
    def stored_payload(self) -> bytes:
        return self.stored[self.head_bytes :]


def walk_records(image: bytes, header: Header, keys: SealKeys | None) -> tuple[list[Record], int]:
    """All records up to and with the index list, and the offset behind them."""
    records = []
    at, chain, previous = header.records_at, header.crc, NO_SEGMENT
    while True:
        record = _read_record(image, at, header, chain, keys)
        require(record.previous == previous, at, "the field of the segment before is wrong")
        records.append(record)
        chain = record.crc
        at = round_up(record.payload_at + len(record.payload), header.alignment)
        if record.kind == b"VSEG":
            if not header.has_overriding:
                _require_rising(record, previous)
            previous = record.subject
        if record.kind == b"VLST":
            _require_ending(records)
            return records, at


def _require_rising(record: Record, previous: int) -> None:
    rising = previous == NO_SEGMENT or record.subject > previous
    require(rising, record.offset, f"segment {record.subject} after segment {previous}")


def _require_ending(records: list[Record]) -> None:
    kinds = [record.kind for record in records]
    offset = records[-1].offset
    require(len(kinds) >= 2 and kinds[-2] == b"VEND", offset, "no end manifest before the index list")
    require(kinds.count(b"VEND") == 1, offset, "more than one end manifest")


def _read_record(image: bytes, at: int, header: Header, chain: int, keys: SealKeys | None) -> Record:
    prefix = take(image, at, PREFIX_BYTES, "prefix of a record")
    require(crc32c(prefix[:60]) == u32(prefix, 60), at, "record prefix: CRC does not match")
    kind = prefix[:4]
    require(kind in KINDS, at, f"record of unknown kind {kind!r}")
    tables_length, payload_length = u32(prefix, 4), u64(prefix, 8)
    require(tables_length <= TABLES_MAX_BYTES, at + 4, f"tables of {tables_length} bytes")
    require(payload_length <= PAYLOAD_MAX_BYTES, at + 8, f"payload of {payload_length} bytes")
    require((PREFIX_BYTES + tables_length) % header.alignment == 0, at + 4, "tables do not end at the alignment")
    require(u64(prefix, 16) == at, at + 16, f"record was written for offset {u64(prefix, 16)}")
    require(u64(prefix, 24) == header.binding, at + 24, "record belongs to another image")
    require(u32(prefix, 48) == chain, at + 48, "chain does not continue the record before")
    if keys is None:
        require_zeros(prefix, 52, 56, at + 52, "reserved field of the prefix")
    tables = take(image, at + PREFIX_BYTES, tables_length, "tables of a record")
    require(crc32c(tables) == u32(prefix, 56), at + PREFIX_BYTES, "tables: CRC does not match")
    payload_at = at + PREFIX_BYTES + tables_length
    payload = take(image, payload_at, payload_length, "payload of a record")
    end = payload_at + payload_length
    padding = take(image, end, round_up(end, header.alignment) - end, "padding of a record")
    require_zeros(padding, 0, len(padding), end, "padding of a record")
    if kind in (b"VEND", b"VLST"):
        require(u64(prefix, 32) == 0, at + 32, "subject is not 0")
    stored = prefix + tables + payload
    seal = None
    if keys is not None:
        require(crc32c(payload) == u32(prefix, 52), payload_at, "payload: CRC does not match")
        tables, seal = keys.open_tables(prefix, tables, at)
        if kind in COUNTED_KINDS:
            payload = seal.open(0, payload, payload_at)
    head_bytes = PREFIX_BYTES + tables_length
    return Record(kind, at, u64(prefix, 32), u64(prefix, 40), u32(prefix, 60), stored, head_bytes, tables, payload, seal)


def read_counted(record: Record, entries: int) -> None:
    """Tables of index blocks, end manifest and index list."""
    at = record.offset + PREFIX_BYTES
    require(len(record.tables) >= 8, at, "tables are too short")
    require(u32(record.tables, 0) == entries, at, f"{u32(record.tables, 0)} entries, expected {entries}")
    require(crc32c(record.stored_payload) == u32(record.tables, 4), record.payload_at, "payload: CRC does not match")
    require_zeros(record.tables, 8, len(record.tables), at + 8, "end of the tables")
