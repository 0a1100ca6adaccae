#include "block_hash.h"

#include <algorithm>

#include "../base/word.h"

namespace vmsnap {

std::span<const HashKernel> hash_kernels() {
#if defined(__x86_64__)
  static const std::array<HashKernel, 2> all = {HashKernel{"avx2", __builtin_cpu_supports("avx2") != 0, sum_block_avx2},
                                                HashKernel{"scalar", true, sum_block_scalar}};
#elif defined(__aarch64__)
  static const std::array<HashKernel, 2> all = {HashKernel{"neon", true, sum_block_neon},
                                                HashKernel{"scalar", true, sum_block_scalar}};
#else
  static const std::array<HashKernel, 1> all = {HashKernel{"scalar", true, sum_block_scalar}};
#endif
  return all;
}

const HashKernel& best_hash_kernel() {
  const std::span<const HashKernel> all = hash_kernels();
  return *std::find_if(all.begin(), all.end(), [](const HashKernel& kernel) { return kernel.available; });
}

BlockHasher::BlockHasher(std::span<const uint8_t, kHashKeyBytes> key, const HashKernel& kernel)
    : sum_block_(kernel.sum_block) {
  std::copy(key.begin(), key.end(), key_.begin());
  const std::array<uint8_t, kBlockBytes> zeros = {};
  of_zeros_ = sum_block_(key_.data(), zeros.data());
}

BlockHash BlockHasher::hash_repeated(uint64_t word) const {
  std::array<uint8_t, kBlockBytes> block;
  fill_words(block.data(), block.size(), word);
  return hash(block.data());
}

}  // namespace vmsnap
