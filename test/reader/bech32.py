"""Bech32 (BIP 173), in which age writes its keys; without that text's limit of 90 characters."""

from damage import CannotDecodeError

ALPHABET = "qpzry9x8gf2tvdw0s3jn54khce6mua7l"
GENERATORS = (0x3B6A57B2, 0x26508E6D, 0x1EA119FA, 0x3D4233DD, 0x2A1462B3)
CHECKSUM_LENGTH = 6


def decode_bech32(text: str) -> tuple[str, bytes]:
    """The prefix in lower case, and the bytes."""
    if text not in (text.lower(), text.upper()):
        raise CannotDecodeError("a key of age in mixed case")
    prefix, _, data = text.lower().rpartition("1")
    values = [ALPHABET.find(letter) for letter in data]
    if not prefix or len(values) < CHECKSUM_LENGTH or -1 in values:
        raise CannotDecodeError("no key of age")
    expanded = [ord(c) >> 5 for c in prefix] + [0] + [ord(c) & 31 for c in prefix]
    if _checksum(expanded + values) != 1:
        raise CannotDecodeError("a key of age whose checksum does not match")
    return prefix, _bytes_of(values[:-CHECKSUM_LENGTH])


def _checksum(values: list[int]) -> int:
    sum_ = 1
    for value in values:
        top = sum_ >> 25
        sum_ = (sum_ & 0x1FFFFFF) << 5 ^ value
        for i, generator in enumerate(GENERATORS):
            if top >> i & 1:
                sum_ ^= generator
    return sum_


def _bytes_of(values: list[int]) -> bytes:
    """Of groups of 5 bits; what is left of the last byte is zero."""
    bits = "".join(f"{value:05b}" for value in values)
    whole = len(bits) // 8 * 8
    if len(bits) - whole > 4 or "1" in bits[whole:]:
        raise CannotDecodeError("a key of age that does not end with its bytes")
    return bytes(int(bits[i : i + 8], 2) for i in range(0, whole, 8))
