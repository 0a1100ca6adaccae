// AVX2: 256 bytes a step. Each step or's the differences of eight vectors and tests once; a data page mostly ends at
// the look before the loop or in its first step.
#if defined(__x86_64__)

#include "kernel.h"

#include <immintrin.h>

namespace vmsnap {

namespace {

__attribute__((target("avx2"))) inline __m256i difference(const uint8_t* bytes, __m256i word) {
  return _mm256_xor_si256(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes)), word);
}

}  // namespace

__attribute__((target("avx2"))) bool repeats_first_word_avx2(const uint8_t* bytes, size_t size_bytes) {
  constexpr size_t kStepBytes = 256;
  constexpr size_t kVectorBytes = 32;
  const uint64_t word = load_word(bytes);
  if (!looks_repeating(bytes, size_bytes, word)) return false;
  const __m256i words = _mm256_set1_epi64x(static_cast<int64_t>(word));
  size_t at = 0;
  for (; at + kStepBytes <= size_bytes; at += kStepBytes) {
    const uint8_t* p = bytes + at;
    const __m256i a = _mm256_or_si256(difference(p, words), difference(p + 32, words));
    const __m256i b = _mm256_or_si256(difference(p + 64, words), difference(p + 96, words));
    const __m256i c = _mm256_or_si256(difference(p + 128, words), difference(p + 160, words));
    const __m256i d = _mm256_or_si256(difference(p + 192, words), difference(p + 224, words));
    const __m256i all = _mm256_or_si256(_mm256_or_si256(a, b), _mm256_or_si256(c, d));
    if (!_mm256_testz_si256(all, all)) return false;
  }
  for (; at + kVectorBytes <= size_bytes; at += kVectorBytes) {
    const __m256i rest = difference(bytes + at, words);
    if (!_mm256_testz_si256(rest, rest)) return false;
  }
  for (; at < size_bytes; at += 8) {
    if (load_word(bytes + at) != word) return false;
  }
  return true;
}

}  // namespace vmsnap

#endif
