"""The keys of an encrypted image, and what they open (SPEC.md, "Encryption")."""

import hmac
import struct
from dataclasses import dataclass

from age import Secrets, hkdf, open_age_file, require_cryptography
from damage import NoKeyError, require

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
except ImportError:
    pass  # age.require_cryptography says so before anything is opened.

AT = 64
FILE_KEY_BYTES = 32
TAG_BYTES = 16
SEAL_NUMBER_BYTES = 8
HEADER_TAG = slice(40, 56)
FOOTER_TAG = slice(80, 92)
PREFIX_SEALED_BYTES = 56


@dataclass(frozen=True)
class ChunkSeal:
    """Of one record."""

    key: bytes
    number: int
    tags: list[bytes]

    def open(self, chunk: int, stored: bytes, at: int) -> bytes:
        nonce = struct.pack("<QI", self.number, chunk)
        opened = _open(self.key, nonce, stored + self.tags[chunk], None)
        require(opened is not None, at, f"chunk {chunk}: it is not what was sealed here")
        return opened


@dataclass(frozen=True)
class SealKeys:
    header: bytes
    footer: bytes
    tables: bytes
    chunks: bytes

    def check_header(self, opening: bytes) -> None:
        """`opening`: header and start manifest with its padding."""
        covered = opening[:40] + bytes(24) + opening[64:]
        tag = hmac.digest(self.header, covered, "sha256")[:16]
        require(hmac.compare_digest(opening[HEADER_TAG], tag), 40, "header or start manifest are not what was sealed")

    def check_footer(self, footer: bytes, at: int) -> None:
        tag = hmac.digest(self.footer, footer[:80], "sha256")[:12]
        require(hmac.compare_digest(footer[FOOTER_TAG], tag), at + 80, "footer: it is not what was sealed")

    def open_tables(self, prefix: bytes, tables: bytes, at: int) -> tuple[bytes, ChunkSeal]:
        """The tables without their seal, and the seal. `at`: the offset of the record."""
        require(len(tables) >= TAG_BYTES, at, "tables are too short for their seal")
        nonce = struct.pack("<QI", at, 0)
        opened = _open(self.tables, nonce, tables, prefix[:PREFIX_SEALED_BYTES])
        require(opened is not None, at, "tables: they are not what was sealed here")
        count = _chunk_count(prefix[:4], opened, at)
        seal_at = len(opened) - SEAL_NUMBER_BYTES - TAG_BYTES * count
        require(seal_at >= 0, at, "tables are too short for their seal")
        number = struct.unpack_from("<Q", opened, seal_at)[0]
        tags_at = seal_at + SEAL_NUMBER_BYTES
        tags = [opened[tags_at + TAG_BYTES * i : tags_at + TAG_BYTES * (i + 1)] for i in range(count)]
        return opened[:seal_at], ChunkSeal(self.chunks, number, tags)


def open_keys(wrapped_key: bytes, secrets: Secrets) -> SealKeys:
    require_cryptography()
    if not secrets.identities and not secrets.passphrases:
        raise NoKeyError("the image is encrypted, and no key is given")
    file_key = open_age_file(wrapped_key, secrets, AT)
    require(len(file_key) == FILE_KEY_BYTES, AT, f"a file key of {len(file_key)} bytes")
    return SealKeys(*(hkdf(file_key, b"", f"vmsnap {name}".encode()) for name in ("header", "footer", "tables", "chunks")))


def _chunk_count(kind: bytes, tables: bytes, at: int) -> int:
    count_at = {b"VSEG": 16, b"VATT": 8}.get(kind)
    if count_at is None:
        return 1
    require(len(tables) >= count_at + 4, at, "tables are too short")
    return struct.unpack_from("<I", tables, count_at)[0]


def _open(key: bytes, nonce: bytes, sealed: bytes, associated: bytes | None) -> bytes | None:
    try:
        return AESGCM(key).decrypt(nonce, sealed, associated)
    except InvalidTag:
        return None
