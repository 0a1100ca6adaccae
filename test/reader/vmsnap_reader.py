#!/usr/bin/env python3
"""A second reader of the vmsnap image format, made from formats/vmsnap/SPEC.md alone, in plain Python.

It shares nothing with the TypeScript and C++ code, so an image that both read alike says what SPEC.md says. It checks
everything, holds the image in memory and is slow: it is for the small images of the tests.

    python3 vmsnap_reader.py [--base-dir FOLDER] IMAGE [OUTPUT]

Writes the memory, all regions end to end, to OUTPUT and a line of JSON to standard output. Exit code: 0 the image is
sound, 1 it is damaged or unsupported, 2 nothing can be said (a tool is missing, the file cannot be read).
check_images.py does the same to many images at once.
"""

import json
import os
import sys
from dataclasses import dataclass

sys.dont_write_bytecode = True  # The folder of a test stays as it is.

from attachments import check_contents, read_parts
from bases import find_base
from chunks import ChunkDecoder
from damage import CannotDecodeError, DamagedError, require
from end_manifest import EndManifest, read_end_manifest, with_final_sizes
from footer import check_footer
from header import read_header
from index import check_index
from memory_digest import contribution, leaf_digests, memory_digest, sum_bytes
from records import Record, walk_records
from segments import Places, Segment, absent_pages, data_page, memory_of, read_segment, targets_of
from start_manifest import StartManifest, read_start_manifest
from state_map import DATA, REFERENCE, SAME_AS_BASE, UNIFORM, ZERO
from xxh3_128 import xxh3_128


OVERRIDING_SEGMENTS_MAX = 1 << 22


@dataclass(frozen=True)
class Reading:
    """A sound image."""

    manifest: StartManifest
    end: EndManifest
    identity: bytes
    contents: list[bytes]
    """Of each region."""
    memory: list[bytearray]


def read_image(image: bytes, folders: list[str], depth: int = 0) -> Reading:
    """`folders`: where a base is looked for. `depth`: images above this one."""
    header = read_header(image)
    start = read_start_manifest(header.manifest_json, header.alignment, header.has_base)
    records, footer_at = walk_records(image, header)
    end_record = records[-2]
    end = read_end_manifest(end_record, start)
    manifest = with_final_sizes(start, end, end_record.payload_at)
    places = Places(manifest)
    if header.has_overriding:
        require(start.regions[-1].size is not None, 64, "overriding records, and a region without a size")
        require(places.count <= OVERRIDING_SEGMENTS_MAX, 64, f"{places.count} segments with overriding records")
    if header.has_references:
        require(start.regions[-1].size is not None, 64, "references, and a region without a size")
        require(not header.has_overriding, 24, "references and overriding records")
    segments = [read_segment(record, manifest, places, header.features) for record in records if record.kind == b"VSEG"]
    last = {segment.record.subject: segment for segment in segments}
    check_index(records, last, places.count)
    identity = check_footer(image, footer_at, header, records, places.count)
    parts = read_parts(records, end.attachments)
    chunks = [chunk for segment in segments for chunk in segment.chunks]
    decoder = ChunkDecoder(manifest.codec, chunks + [chunk for part in parts for chunk in part])
    _check_totals(end, list(last.values()), manifest, end_record)
    base = _read_base(manifest, folders, depth)
    memory = _put_together(segments, manifest, decoder, base)
    _check_memory(end, manifest, memory, end_record)
    return Reading(manifest, end, identity, check_contents(parts, decoder), memory)


def _read_base(manifest: StartManifest, folders: list[str], depth: int) -> Reading | None:
    if manifest.base is None:
        return None
    found, folder = find_base(manifest.base, folders, depth)
    base = read_image(found, [folder, *folders], depth + 1)
    mine, theirs = manifest, base.manifest
    require(mine.page_size == theirs.page_size, 64, "the base has other pages")
    require(mine.segment_size == theirs.segment_size, 64, "the base has other segments")
    require(mine.regions == theirs.regions, 64, "the base has other regions")
    return base


def summary(reading: Reading) -> dict:
    return {
        "identity": reading.identity.hex(),
        "digest": reading.end.digest.hex(),
        "memoryBytes": sum(region.size for region in reading.manifest.regions),
        "pages": reading.end.pages,
        "attachments": [
            {"name": attachment.name, "sizeBytes": len(content), "xxh3": xxh3_128(content).hex()}
            for attachment, content in zip(reading.end.attachments, reading.contents)
        ],
    }


def _check_totals(end: EndManifest, segments: list[Segment], manifest: StartManifest, record: Record) -> None:
    total = sum(region.size for region in manifest.regions) // manifest.page_size
    data = sum(segment.pages(DATA) for segment in segments)
    uniform = sum(segment.pages(UNIFORM) for segment in segments)
    absent = sum(absent_pages(segment) for segment in segments)
    reference = sum(segment.pages(REFERENCE) for segment in segments)
    rest = total - data - uniform - reference - absent
    zero = rest if manifest.base is None else sum(segment.pages(ZERO) for segment in segments)
    pages = {
        "zero": zero,
        "data": data,
        "uniform": uniform,
        "reference": reference,
        "sameAsBase": rest - zero,
        "absent": absent,
    }
    chunks = [chunk for segment in segments for chunk in segment.chunks]
    counts = {
        "count": len(chunks),
        "stored": sum(len(chunk.stored) for chunk in chunks),
        "raw": sum(chunk.is_raw for chunk in chunks),
    }
    require(end.pages == pages, record.payload_at, f"end manifest: pages are {pages}")
    require(end.chunks == counts, record.payload_at, f"end manifest: chunks are {counts}")


def _put_together(
    segments: list[Segment],
    manifest: StartManifest,
    decoder: ChunkDecoder,
    base: Reading | None,
) -> list[bytearray]:
    if base is None:
        memory = [bytearray(region.size) for region in manifest.regions]
    else:
        memory = [bytearray(region) for region in base.memory]
    by_number = {segment.record.subject: segment for segment in segments}
    for segment in segments:
        named = targets_of(segment, by_number, manifest.pages_per_segment)
        targets = [data_page(target, page, manifest.page_size, decoder) for target, page in named]
        place = segment.place
        region = memory[place.region]
        before = None if base is None else bytes(base.memory[place.region][place.offset : place.offset + place.size])
        own = memory_of(segment, manifest.page_size, decoder, before, targets)
        region[place.offset : place.offset + place.size] = own
    return memory


def _check_memory(end: EndManifest, manifest: StartManifest, memory: list[bytearray], record: Record) -> None:
    """Of all the memory, whichever image it lies in."""
    sums = []
    for number, region in enumerate(memory):
        leaves = leaf_digests(bytes(region))
        sums.append(sum_bytes(sum(contribution(number, i, digest) for i, digest in enumerate(leaves))))
    require(sums == end.sums, record.payload_at, "end manifest: the sum of a region is wrong")
    digest = memory_digest([region.size for region in manifest.regions], sums)
    require(digest == end.digest, record.payload_at, "end manifest: the memory digest is wrong")


def read_file(path: str, base_dirs: list[str]) -> Reading:
    with open(path, "rb") as file:
        image = file.read()
    return read_image(image, [os.path.dirname(path) or ".", *base_dirs])


def _run(arguments: list[str], base_dirs: list[str]) -> dict:
    reading = read_file(arguments[0], base_dirs)
    if len(arguments) == 2:
        with open(arguments[1], "wb") as output:
            for region in reading.memory:
                output.write(region)
    return summary(reading)


def take_base_dirs(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The arguments without `--base-dir FOLDER`, and the folders."""
    rest, folders = list(arguments), []
    while rest[:1] == ["--base-dir"] and len(rest) > 1:
        folders.append(rest[1])
        rest = rest[2:]
    return rest, folders


def main(arguments: list[str]) -> int:
    arguments, base_dirs = take_base_dirs(arguments)
    if len(arguments) not in (1, 2):
        print("usage: vmsnap_reader.py [--base-dir FOLDER] IMAGE [OUTPUT]", file=sys.stderr)
        return 2
    try:
        print(json.dumps(_run(arguments, base_dirs)))
        return 0
    except DamagedError as error:
        print(f"{arguments[0]} is damaged at {error}", file=sys.stderr)
        return 1
    except (CannotDecodeError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
