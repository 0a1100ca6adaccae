// Plain C++: 64 bytes a step, the differences of eight words or'd so that there is one branch a step.
#include "kernel.h"

namespace vmsnap {

bool repeats_first_word_scalar(const uint8_t* bytes, size_t size_bytes) {
  constexpr size_t kStepBytes = 64;
  const uint64_t word = load_word(bytes);
  if (!looks_repeating(bytes, size_bytes, word)) return false;
  size_t at = 0;
  for (; at + kStepBytes <= size_bytes; at += kStepBytes) {
    const uint8_t* p = bytes + at;
    const uint64_t low =
        (load_word(p) ^ word) | (load_word(p + 8) ^ word) | (load_word(p + 16) ^ word) | (load_word(p + 24) ^ word);
    const uint64_t high = (load_word(p + 32) ^ word) | (load_word(p + 40) ^ word) | (load_word(p + 48) ^ word) |
                          (load_word(p + 56) ^ word);
    if ((low | high) != 0) return false;
  }
  for (; at < size_bytes; at += 8) {
    if (load_word(bytes + at) != word) return false;
  }
  return true;
}

}  // namespace vmsnap
