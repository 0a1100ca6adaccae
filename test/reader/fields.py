"""Little-endian fields, and the padding between structures."""

import struct

from damage import require


def u16(data, at: int) -> int:
    return struct.unpack_from("<H", data, at)[0]


def u32(data, at: int) -> int:
    return struct.unpack_from("<I", data, at)[0]


def u64(data, at: int) -> int:
    return struct.unpack_from("<Q", data, at)[0]


def round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def require_zeros(data: bytes, start: int, end: int, offset: int, what: str) -> None:
    """`data[start:end]` lies in the file at `offset`."""
    require(not any(data[start:end]), offset, f"{what} is not zero")


def take(image: bytes, start: int, length: int, what: str) -> bytes:
    require(start + length <= len(image), start, f"the file ends in the {what}")
    return image[start : start + length]
