// Reading and filling with 8-byte words at any alignment.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace vmsnap {

inline uint64_t load_word(const uint8_t* bytes) {
  uint64_t word;
  std::memcpy(&word, bytes, sizeof word);
  return word;
}

/// Fills `size_bytes` (a multiple of 8) with `word`.
inline void fill_words(uint8_t* bytes, size_t size_bytes, uint64_t word) {
  for (size_t at = 0; at < size_bytes; at += sizeof word) std::memcpy(bytes + at, &word, sizeof word);
}

}  // namespace vmsnap
