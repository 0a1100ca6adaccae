"""Start manifest and the geometry that follows from it (SPEC.md, "Start manifest")."""

import base64
from dataclasses import dataclass

from damage import require
from header import Header
from json_values import Fields, is_integer, parse_object

KIB = 1 << 10
MIB = 1 << 20
REGIONS_MAX = 65_535
NAME_MAX_BYTES = 255
WRAPPED_KEY_MAX_BYTES = MIB
CODECS = ("zstd", "zlib", "none")
AT = 64


@dataclass(frozen=True)
class Region:
    name: str
    gpa: int | None
    size: int | None


@dataclass(frozen=True)
class BaseName:
    identity: bytes
    file_name: str


@dataclass(frozen=True)
class StartManifest:
    page_size: int
    segment_size: int
    chunk_size: int
    codec: str
    base: BaseName | None
    wrapped_key: bytes | None
    regions: list[Region]

    @property
    def pages_per_segment(self) -> int:
        return self.segment_size // self.page_size

    @property
    def pages_per_chunk(self) -> int:
        return self.chunk_size // self.page_size


def read_start_manifest(raw: bytes, header: Header) -> StartManifest:
    fields = Fields(parse_object(raw, AT, "start manifest"), AT, "start manifest")
    fields.string("tool", optional=True)
    fields.string("createdAt", optional=True)
    page = _power_of_two(fields, "pageSize", 4 * KIB, 2 * MIB)
    segment = _power_of_two(fields, "segmentSize", MIB, 64 * MIB)
    chunk = _power_of_two(fields, "chunkSize", 4 * KIB, 4 * MIB)
    require(page <= chunk <= segment, AT, "page, chunk and segment sizes do not fit each other")
    codec = _codec(fields)
    require(header.alignment == (4096 if codec == "none" else 8), 12, f"alignment {header.alignment} with codec {codec}")
    _describing_fields(fields)
    base = _base(fields, header.has_base)
    wrapped_key = _wrapped_key(fields, header.is_encrypted)
    regions = _regions(fields, page)
    require(base is None or regions[-1].size is not None, AT, "with a base, every region has a size")
    return StartManifest(page, segment, chunk, codec, base, wrapped_key, regions)


def _power_of_two(fields: Fields, key: str, low: int, high: int) -> int:
    value = fields.integer(key)
    require(low <= value <= high and value & (value - 1) == 0, AT, f"{key} of {value}")
    return value


def _codec(fields: Fields) -> str:
    codec = fields.object("codec")
    name = codec.string("name")
    require(name in CODECS, AT, f"unknown codec {name!r}")
    if codec.has("level"):
        require(name != "none" and is_integer(codec.value["level"]), AT, "codec level has a wrong value")
    return name


def _base(fields: Fields, has_base: bool) -> BaseName | None:
    base = fields.object("base", optional=True)
    require(base is None or has_base, AT, "unsupported: a base without its feature bit")
    require(base is not None or not has_base, AT, "no base is named, and the feature bit is set")
    if base is None:
        return None
    name = base.string("fileName")
    require(is_name(name, forbidden="/") and name not in (".", ".."), AT, f"name of the base: {name!r}")
    return BaseName(base.hex128("identity"), name)


def _wrapped_key(fields: Fields, is_encrypted: bool) -> bytes | None:
    encryption = fields.object("encryption", optional=True)
    require(encryption is None or is_encrypted, AT, "unsupported: a wrapped key without its feature bit")
    require(encryption is not None or not is_encrypted, AT, "no wrapped key, and the feature bit is set")
    if encryption is None:
        return None
    text = encryption.string("wrappedKey")
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError:
        value = None
    require(value is not None and base64.b64encode(value).decode() == text, AT, "the wrapped key is no base64")
    require(len(value) <= WRAPPED_KEY_MAX_BYTES, AT, f"a wrapped key of {len(value)} bytes")
    return value


def _describing_fields(fields: Fields) -> None:
    for key, members in (("machine", ("name", "uuid")), ("source", ("kind", "name"))):
        part = fields.object(key, optional=True)
        if part is not None:
            for member in members:
                part.string(member, optional=True)
    labels = fields.object("labels", optional=True)
    if labels is not None:
        for key in labels.value:
            labels.string(key)


def is_name(name: str, forbidden: str = "") -> bool:
    """1 to 255 bytes of UTF-8 without control characters."""
    try:
        size = len(name.encode("utf-8"))
    except UnicodeEncodeError:
        return False
    has_control = any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 or c in forbidden for c in name)
    return 1 <= size <= NAME_MAX_BYTES and not has_control


def _regions(fields: Fields, page_size: int) -> list[Region]:
    values = fields.array("regions")
    require(1 <= len(values) <= REGIONS_MAX, AT, f"{len(values)} regions")
    regions = [_region(value, i == len(values) - 1, page_size) for i, value in enumerate(values)]
    require(len({region.name for region in regions}) == len(regions), AT, "two regions have one name")
    check_overlaps(regions, AT)
    return regions


def _region(value, is_last: bool, page_size: int) -> Region:
    fields = Fields(value, AT, "region")
    name = fields.string("name")
    gpa = fields.integer("gpa", optional=True)
    size = fields.integer("sizeBytes", optional=is_last)
    require(is_name(name), AT, f"region name {name!r}")
    require((gpa or 0) % page_size == 0, AT, f"region {name} does not begin at a page")
    require(size is None or (size > 0 and size % page_size == 0), AT, f"region {name} of {size} bytes")
    return Region(name, gpa, size)


def check_overlaps(regions: list[Region], offset: int) -> None:
    """A size that is not known yet counts as one byte; a region without an address overlaps none."""
    placed = [region for region in regions if region.gpa is not None]
    ordered = sorted(placed, key=lambda region: region.gpa)
    for lower, upper in zip(ordered, ordered[1:]):
        require(lower.gpa + (lower.size or 1) <= upper.gpa, offset, f"regions {lower.name} and {upper.name} overlap")
