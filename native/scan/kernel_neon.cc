// NEON (part of every aarch64 CPU): 128 bytes a step, the differences of eight vectors or'd and tested once.
#if defined(__aarch64__)

#include "kernel.h"

#include <arm_neon.h>

namespace vmsnap {

namespace {

inline uint64x2_t difference(const uint8_t* bytes, uint64x2_t word) {
  return veorq_u64(vreinterpretq_u64_u8(vld1q_u8(bytes)), word);
}

inline bool any_bit(uint64x2_t bits) { return vmaxvq_u32(vreinterpretq_u32_u64(bits)) != 0; }

}  // namespace

bool repeats_first_word_neon(const uint8_t* bytes, size_t size_bytes) {
  constexpr size_t kStepBytes = 128;
  constexpr size_t kVectorBytes = 16;
  const uint64_t word = load_word(bytes);
  if (!looks_repeating(bytes, size_bytes, word)) return false;
  const uint64x2_t words = vdupq_n_u64(word);
  size_t at = 0;
  for (; at + kStepBytes <= size_bytes; at += kStepBytes) {
    const uint8_t* p = bytes + at;
    const uint64x2_t a = vorrq_u64(difference(p, words), difference(p + 16, words));
    const uint64x2_t b = vorrq_u64(difference(p + 32, words), difference(p + 48, words));
    const uint64x2_t c = vorrq_u64(difference(p + 64, words), difference(p + 80, words));
    const uint64x2_t d = vorrq_u64(difference(p + 96, words), difference(p + 112, words));
    if (any_bit(vorrq_u64(vorrq_u64(a, b), vorrq_u64(c, d)))) return false;
  }
  for (; at + kVectorBytes <= size_bytes; at += kVectorBytes) {
    if (any_bit(difference(bytes + at, words))) return false;
  }
  for (; at < size_bytes; at += 8) {
    if (load_word(bytes + at) != word) return false;
  }
  return true;
}

}  // namespace vmsnap

#endif
