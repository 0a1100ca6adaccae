// A scan kernel answers one question: is every 8-byte word of a page the same as its first?
//
// If so the page is zero (that word is 0) or uniform, else it carries data. One kernel for each kind of vector unit,
// chosen at run time (select.cc).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "../base/word.h"

namespace vmsnap {

/// `bytes` may have any alignment; `size_bytes` is a multiple of 8 and at least 8. Reads nothing outside.
using RepeatsFirstWord = bool (*)(const uint8_t* bytes, size_t size_bytes);

struct Kernel {
  std::string_view name;
  bool available;
  /// Why it can or cannot be used here, in words for a user.
  const char* reason;
  /// Null where the build has no such kernel.
  RepeatsFirstWord repeats_first_word;
};

bool repeats_first_word_scalar(const uint8_t* bytes, size_t size_bytes);
#if defined(__x86_64__)
bool repeats_first_word_avx2(const uint8_t* bytes, size_t size_bytes);
#endif
#if defined(__aarch64__)
bool repeats_first_word_neon(const uint8_t* bytes, size_t size_bytes);
#endif

/// Every kernel that has a name, best first, also those that cannot run here.
std::span<const Kernel> kernels();

/// The kernel of that name, "auto" being the best available; null if the name is unknown. Look at `available`.
const Kernel* find_kernel(std::string_view name);

/// Rejects most data pages with four words, before the vector loop is set up.
inline bool looks_repeating(const uint8_t* bytes, size_t size_bytes, uint64_t first_word) {
  const size_t middle = size_bytes / 16 * 8;
  const uint64_t second = load_word(bytes + (size_bytes > 8 ? 8 : 0));
  return ((second ^ first_word) | (load_word(bytes + middle) ^ first_word) |
          (load_word(bytes + size_bytes - 8) ^ first_word)) == 0;
}

}  // namespace vmsnap
