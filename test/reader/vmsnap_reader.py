#!/usr/bin/env python3
"""A second reader of the vmsnap image format, made from formats/vmsnap/SPEC.md alone, in plain Python.

It shares nothing with the TypeScript and C++ code, so an image that both read alike says what SPEC.md says. It checks
everything, holds the image in memory and is slow: it is for the small images of the tests.

    python3 vmsnap_reader.py [--base-dir FOLDER] [--identity-file FILE] [--passphrase-file FILE] IMAGE [OUTPUT]

Writes the memory, all regions end to end, to OUTPUT and a line of JSON to standard output. Exit code: 0 the image is
sound, 1 it is damaged or unsupported, 2 nothing can be said (a tool or a key is missing, the file cannot be read).
check_images.py does the same to many images at once.
"""

import json
import os
import sys
from dataclasses import dataclass, field, replace

sys.dont_write_bytecode = True  # The folder of a test stays as it is.

from age import Secrets
from attachments import check_contents, read_parts
from bases import find_base
from chunks import ChunkDecoder
from damage import CannotDecodeError, DamagedError, require
from encryption import open_keys
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


USAGE = "usage: vmsnap_reader.py [--base-dir FOLDER] [--identity-file FILE] [--passphrase-file FILE] IMAGE [OUTPUT]"
OVERRIDING_SEGMENTS_MAX = 1 << 22


@dataclass(frozen=True)
class Outside:
    """What the image does not hold itself."""

    folders: list[str] = field(default_factory=list)
    """Where a base is looked for."""
    secrets: Secrets = Secrets()


@dataclass(frozen=True)
class Reading:
    """A sound image."""

    manifest: StartManifest
    end: EndManifest
    identity: bytes
    contents: list[bytes]
    """Of each region."""
    memory: list[bytearray]


def read_image(image: bytes, outside: Outside, depth: int = 0) -> Reading:
    """`depth`: images above this one."""
    header = read_header(image)
    start = read_start_manifest(header.manifest_json, header)
    keys = None if start.wrapped_key is None else open_keys(start.wrapped_key, outside.secrets)
    if keys is not None:
        keys.check_header(header.opening)
    records, footer_at = walk_records(image, header, keys)
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
    identity = check_footer(image, footer_at, header, records, places.count, keys)
    parts = read_parts(records, end.attachments)
    chunks = [chunk for segment in segments for chunk in segment.chunks]
    decoder = ChunkDecoder(manifest.codec, chunks + [chunk for part in parts for chunk in part])
    _check_totals(end, list(last.values()), manifest, end_record)
    base = _read_base(manifest, outside, depth)
    memory = _put_together(segments, manifest, decoder, base)
    _check_memory(end, manifest, memory, end_record)
    return Reading(manifest, end, identity, check_contents(parts, decoder), memory)


def _read_base(manifest: StartManifest, outside: Outside, depth: int) -> Reading | None:
    if manifest.base is None:
        return None
    found, folder = find_base(manifest.base, outside.folders, depth)
    base = read_image(found, replace(outside, folders=[folder, *outside.folders]), depth + 1)
    mine, theirs = manifest, base.manifest
    require(mine.page_size == theirs.page_size, 64, "the base has other pages")
    require(mine.segment_size == theirs.segment_size, 64, "the base has other segments")
    require(mine.regions == theirs.regions, 64, "the base has other regions")
    sealed = mine.wrapped_key is not None or theirs.wrapped_key is None
    require(sealed, 64, "the base is encrypted, and the image is not")
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


def read_file(path: str, outside: Outside) -> Reading:
    with open(path, "rb") as file:
        image = file.read()
    return read_image(image, replace(outside, folders=[os.path.dirname(path) or ".", *outside.folders]))


def _run(arguments: list[str], outside: Outside) -> dict:
    reading = read_file(arguments[0], outside)
    if len(arguments) == 2:
        with open(arguments[1], "wb") as output:
            for region in reading.memory:
                output.write(region)
    return summary(reading)


def take_options(arguments: list[str]) -> tuple[list[str], Outside]:
    """The arguments without the options, and what the options name. A file of identities has one a line."""
    rest = list(arguments)
    folders: list[str] = []
    identities: list[str] = []
    passphrases: list[bytes] = []
    while len(rest) > 1 and rest[0].startswith("--"):
        option, value, *rest = rest
        if option == "--base-dir":
            folders.append(value)
        elif option == "--identity-file":
            with open(value, encoding="utf-8") as file:
                identities += [line.strip() for line in file if line.strip() and not line.startswith("#")]
        elif option == "--passphrase-file":
            with open(value, "rb") as file:
                passphrases.append(file.read().removesuffix(b"\n").removesuffix(b"\r"))
        else:
            raise OSError(f"unknown option {option}")
    return rest, Outside(folders, Secrets(tuple(identities), tuple(passphrases)))


def main(arguments: list[str]) -> int:
    try:
        arguments, outside = take_options(arguments)
        if len(arguments) not in (1, 2):
            print(USAGE, file=sys.stderr)
            return 2
        print(json.dumps(_run(arguments, outside)))
        return 0
    except DamagedError as error:
        print(f"{arguments[0]} is damaged at {error}", file=sys.stderr)
        return 1
    except (CannotDecodeError, OSError) as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
