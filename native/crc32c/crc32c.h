// CRC-32C (Castagnoli, reflected, RFC 3720 B.4) by the CPU's own instruction where there is one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace vmsnap {

/// Takes and returns the CRC register as it runs, without the inversion before and after.
using Crc32cUpdate = uint32_t (*)(uint32_t state, const uint8_t* bytes, size_t size_bytes);

struct Crc32cImplementation {
  std::string_view name;
  bool available;
  Crc32cUpdate update;
};

/// Those that this build has, best first; the last is the table, which always works.
std::span<const Crc32cImplementation> crc32c_implementations();

/// The first that is available.
const Crc32cImplementation& crc32c_implementation();

/// CRC of the bytes, continuing from `seed`, the CRC of what came before (0 to start).
uint32_t crc32c(const uint8_t* bytes, size_t size_bytes, uint32_t seed);

uint32_t crc32c_update_table(uint32_t state, const uint8_t* bytes, size_t size_bytes);
#if defined(__x86_64__)
uint32_t crc32c_update_sse42(uint32_t state, const uint8_t* bytes, size_t size_bytes);
#endif
#if defined(__aarch64__)
uint32_t crc32c_update_armv8(uint32_t state, const uint8_t* bytes, size_t size_bytes);
#endif

}  // namespace vmsnap
