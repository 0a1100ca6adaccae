"""Where a zstd frame ends and what it says it holds (RFC 8878, 3.1.1), without decompressing it."""

from damage import require

MAGIC = 0xFD2FB528
SIZE_FIELD_BYTES = (0, 2, 4, 8)
DICTIONARY_FIELD_BYTES = (0, 1, 2, 4)
RLE_BLOCK = 1
RESERVED_BLOCK = 3


class _Cursor:
    def __init__(self, data: bytes, offset: int):
        self.data = data
        self.offset = offset
        self.at = 0

    def number(self, length: int) -> int:
        self.skip(length)
        return int.from_bytes(self.data[self.at - length : self.at], "little")

    def skip(self, length: int) -> None:
        require(self.at + length <= len(self.data), self.offset, "chunk: zstd frame is cut off")
        self.at += length


def require_one_frame(stored: bytes, raw_length: int, offset: int) -> None:
    cursor = _Cursor(stored, offset)
    require(cursor.number(4) == MAGIC, offset, "chunk is no zstd frame")
    descriptor = cursor.number(1)
    single_segment = descriptor & 0x20
    require(not descriptor & 0x08, offset, "chunk: reserved bit of the zstd frame")
    if not single_segment:
        cursor.skip(1)
    require(cursor.number(DICTIONARY_FIELD_BYTES[descriptor & 3]) == 0, offset, "chunk needs a zstd dictionary")
    size_bytes = 1 if descriptor >> 6 == 0 and single_segment else SIZE_FIELD_BYTES[descriptor >> 6]
    require(size_bytes > 0, offset, "chunk: zstd frame without its content size")
    content = cursor.number(size_bytes) + (256 if size_bytes == 2 else 0)
    require(content == raw_length, offset, f"chunk holds {content} bytes, not {raw_length}")
    _skip_blocks(cursor)
    if descriptor & 0x04:
        cursor.skip(4)
    require(cursor.at == len(stored), offset, "chunk: bytes behind the zstd frame")


def _skip_blocks(cursor: _Cursor) -> None:
    is_last = False
    while not is_last:
        block = cursor.number(3)
        is_last = block & 1 == 1
        kind = block >> 1 & 3
        require(kind != RESERVED_BLOCK, cursor.offset, "chunk: zstd block of a reserved type")
        cursor.skip(1 if kind == RLE_BLOCK else block >> 3)
