"""CRC-32C (Castagnoli, reflected; RFC 3720 B.4), one table, one byte at a time."""

POLYNOMIAL_REFLECTED = 0x82F63B78


def _table_entry(value: int) -> int:
    for _ in range(8):
        value = (value >> 1) ^ (POLYNOMIAL_REFLECTED if value & 1 else 0)
    return value


_TABLE = tuple(_table_entry(i) for i in range(256))


def crc32c(data) -> int:
    table = _TABLE
    crc = 0xFFFFFFFF
    for byte in bytes(data):
        crc = table[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


assert crc32c(b"123456789") == 0xE3069283
