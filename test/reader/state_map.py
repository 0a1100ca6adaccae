"""State map of a segment (SPEC.md, "Page states")."""

from damage import require

ZERO, DATA, UNIFORM, REFERENCE, SAME_AS_BASE, EARLIER, ABSENT = range(7)
VARINT_MAX_BYTES = 3


def read_state_map(raw: bytes, page_max: int, known: set[int], offset: int) -> list[tuple[int, int]]:
    """Runs as (state, pages). `known`: the states that the header allows."""
    runs: list[tuple[int, int]] = []
    at = page_count = 0
    while at < len(raw):
        value, length = _varint(raw, at, offset + at)
        state, pages = value & 15, (value >> 4) + 1
        require(state in known, offset + at, f"unsupported: page state {state}")
        require(not runs or runs[-1][0] != state, offset + at, "state map: neighbouring runs of one state")
        page_count += pages
        require(page_count <= page_max, offset + at, "state map: more pages than the segment has")
        runs.append((state, pages))
        at += length
    require(page_count == page_max, offset, f"state map of {page_count} pages, expected {page_max}")
    return runs


def _varint(raw: bytes, at: int, offset: int) -> tuple[int, int]:
    value = 0
    for i in range(VARINT_MAX_BYTES):
        require(at + i < len(raw), offset, "state map: a run is cut off")
        byte = raw[at + i]
        value |= (byte & 0x7F) << 7 * i
        if byte < 0x80:
            require(i == 0 or byte != 0, offset, "state map: superfluous bytes in a run")
            return value, i + 1
    require(False, offset, "state map: a run of more than 3 bytes")
    raise AssertionError
