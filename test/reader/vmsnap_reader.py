#!/usr/bin/env python3
"""A second reader of the vmsnap image format, made from formats/vmsnap/SPEC.md alone, in plain Python.

It shares nothing with the TypeScript and C++ code, so an image that both read alike says what SPEC.md says. It checks
everything, holds the image in memory and is slow: it is for the small images of the tests.

    python3 vmsnap_reader.py IMAGE [OUTPUT]

Writes the memory, all regions end to end, to OUTPUT and a line of JSON to standard output. Exit code: 0 the image is
sound, 1 it is damaged or unsupported, 2 nothing can be said (a tool is missing, the file cannot be read).
check_images.py does the same to many images at once.
"""

import json
import sys

sys.dont_write_bytecode = True  # The folder of a test stays as it is.

from attachments import check_contents, read_parts
from chunks import ChunkDecoder
from damage import CannotDecodeError, DamagedError, require
from end_manifest import EndManifest, read_end_manifest, with_final_sizes
from footer import check_footer
from header import read_header
from index import check_index
from memory_digest import contribution, leaf_digests, memory_digest, sum_bytes
from records import Record, walk_records
from segments import Places, Segment, absent_pages, memory_of, read_segment
from start_manifest import StartManifest, read_start_manifest
from state_map import DATA, UNIFORM
from xxh3_128 import xxh3_128


def read_image(image: bytes, output) -> dict:
    header = read_header(image)
    start = read_start_manifest(header.manifest_json, header.alignment)
    records, footer_at = walk_records(image, header)
    end_record = records[-2]
    end = read_end_manifest(end_record, start)
    manifest = with_final_sizes(start, end, end_record.payload_at)
    places = Places(manifest)
    segments = [read_segment(record, manifest, places) for record in records if record.kind == b"VSEG"]
    check_index(records, {segment.record.subject: segment for segment in segments}, places.count)
    identity = check_footer(image, footer_at, header, records, places.count)
    parts = read_parts(records, end.attachments)
    chunks = [chunk for segment in segments for chunk in segment.chunks]
    decoder = ChunkDecoder(manifest.codec, chunks + [chunk for part in parts for chunk in part])
    _check_totals(end, segments, manifest, end_record)
    _check_memory(end, segments, manifest, decoder, end_record, output)
    contents = check_contents(parts, decoder)
    return {
        "identity": identity.hex(),
        "digest": end.digest.hex(),
        "memoryBytes": sum(region.size for region in manifest.regions),
        "pages": end.pages,
        "attachments": [
            {"name": attachment.name, "sizeBytes": len(content), "xxh3": xxh3_128(content).hex()}
            for attachment, content in zip(end.attachments, contents)
        ],
    }


def _check_totals(end: EndManifest, segments: list[Segment], manifest: StartManifest, record: Record) -> None:
    total = sum(region.size for region in manifest.regions) // manifest.page_size
    data = sum(segment.pages(DATA) for segment in segments)
    uniform = sum(segment.pages(UNIFORM) for segment in segments)
    absent = sum(absent_pages(segment) for segment in segments)
    pages = {
        "zero": total - data - uniform - absent,
        "data": data,
        "uniform": uniform,
        "reference": 0,
        "sameAsBase": 0,
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


def _check_memory(
    end: EndManifest,
    segments: list[Segment],
    manifest: StartManifest,
    decoder: ChunkDecoder,
    record: Record,
    output,
) -> None:
    starts = [sum(region.size for region in manifest.regions[:i]) for i in range(len(manifest.regions))]
    sums = [0] * len(manifest.regions)
    for segment in segments:
        memory = memory_of(segment, manifest.page_size, decoder)
        place = segment.place
        for i, digest in enumerate(leaf_digests(memory)):
            sums[place.region] += contribution(place.region, (place.offset >> 20) + i, digest)
        if output is not None:
            output.seek(starts[place.region] + place.offset)
            output.write(memory)
    found = [sum_bytes(total) for total in sums]
    require(found == end.sums, record.payload_at, "end manifest: the sum of a region is wrong")
    digest = memory_digest([region.size for region in manifest.regions], found)
    require(digest == end.digest, record.payload_at, "end manifest: the memory digest is wrong")
    if output is not None:
        output.truncate(starts[-1] + manifest.regions[-1].size)


def _run(arguments: list[str]) -> dict:
    with open(arguments[0], "rb") as file:
        image = file.read()
    if len(arguments) == 1:
        return read_image(image, None)
    with open(arguments[1], "wb") as output:
        return read_image(image, output)


def main(arguments: list[str]) -> int:
    if len(arguments) not in (1, 2):
        print("usage: vmsnap_reader.py IMAGE [OUTPUT]", file=sys.stderr)
        return 2
    try:
        print(json.dumps(_run(arguments)))
        return 0
    except DamagedError as error:
        print(f"{arguments[0]} is damaged at {error}", file=sys.stderr)
        return 1
    except (CannotDecodeError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
