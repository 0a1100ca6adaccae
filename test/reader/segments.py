"""Segment records: tables, pages and leaves (SPEC.md, "Segment record")."""

from dataclasses import dataclass
from typing import Iterator

from chunks import ENTRY_BYTES, Chunk, ChunkDecoder, split_payload
from damage import require
from fields import require_zeros, u32, u64
from header import FEATURE_ABSENT, FEATURE_BASE, FEATURE_REFERENCES
from memory_digest import LEAF_BYTES, leaf_digests
from records import PREFIX_BYTES, Record
from start_manifest import StartManifest
from state_map import ABSENT, DATA, REFERENCE, SAME_AS_BASE, UNIFORM, ZERO, read_state_map

FIXED_BYTES = 24
DIGEST_BYTES = 16
WORD_BYTES = 8
REFERENCE_BYTES = 8
SEGMENTS_MAX = 2**32


@dataclass(frozen=True)
class Place:
    """Where the segments of a region are."""

    region: int
    offset: int
    size: int


class Places:
    def __init__(self, manifest: StartManifest):
        self._manifest = manifest
        self._first = []
        count = 0
        for region in manifest.regions:
            self._first.append(count)
            count += -(-region.size // manifest.segment_size)
        require(count <= SEGMENTS_MAX, 64, f"{count} segments")
        self.count = count

    def of(self, segment: int, record_at: int) -> Place:
        require(segment < self.count, record_at + 32, f"segment {segment} of {self.count}")
        region = next(i for i in reversed(range(len(self._first))) if self._first[i] <= segment)
        offset = (segment - self._first[region]) * self._manifest.segment_size
        size = min(self._manifest.segment_size, self._manifest.regions[region].size - offset)
        return Place(region, offset, size)


@dataclass(frozen=True)
class Segment:
    record: Record
    place: Place
    runs: list[tuple[int, int]]
    words: list[bytes]
    references: list[int]
    """Global page numbers."""
    leaves: list[bytes]
    chunks: list[Chunk]

    def pages(self, state: int) -> int:
        return sum(pages for run, pages in self.runs if run == state)

    def states(self) -> list[int]:
        return [state for state, pages in self.runs for _ in range(pages)]


def read_segment(record: Record, manifest: StartManifest, places: Places, features: int) -> Segment:
    place = places.of(record.subject, record.offset)
    tables, at = record.tables, record.offset + PREFIX_BYTES
    require(len(tables) >= FIXED_BYTES, at, "tables are too short")
    map_bytes, uniform, references, data, chunk_count, leaf_count = (u32(tables, 4 * i) for i in range(6))
    announced = features & FEATURE_REFERENCES != 0
    require(references == 0 or announced, at + 8, "unsupported: references")
    require(data + uniform + references <= manifest.pages_per_segment, at, "more pages than the segment has")
    require(chunk_count == -(-data // manifest.pages_per_chunk), at + 16, f"{chunk_count} chunks for {data} pages")
    require(leaf_count == -(-place.size // LEAF_BYTES), at + 20, f"{leaf_count} leaves")
    words_at = FIXED_BYTES + DIGEST_BYTES * leaf_count
    references_at = words_at + WORD_BYTES * uniform
    chunks_at = references_at + REFERENCE_BYTES * references
    map_at = chunks_at + ENTRY_BYTES * chunk_count
    require(map_at + map_bytes <= len(tables), at, "tables are longer than their length")
    require_zeros(tables, map_at + map_bytes, len(tables), at + map_at + map_bytes, "end of the tables")
    pages = place.size // manifest.page_size
    runs = read_state_map(tables[map_at : map_at + map_bytes], pages, _known_states(features), at + map_at)
    segment = Segment(
        record,
        place,
        runs,
        _cut(tables, words_at, WORD_BYTES, uniform),
        [u64(tables, references_at + REFERENCE_BYTES * i) for i in range(references)],
        _cut(tables, FIXED_BYTES, DIGEST_BYTES, leaf_count),
        split_payload(record, chunks_at, _raw_lengths(data, manifest)),
    )
    require(segment.pages(DATA) == data, at + 12, "the state map has another number of data pages")
    require(segment.pages(UNIFORM) == uniform, at + 4, "the state map has another number of uniform pages")
    require(segment.pages(REFERENCE) == references, at + 8, "the state map has another number of references")
    require(all(any(word) for word in segment.words), at + words_at, "a uniform page of zeros")
    return segment


def _known_states(features: int) -> set[int]:
    known = {ZERO, DATA, UNIFORM}
    if features & FEATURE_REFERENCES:
        known.add(REFERENCE)
    if features & FEATURE_BASE:
        known.add(SAME_AS_BASE)
    if features & FEATURE_ABSENT:
        known.add(ABSENT)
    return known


def _cut(tables: bytes, at: int, size: int, count: int) -> list[bytes]:
    return [tables[at + size * i : at + size * (i + 1)] for i in range(count)]


def _raw_lengths(data_pages: int, manifest: StartManifest) -> list[int]:
    step = manifest.pages_per_chunk
    return [min(step, data_pages - done) * manifest.page_size for done in range(0, data_pages, step)]


def targets_of(segment: Segment, segments: dict[int, Segment], pages_per_segment: int) -> list[tuple[Segment, int]]:
    """The segment and the page in it that each reference names, which must be an earlier data page."""
    own = segment.record.subject * pages_per_segment
    referring = [page for page, state in enumerate(segment.states()) if state == REFERENCE]
    found = []
    for page, number in zip(referring, segment.references):
        at = segment.record.offset
        require(number < own + page, at, f"page {page}: a reference forward, to {number}")
        target = segments.get(number // pages_per_segment)
        require(target is not None, at, f"page {page}: a reference to a segment without a record")
        states = target.states()
        named = number % pages_per_segment
        require(named < len(states), at, f"page {page}: a reference beyond its region")
        require(states[named] == DATA, at, f"page {page}: a reference to a page of state {states[named]}")
        found.append((target, named))
    return found


def data_page(segment: Segment, page: int, page_size: int, decoder: ChunkDecoder) -> bytes:
    data = b"".join(decoder.raw(chunk) for chunk in segment.chunks)
    at = segment.states()[:page].count(DATA) * page_size
    return data[at : at + page_size]


def memory_of(
    segment: Segment, page_size: int, decoder: ChunkDecoder, base: bytes | None, targets: list[bytes]
) -> bytes:
    """The bytes of the segment, proven by its leaf digests. `base` holds those of the base, `targets` what references name."""
    memory = b"".join(_runs_of_bytes(segment, page_size, decoder, base, targets))
    for i, (found, expected) in enumerate(zip(leaf_digests(memory), segment.leaves)):
        require(found == expected, segment.record.offset, f"segment {segment.record.subject}: leaf {i} is wrong")
    return memory


def _runs_of_bytes(
    segment: Segment, page_size: int, decoder: ChunkDecoder, base: bytes | None, targets: list[bytes]
) -> Iterator[bytes]:
    data = b"".join(decoder.raw(chunk) for chunk in segment.chunks)
    words = iter(segment.words)
    referred = iter(targets)
    used = 0
    done = 0
    for state, pages in segment.runs:
        length = pages * page_size
        if state == DATA:
            yield data[used : used + length]
            used += length
        elif state == UNIFORM:
            yield b"".join(next(words) * (page_size // WORD_BYTES) for _ in range(pages))
        elif state == REFERENCE:
            yield b"".join(next(referred) for _ in range(pages))
        elif state == SAME_AS_BASE:
            yield base[done : done + length]
        else:
            yield bytes(length)
        done += length


def absent_pages(segment: Segment) -> int:
    return segment.pages(ABSENT)
