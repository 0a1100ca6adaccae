"""XXH3-128 with seed 0 and the default secret, for inputs of any length, from the public xxHash specification."""

import struct

MASK32 = 0xFFFFFFFF
MASK64 = 0xFFFFFFFFFFFFFFFF

PRIME32_1 = 0x9E3779B1
PRIME32_2 = 0x85EBCA77
PRIME32_3 = 0xC2B2AE3D
PRIME64_1 = 0x9E3779B185EBCA87
PRIME64_2 = 0xC2B2AE3D27D4EB4F
PRIME64_3 = 0x165667B19E3779F9
PRIME64_4 = 0x85EBCA77C2B2AE63
PRIME64_5 = 0x27D4EB2F165667C5
PRIME_MX1 = 0x165667919E3779F9
PRIME_MX2 = 0x9FB21C651E98DF25

SECRET = bytes.fromhex(
    "b8fe6c3923a44bbe7c01812cf721ad1cded46de9839097db7240a4a4b7b3671f"
    "cb79e64eccc0e578825ad07dccff7221b8084674f743248ee03590e6813a264c"
    "3c2852bb91c300cb88d0658b1b532ea371644897a20df94e3819ef46a9deacd8"
    "a8fa763fe39c343ff9dcbbc7c70b4f1d8a51e04bcdb45931c89f7ec9d9787364"
    "eac5ac8334d3ebc3c581a0fffa1363eb170ddd51b7f0da49d316552629d4689e"
    "2b16be587d47a1fc8ff8b8d17ad031ce45cb3a8f95160428afd7fbcabb4b407e"
)
STRIPE_BYTES = 64
STRIPES_PER_BLOCK = (len(SECRET) - STRIPE_BYTES) // 8
BLOCK_BYTES = STRIPES_PER_BLOCK * STRIPE_BYTES

assert len(SECRET) == 192


def _u32(data, at):
    return int.from_bytes(data[at : at + 4], "little")


def _u64(data, at):
    return int.from_bytes(data[at : at + 8], "little")


def _swap(value, size_bytes):
    return int.from_bytes(value.to_bytes(size_bytes, "little"), "big")


def _avalanche(h):
    h ^= h >> 37
    h = h * PRIME_MX1 & MASK64
    return h ^ h >> 32


def _avalanche_xxh64(h):
    h ^= h >> 33
    h = h * PRIME64_2 & MASK64
    h ^= h >> 29
    h = h * PRIME64_3 & MASK64
    return h ^ h >> 32


def _fold(a, b):
    product = a * b
    return (product & MASK64) ^ (product >> 64)


def _hash_0():
    low = _avalanche_xxh64(_u64(SECRET, 64) ^ _u64(SECRET, 72))
    high = _avalanche_xxh64(_u64(SECRET, 80) ^ _u64(SECRET, 88))
    return low, high


def _hash_1_to_3(data):
    n = len(data)
    low = data[0] << 16 | data[n >> 1] << 24 | data[n - 1] | n << 8
    swapped = _swap(low, 4)
    high = (swapped << 13 | swapped >> 19) & MASK32
    return (
        _avalanche_xxh64(low ^ _u32(SECRET, 0) ^ _u32(SECRET, 4)),
        _avalanche_xxh64(high ^ _u32(SECRET, 8) ^ _u32(SECRET, 12)),
    )


def _hash_4_to_8(data):
    n = len(data)
    keyed = (_u32(data, 0) | _u32(data, n - 4) << 32) ^ _u64(SECRET, 16) ^ _u64(SECRET, 24)
    product = keyed * ((PRIME64_1 + (n << 2)) & MASK64)
    low = product & MASK64
    high = ((product >> 64) + (low << 1)) & MASK64
    low ^= high >> 3
    low ^= low >> 35
    low = low * PRIME_MX2 & MASK64
    low ^= low >> 28
    return low, _avalanche(high)


def _hash_9_to_16(data):
    n = len(data)
    flip_low = _u64(SECRET, 32) ^ _u64(SECRET, 40)
    flip_high = _u64(SECRET, 48) ^ _u64(SECRET, 56)
    first = _u64(data, 0)
    last = _u64(data, n - 8)
    product = (first ^ last ^ flip_low) * PRIME64_1
    low = ((product & MASK64) + (n - 1 << 54)) & MASK64
    last ^= flip_high
    high = ((product >> 64) + last + (last & MASK32) * (PRIME32_2 - 1)) & MASK64
    low ^= _swap(high, 8)
    product = low * PRIME64_2
    high = ((product >> 64) + high * PRIME64_2) & MASK64
    return _avalanche(product & MASK64), _avalanche(high)


def _mix16(data, at, secret_at):
    return _fold(_u64(data, at) ^ _u64(SECRET, secret_at), _u64(data, at + 8) ^ _u64(SECRET, secret_at + 8))


def _mix32(low, high, data, one, two, secret_at):
    low = (low + _mix16(data, one, secret_at)) & MASK64
    low ^= (_u64(data, two) + _u64(data, two + 8)) & MASK64
    high = (high + _mix16(data, two, secret_at + 16)) & MASK64
    high ^= (_u64(data, one) + _u64(data, one + 8)) & MASK64
    return low, high


def _finish_middle(low, high, n):
    total = _avalanche((low + high) & MASK64)
    weighted = _avalanche((low * PRIME64_1 + high * PRIME64_4 + n * PRIME64_2) & MASK64)
    return total, -weighted & MASK64


def _hash_17_to_128(data):
    n = len(data)
    low, high = n * PRIME64_1 & MASK64, 0
    for i in reversed(range((n - 1) // 32 + 1)):
        low, high = _mix32(low, high, data, 16 * i, n - 16 * (i + 1), 32 * i)
    return _finish_middle(low, high, n)


def _hash_129_to_240(data):
    n = len(data)
    low, high = n * PRIME64_1 & MASK64, 0
    for i in range(4):
        low, high = _mix32(low, high, data, 32 * i, 32 * i + 16, 32 * i)
    low, high = _avalanche(low), _avalanche(high)
    for i in range(4, n // 32):
        low, high = _mix32(low, high, data, 32 * i, 32 * i + 16, 3 + 32 * (i - 4))
    low, high = _mix32(low, high, data, n - 16, n - 32, 136 - 17 - 16)
    return _finish_middle(low, high, n)


_WORDS = struct.Struct("<8Q")
_KEYS = tuple(_WORDS.unpack_from(SECRET, 8 * i) for i in range(STRIPES_PER_BLOCK))
_SCRAMBLE_KEY = _WORDS.unpack_from(SECRET, len(SECRET) - STRIPE_BYTES)
_LAST_KEY = _WORDS.unpack_from(SECRET, len(SECRET) - STRIPE_BYTES - 7)


def _accumulate(acc, words, keys):
    for i in range(8):
        word = words[i]
        key = word ^ keys[i]
        acc[i ^ 1] += word
        acc[i] = (acc[i] + (key & MASK32) * (key >> 32)) & MASK64
    # The neighbour's word may have been added after its own mask.
    for i in range(8):
        acc[i] &= MASK64


def _scramble(acc):
    for i in range(8):
        value = acc[i]
        acc[i] = (value ^ value >> 47 ^ _SCRAMBLE_KEY[i]) * PRIME32_1 & MASK64


def _merge(acc, secret_at, start):
    result = start
    for i in range(4):
        one = acc[2 * i] ^ _u64(SECRET, secret_at + 16 * i)
        two = acc[2 * i + 1] ^ _u64(SECRET, secret_at + 16 * i + 8)
        result += _fold(one, two)
    return _avalanche(result & MASK64)


def _hash_long(data):
    n = len(data)
    acc = [PRIME32_3, PRIME64_1, PRIME64_2, PRIME64_3, PRIME64_4, PRIME32_2, PRIME64_5, PRIME32_1]
    stripes = (n - 1) // STRIPE_BYTES
    for stripe in range(stripes):
        _accumulate(acc, _WORDS.unpack_from(data, stripe * STRIPE_BYTES), _KEYS[stripe % STRIPES_PER_BLOCK])
        if stripe % STRIPES_PER_BLOCK == STRIPES_PER_BLOCK - 1:
            _scramble(acc)
    _accumulate(acc, _WORDS.unpack_from(data, n - STRIPE_BYTES), _LAST_KEY)
    low = _merge(acc, 11, n * PRIME64_1 & MASK64)
    high = _merge(acc, len(SECRET) - STRIPE_BYTES - 11, ~(n * PRIME64_2) & MASK64)
    return low, high


def _halves(data):
    n = len(data)
    if n == 0:
        return _hash_0()
    if n <= 3:
        return _hash_1_to_3(data)
    if n <= 8:
        return _hash_4_to_8(data)
    if n <= 16:
        return _hash_9_to_16(data)
    if n <= 128:
        return _hash_17_to_128(data)
    if n <= 240:
        return _hash_129_to_240(data)
    return _hash_long(data)


def xxh3_128(data) -> bytes:
    """The 16 bytes in canonical order: high 64 bits big endian, then low 64 bits big endian."""
    low, high = _halves(bytes(data))
    return struct.pack(">QQ", high, low)


assert xxh3_128(b"").hex() == "99aa06d3014798d86001c324468d497f"
