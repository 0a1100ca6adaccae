"""Files of age (age-encryption.org/v1; C2SP, age.md), as far as a wrapped key needs them: X25519 and scrypt, one chunk."""

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass

from bech32 import decode_bech32
from damage import CannotDecodeError, NoKeyError, require

try:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    HAS_CRYPTOGRAPHY = True
except ImportError:
    HAS_CRYPTOGRAPHY = False

VERSION_LINE = b"age-encryption.org/v1\n"
X25519_INFO = b"age-encryption.org/v1/X25519"
SCRYPT_LABEL = b"age-encryption.org/v1/scrypt"
IDENTITY_PREFIX = "age-secret-key-"
BODY_COLUMNS = 64
AGE_KEY_BYTES = 16
TAG_BYTES = 16
NONCE_BYTES = 16
WORK_FACTOR_MAX = 18
SCRYPT_BLOCK_SIZE = 8
ZERO_NONCE = bytes(12)
FINAL_CHUNK_NONCE = bytes(11) + b"\x01"


@dataclass(frozen=True)
class Secrets:
    identities: tuple[str, ...] = ()
    passphrases: tuple[bytes, ...] = ()


@dataclass(frozen=True)
class Stanza:
    arguments: list[str]
    body: bytes


def open_age_file(file: bytes, secrets: Secrets, at: int) -> bytes:
    """What was wrapped, which must be one chunk. `at`: the offset that messages name."""
    require_cryptography()
    stanzas, header, mac, payload = _read_header(file, at)
    key = _unwrap(stanzas, secrets, at)
    expected = hmac.digest(hkdf(key, b"", b"header"), header, "sha256")
    require(hmac.compare_digest(mac, expected), at, "wrapped key: the MAC of its header does not match")
    nonce, sealed = payload[:NONCE_BYTES], payload[NONCE_BYTES:]
    require(len(sealed) >= TAG_BYTES, at, "wrapped key: cut off")
    opened = _open(hkdf(key, nonce, b"payload"), FINAL_CHUNK_NONCE, sealed)
    require(opened is not None, at, "wrapped key: its payload is not what was wrapped")
    return opened


def require_cryptography() -> None:
    if not HAS_CRYPTOGRAPHY:
        raise CannotDecodeError("this image is encrypted, and Python has no cryptography here; install python3-cryptography")


def hkdf(key: bytes, salt: bytes, info: bytes) -> bytes:
    """HKDF-SHA-256 (RFC 5869) of 32 bytes."""
    extracted = hmac.digest(salt or bytes(32), key, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def _read_header(file: bytes, at: int) -> tuple[list[Stanza], bytes, bytes, bytes]:
    """Stanzas, the header up to its MAC, the MAC, and what follows."""
    require(file.startswith(VERSION_LINE), at, "wrapped key: no file of age")
    stanzas: list[Stanza] = []
    place = len(VERSION_LINE)
    while True:
        line, following = _line(file, place, at)
        if line.startswith("--- "):
            require(len(stanzas) > 0, at, "wrapped key: for nobody")
            mac = _unpadded(line[4:], at)
            return stanzas, file[: place + 3], mac, file[following:]
        require(line.startswith("-> "), at, "wrapped key: a line that begins no stanza")
        arguments = line[3:].split(" ")
        require(all(arguments), at, "wrapped key: an empty argument")
        body, place = _body(file, following, at)
        stanzas.append(Stanza(arguments, body))


def _body(file: bytes, place: int, at: int) -> tuple[bytes, int]:
    text = ""
    while True:
        line, place = _line(file, place, at)
        require(len(line) <= BODY_COLUMNS, at, "wrapped key: a line of a stanza is too long")
        text += line
        if len(line) < BODY_COLUMNS:
            return _unpadded(text, at), place


def _line(file: bytes, place: int, at: int) -> tuple[str, int]:
    end = file.find(b"\n", place)
    require(end >= 0, at, "wrapped key: cut off")
    line = file[place:end]
    require(all(0x20 <= byte < 0x7F for byte in line), at, "wrapped key: a header that is no ASCII")
    return line.decode("ascii"), end + 1


def _unpadded(text: str, at: int) -> bytes:
    """Canonical base64 without padding."""
    try:
        value = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        value = None
    good = value is not None and base64.b64encode(value).decode().rstrip("=") == text
    require(good, at, "wrapped key: no canonical base64")
    return value


def _unwrap(stanzas: list[Stanza], secrets: Secrets, at: int) -> bytes:
    kinds = [stanza.arguments[0] for stanza in stanzas]
    require("scrypt" not in kinds or len(kinds) == 1, at, "wrapped key: a passphrase beside other recipients")
    for stanza in stanzas:
        for wrapping_key in _wrapping_keys(stanza, secrets, at):
            require(len(stanza.body) == AGE_KEY_BYTES + TAG_BYTES, at, "wrapped key: a stanza of a wrong length")
            key = _open(wrapping_key, ZERO_NONCE, stanza.body)
            if key is not None:
                return key
    raise NoKeyError(f"none of the keys given opens the image, which is encrypted for: {', '.join(kinds)}")


def _wrapping_keys(stanza: Stanza, secrets: Secrets, at: int):
    """What may have wrapped the key in this stanza."""
    kind, *arguments = stanza.arguments
    if kind == "X25519":
        require(len(arguments) == 1, at, "wrapped key: arguments of X25519")
        share = _unpadded(arguments[0], at)
        require(len(share) == 32, at, "wrapped key: a share of a wrong length")
        for identity in secrets.identities:
            yield _x25519_key(identity, share, at)
    if kind == "scrypt":
        require(len(arguments) == 2, at, "wrapped key: arguments of scrypt")
        salt = _unpadded(arguments[0], at)
        good = len(salt) == 16 and re.fullmatch("[1-9][0-9]*", arguments[1]) is not None
        require(good, at, "wrapped key: arguments of scrypt")
        factor = int(arguments[1])
        require(factor <= WORK_FACTOR_MAX, at, f"wrapped key: scrypt work factor {factor}")
        for passphrase in secrets.passphrases:
            yield _scrypt_key(passphrase, salt, factor)


def _x25519_key(identity: str, share: bytes, at: int) -> bytes:
    prefix, secret = decode_bech32(identity)
    if prefix != IDENTITY_PREFIX or len(secret) != 32:
        raise CannotDecodeError("an identity is no secret key of age")
    own = X25519PrivateKey.from_private_bytes(secret)
    recipient = own.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(share))
    except ValueError:
        shared = bytes(32)
    require(any(shared), at, "wrapped key: a share of low order")
    return hkdf(shared, share + recipient, X25519_INFO)


def _scrypt_key(passphrase: bytes, salt: bytes, factor: int) -> bytes:
    n = 1 << factor
    memory = 2 * 128 * n * SCRYPT_BLOCK_SIZE
    return hashlib.scrypt(passphrase, salt=SCRYPT_LABEL + salt, n=n, r=SCRYPT_BLOCK_SIZE, p=1, maxmem=memory, dklen=32)


def _open(key: bytes, nonce: bytes, sealed: bytes) -> bytes | None:
    try:
        return ChaCha20Poly1305(key).decrypt(nonce, sealed, None)
    except InvalidTag:
        return None
