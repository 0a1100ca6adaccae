// XXH3-128, seed 0, default secret; the vendor's sources come with the npm package xxhash-addon.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "../base/limits.h"

namespace vmsnap {

/// Canonical form: high 64 bits big endian, then low 64 bits big endian.
using Digest = std::array<uint8_t, kDigestBytes>;

/// The number that the last 8 bytes of the canonical form are.
uint64_t low_64_bits(const Digest& digest);

/// `bytes` may be null if `size_bytes` is 0.
Digest xxh3_128(const uint8_t* bytes, size_t size_bytes);

}  // namespace vmsnap
