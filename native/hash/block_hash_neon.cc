// NEON: two pairs a step, for both sums.
#if defined(__aarch64__)

#include <arm_neon.h>

#include "block_hash.h"

namespace vmsnap {

namespace {

inline uint64x2_t add_products(uint64x2_t to, uint32x4_t pairs, const uint8_t* key) {
  const uint64x2_t sums = vreinterpretq_u64_u32(vaddq_u32(pairs, vreinterpretq_u32_u8(vld1q_u8(key))));
  return vmlal_u32(to, vmovn_u64(sums), vshrn_n_u64(sums, 32));
}

}  // namespace

BlockHash sum_block_neon(const uint8_t* key, const uint8_t* block) {
  constexpr size_t kVectorBytes = 16;
  uint64x2_t first = vdupq_n_u64(0);
  uint64x2_t second = vdupq_n_u64(0);
  for (size_t at = 0; at < kBlockBytes; at += kVectorBytes) {
    const uint32x4_t pairs = vreinterpretq_u32_u8(vld1q_u8(block + at));
    first = add_products(first, pairs, key + at);
    second = add_products(second, pairs, key + at + kHashShiftBytes);
  }
  return {.first = vaddvq_u64(first), .second = vaddvq_u64(second)};
}

}  // namespace vmsnap

#endif
