"""Memory digest (SPEC.md, "Memory digest")."""

import struct
from functools import lru_cache

from xxh3_128 import xxh3_128

BLOCK_BYTES = 4096
LEAF_BYTES = 1 << 20
BLOCKS_PER_LEAF = LEAF_BYTES // BLOCK_BYTES
ZERO_BLOCK = bytes(BLOCK_BYTES)


@lru_cache(maxsize=4096)
def _block_digest(block: bytes) -> bytes:
    return xxh3_128(block)


def leaf_digest(memory: bytes) -> bytes:
    """Of up to 1 MiB; what is missing counts as zero blocks."""
    digests = [_block_digest(memory[at : at + BLOCK_BYTES]) for at in range(0, len(memory), BLOCK_BYTES)]
    digests += [_block_digest(ZERO_BLOCK)] * (BLOCKS_PER_LEAF - len(digests))
    return xxh3_128(b"".join(digests))


ZERO_LEAF = leaf_digest(b"")


def leaf_digests(memory: bytes) -> list[bytes]:
    return [leaf_digest(memory[at : at + LEAF_BYTES]) for at in range(0, len(memory), LEAF_BYTES)]


def contribution(region: int, leaf: int, digest: bytes) -> int:
    if digest == ZERO_LEAF:
        return 0
    return int.from_bytes(xxh3_128(struct.pack("<IIQ", region, 0, leaf) + digest), "big")


def sum_bytes(total: int) -> bytes:
    return (total % 2**128).to_bytes(16, "big")


def memory_digest(sizes: list[int], sums: list[bytes]) -> bytes:
    parts = [struct.pack("<Q", len(sizes))]
    parts += [struct.pack("<Q", size) + total for size, total in zip(sizes, sums)]
    return xxh3_128(b"".join(parts))
