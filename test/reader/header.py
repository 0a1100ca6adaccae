"""Header and binding (SPEC.md, "Header")."""

from dataclasses import dataclass

from crc32c import crc32c
from damage import require
from fields import require_zeros, round_up, take, u16, u32, u64
from xxh3_128 import xxh3_128

HEADER_BYTES = 64
MAGIC = bytes.fromhex("89564D530D0A1A0A")
VERSION = 1
FEATURE_REFERENCES = 1 << 0
FEATURE_BASE = 1 << 1
FEATURE_OVERRIDING = 1 << 2
FEATURE_ENCRYPTION = 1 << 3
FEATURE_ABSENT = 1 << 4
FEATURES_READ = FEATURE_REFERENCES | FEATURE_BASE | FEATURE_OVERRIDING | FEATURE_ENCRYPTION | FEATURE_ABSENT
MANIFEST_MAX_BYTES = 16 << 20


@dataclass(frozen=True)
class Header:
    alignment: int
    crc: int
    features: int
    manifest_json: bytes
    records_at: int
    """Header and start manifest with its padding."""
    opening: bytes

    @property
    def has_base(self) -> bool:
        return self.features & FEATURE_BASE != 0

    @property
    def has_references(self) -> bool:
        return self.features & FEATURE_REFERENCES != 0

    @property
    def has_overriding(self) -> bool:
        return self.features & FEATURE_OVERRIDING != 0

    @property
    def is_encrypted(self) -> bool:
        return self.features & FEATURE_ENCRYPTION != 0

    @property
    def binding(self) -> int:
        return int.from_bytes(xxh3_128(self.opening)[8:], "big")


def read_header(image: bytes) -> Header:
    raw = take(image, 0, HEADER_BYTES, "header")
    require(raw[:8] == MAGIC, 0, "this is no vmsnap image")
    require(crc32c(raw[:60]) == u32(raw, 60), 0, "header: CRC does not match")
    require(u16(raw, 8) == VERSION, 8, f"unsupported: needs a reader of version {u16(raw, 8)}")
    features = u64(raw, 24)
    require(features & ~FEATURES_READ == 0, 24, f"unsupported: incompatible features 0x{features:x}")
    reserved_at = 56 if features & FEATURE_ENCRYPTION else 40
    require_zeros(raw, reserved_at, 60, reserved_at, "reserved space of the header")
    alignment = u32(raw, 12)
    require(alignment in (8, 4096), 12, f"alignment of {alignment}")
    length = u32(raw, 32)
    require(2 <= length <= MANIFEST_MAX_BYTES, 32, f"start manifest of {length} bytes")
    records_at = round_up(HEADER_BYTES + length, alignment)
    manifest = take(image, HEADER_BYTES, records_at - HEADER_BYTES, "start manifest")
    require(crc32c(manifest) == u32(raw, 36), HEADER_BYTES, "start manifest: CRC does not match")
    require_zeros(manifest, length, len(manifest), HEADER_BYTES + length, "padding of the start manifest")
    return Header(alignment, u32(raw, 60), features, manifest[:length], records_at, raw + manifest)
