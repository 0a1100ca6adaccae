// AVX2: four pairs a step, for both sums. The key vector of the second sum is that of the first one step later.
#if defined(__x86_64__)

#include <immintrin.h>

#include "block_hash.h"

namespace vmsnap {

namespace {

constexpr size_t kVectorBytes = 32;
static_assert(kHashShiftBytes == kVectorBytes);

__attribute__((target("avx2"))) inline __m256i load(const uint8_t* bytes) {
  return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(bytes));
}

__attribute__((target("avx2"))) inline __m256i products(__m256i pairs, __m256i key) {
  const __m256i sums = _mm256_add_epi32(pairs, key);
  return _mm256_mul_epu32(sums, _mm256_srli_epi64(sums, 32));
}

__attribute__((target("avx2"))) inline uint64_t add_up(__m256i lanes) {
  const __m128i two = _mm_add_epi64(_mm256_castsi256_si128(lanes), _mm256_extracti128_si256(lanes, 1));
  return static_cast<uint64_t>(_mm_cvtsi128_si64(two)) + static_cast<uint64_t>(_mm_extract_epi64(two, 1));
}

}  // namespace

__attribute__((target("avx2"))) BlockHash sum_block_avx2(const uint8_t* key, const uint8_t* block) {
  __m256i first = _mm256_setzero_si256();
  __m256i second = _mm256_setzero_si256();
  __m256i key_here = load(key);
  for (size_t at = 0; at < kBlockBytes; at += 2 * kVectorBytes) {
    const __m256i key_next = load(key + at + kVectorBytes);
    const __m256i key_after = load(key + at + 2 * kVectorBytes);
    const __m256i pairs = load(block + at);
    const __m256i pairs_next = load(block + at + kVectorBytes);
    first = _mm256_add_epi64(first, products(pairs, key_here));
    second = _mm256_add_epi64(second, products(pairs, key_next));
    first = _mm256_add_epi64(first, products(pairs_next, key_next));
    second = _mm256_add_epi64(second, products(pairs_next, key_after));
    key_here = key_after;
  }
  return {.first = add_up(first), .second = add_up(second)};
}

}  // namespace vmsnap

#endif
