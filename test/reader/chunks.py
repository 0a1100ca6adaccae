"""Chunks: their entries, their CRC, and what they decompress to (SPEC.md, "Segment record")."""

import shutil
import subprocess
import zlib
from dataclasses import dataclass

from crc32c import crc32c
from damage import CannotDecodeError, DamagedError, require
from fields import u32
from records import Record
from zstd_frame import require_one_frame

ENTRY_BYTES = 8


@dataclass(frozen=True)
class Chunk:
    offset: int
    stored: bytes
    raw_length: int

    @property
    def is_raw(self) -> bool:
        return len(self.stored) == self.raw_length


def split_payload(record: Record, at: int, raw_lengths: list[int]) -> list[Chunk]:
    """Cuts a payload by the chunk entries at `tables[at:]`, checks each chunk's length and CRC, and opens it."""
    tables, payload, payload_at = record.tables, record.payload, record.payload_at
    chunks = []
    used = 0
    for i, raw_length in enumerate(raw_lengths):
        length, crc = u32(tables, at + ENTRY_BYTES * i), u32(tables, at + ENTRY_BYTES * i + 4)
        offset = payload_at + used
        require(0 < length <= raw_length, offset, f"chunk {i}: {length} stored bytes for {raw_length}")
        stored = payload[used : used + length]
        require(len(stored) == length, offset, f"chunk {i} goes beyond the payload")
        require(crc32c(stored) == crc, offset, f"chunk {i}: CRC does not match")
        opened = stored if record.seal is None else record.seal.open(i, stored, offset)
        chunks.append(Chunk(offset, opened, raw_length))
        used += length
    require(used == len(payload), payload_at + used, "chunks do not add up to the payload")
    return chunks


class ChunkDecoder:
    """Gives the raw bytes of chunks; all zstd chunks of an image go through one `zstd` process."""

    def __init__(self, codec: str, chunks: list[Chunk]):
        self._codec = codec
        self._raw: dict[int, bytes] = {}
        packed = [chunk for chunk in chunks if not chunk.is_raw]
        for chunk in packed:
            require(codec != "none", chunk.offset, "compressed chunk in an image without compression")
        if codec == "zstd":
            for chunk in packed:
                require_one_frame(chunk.stored, chunk.raw_length, chunk.offset)
            self._unzstd(packed)
        elif codec == "zlib":
            for chunk in packed:
                self._raw[chunk.offset] = _inflate(chunk)

    def raw(self, chunk: Chunk) -> bytes:
        return chunk.stored if chunk.is_raw else self._raw[chunk.offset]

    def _unzstd(self, packed: list[Chunk]) -> None:
        if not packed:
            return
        raw = _run_zstd(b"".join(chunk.stored for chunk in packed), packed[0].offset)
        total = sum(chunk.raw_length for chunk in packed)
        require(len(raw) == total, packed[0].offset, f"zstd chunks hold {len(raw)} bytes, not {total}")
        at = 0
        for chunk in packed:
            self._raw[chunk.offset] = raw[at : at + chunk.raw_length]
            at += chunk.raw_length


def _run_zstd(frames: bytes, offset: int) -> bytes:
    tool = shutil.which("zstd")
    if tool is None:
        raise CannotDecodeError("this image has zstd chunks, and there is no zstd command here; install zstd")
    done = subprocess.run([tool, "-d", "-c", "-q"], input=frames, capture_output=True, check=False)
    if done.returncode != 0:
        message = done.stderr.decode("utf-8", "replace").strip()
        raise DamagedError(offset, f"a zstd chunk from here on cannot be decompressed: {message}")
    return done.stdout


def _inflate(chunk: Chunk) -> bytes:
    inflater = zlib.decompressobj()
    try:
        raw = inflater.decompress(chunk.stored, chunk.raw_length + 1)
    except zlib.error as error:
        raise DamagedError(chunk.offset, f"zlib chunk cannot be decompressed: {error}") from error
    require(len(raw) == chunk.raw_length, chunk.offset, f"chunk holds {len(raw)} bytes, not {chunk.raw_length}")
    require(inflater.eof and not inflater.unused_data, chunk.offset, "zlib chunk does not end with its stream")
    return raw
