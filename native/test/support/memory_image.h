// Test memory: a mix of zero, uniform, nearly uniform and data pages.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

#include "random.h"

namespace vmsnap::test {

inline std::vector<uint8_t> memory_image(Random& random, size_t size_bytes, size_t page_bytes) {
  std::vector<uint8_t> memory(size_bytes);
  for (size_t at = 0; at < size_bytes; at += page_bytes) {
    uint8_t* page = memory.data() + at;
    const uint64_t kind = random.below(6);
    const uint64_t word = random.below(3) == 0 ? 0x0101010101010101 * random.below(255) : random.next();
    if (kind >= 4) continue;  // zero
    if (kind == 0) {
      const std::vector<uint8_t> data = random.bytes(page_bytes);
      std::memcpy(page, data.data(), page_bytes);
      continue;
    }
    if (kind >= 2) {
      for (size_t i = 0; i < page_bytes; i += 8) std::memcpy(page + i, &word, 8);
    }
    // Zero or uniform but for one bit.
    if (kind <= 2) page[random.below(page_bytes)] ^= static_cast<uint8_t>(1U << random.below(8));
  }
  return memory;
}

}  // namespace vmsnap::test
