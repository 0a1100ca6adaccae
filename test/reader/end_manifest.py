"""End manifest (SPEC.md, "End manifest record")."""

from dataclasses import dataclass, replace

from damage import require
from header import MANIFEST_MAX_BYTES
from json_values import Fields, parse_object
from records import Record, read_counted
from start_manifest import StartManifest, check_overlaps, is_name

PAGE_STATES = ("zero", "data", "uniform", "reference", "sameAsBase", "absent")
ATTACHMENTS_MAX = 65_535


@dataclass(frozen=True)
class Attachment:
    name: str
    size: int
    offset: int


@dataclass(frozen=True)
class EndManifest:
    sums: list[bytes]
    sizes: list[int]
    digest: bytes
    pages: dict[str, int]
    chunks: dict[str, int]
    attachments: list[Attachment]


def read_end_manifest(record: Record, start: StartManifest) -> EndManifest:
    read_counted(record, 1)
    at = record.payload_at
    require(len(record.payload) <= MANIFEST_MAX_BYTES, at, "end manifest is too large")
    fields = Fields(parse_object(record.payload, at, "end manifest"), at, "end manifest")
    regions = [Fields(value, at, "region of the end manifest") for value in fields.array("regions")]
    require(len(regions) == len(start.regions), at, f"{len(regions)} regions in the end manifest")
    pages, chunks = fields.object("pages"), fields.object("chunks")
    source = fields.object("source", optional=True)
    if source is not None:
        source.boolean("mayHaveChanged")
    return EndManifest(
        [region.hex128("sum") for region in regions],
        [region.integer("sizeBytes") for region in regions],
        fields.hex128("digest"),
        {state: pages.integer(state) for state in PAGE_STATES},
        {key: chunks.integer(key) for key in ("count", "stored", "raw")},
        _attachments(fields, at),
    )


def _attachments(fields: Fields, at: int) -> list[Attachment]:
    values = [Fields(value, at, "attachment") for value in fields.array("attachments")]
    require(len(values) <= ATTACHMENTS_MAX, at, f"{len(values)} attachments")
    found = [Attachment(v.string("name"), v.integer("sizeBytes"), v.integer("offset")) for v in values]
    for attachment in found:
        good = is_name(attachment.name, forbidden="/") and attachment.name not in (".", "..")
        require(good, at, f"attachment name {attachment.name!r}")
    require(len({a.name for a in found}) == len(found), at, "two attachments have one name")
    return found


def with_final_sizes(start: StartManifest, end: EndManifest, at: int) -> StartManifest:
    """The regions with their sizes; the end manifest must repeat those that the start manifest knows."""
    regions = []
    for region, size in zip(start.regions, end.sizes):
        good = size == region.size if region.size is not None else size > 0 and size % start.page_size == 0
        require(good, at, f"end manifest: region {region.name} of {size} bytes")
        regions.append(replace(region, size=size))
    check_overlaps(regions, at)
    return replace(start, regions=regions)
