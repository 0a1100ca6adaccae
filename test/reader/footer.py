"""Footer and identity (SPEC.md, "Footer")."""

import hashlib

from crc32c import crc32c
from damage import require
from encryption import SealKeys
from fields import require_zeros, take, u32, u64
from header import Header
from records import Record
from xxh3_128 import xxh3_128

FOOTER_BYTES = 96
MAGIC = bytes.fromhex("89564D53454E440A")


def check_footer(
    image: bytes, at: int, header: Header, records: list[Record], segment_count: int, keys: SealKeys | None
) -> bytes:
    """The image's identity."""
    raw = take(image, at, FOOTER_BYTES, "footer")
    end_manifest, index_list = records[-2:]
    require(raw[:8] == MAGIC, at, "footer: magic does not match")
    require(crc32c(raw[:92]) == u32(raw, 92), at, "footer: CRC does not match")
    require(len(image) == at + FOOTER_BYTES, at + FOOTER_BYTES, "bytes behind the footer")
    expected = (len(image), end_manifest.offset, index_list.offset, segment_count, len(records), header.binding)
    for i, value in enumerate(expected):
        found = u64(raw, 8 + 8 * i)
        require(found == value, at + 8 + 8 * i, f"footer: field is {found}, expected {value}")
    require(u32(raw, 56) == index_list.crc, at + 56, "footer: CRC of the last record")
    require_zeros(raw, 60, 64, at + 60, "reserved field of the footer")
    if keys is None:
        require_zeros(raw, 80, 92, at + 80, "reserved field of the footer")
    else:
        keys.check_footer(raw, at)
    named = header.opening + end_manifest.stored + index_list.stored
    identity = xxh3_128(named) if keys is None else hashlib.sha256(named).digest()[:16]
    require(raw[64:80] == identity, at + 64, "footer: identity does not match")
    return identity
