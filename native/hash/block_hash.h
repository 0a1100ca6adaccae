// A keyed universal hash of 4096-byte blocks: tells whether a block still has the bytes that it had.
//
// For a digest that anybody can compute, a guest could make two blocks that collide, and the second would go unnoticed.
// Here a random key is drawn for each run, which the guest never sees, so what it writes cannot depend on it.
//
// The hash is NH with a Toeplitz key, twice (Black, Halevi, Krawczyk, Krovetz, Rogaway: "UMAC: Fast and Secure Message
// Authentication", CRYPTO '99, section 4), with words of 32 bits. A block is 512 pairs (a[i], b[i]) of words, the key K
// 516 pairs (x[i], y[i]). For r in {0, 1}
//
//     h_r = sum over i of ((a[i] + x[i + 4r]) mod 2^32) * ((b[i] + y[i + 4r]) mod 2^32)   mod 2^64
//
// and the hash is (h_0, h_1), each less what it is for a block of zeros: so that block has the hash 0, and a table of
// hashes has a hole where memory has one.
//
// Bound: two blocks that differ anywhere have the same hash with a probability of at most 2^-64 over the key. Proof.
// - One sum, one pair: let the blocks differ in pair i, in a[i] (for b[i] alike). Fix all of the key but y = y[i + 4r].
// With
//   c and c' for the two values of a[i] + x[i + 4r] mod 2^32, which differ, equal hashes mean
//   c * (b + y) - c' * (b' + y) = const mod 2^64, the brackets mod 2^32. Suppose two keys y solve it. Between them both
//   brackets move by the same d mod 2^32, 0 < d < 2^32, each by d or by d - 2^32. If both move alike, by e, then (c -
//   c') * e = 0 mod 2^64, but 0 < |c - c'| * |e| < 2^64. If they move by d and d - 2^32, then c * d + c' * (2^32 - d) =
//   0 mod 2^64 (or with c and c' exchanged), but the left side is at most max(c, c') * 2^32 < 2^64 and not 0, for c and
//   c' are not both 0. So at most one y of 2^32 solves it: 2^-32.
// - Both sums: let i be the last pair in which the blocks differ. What follows it cancels out, so whether h_0 collides
// depends on
//   key pairs up to i only; h_1 takes the pair i + 4 into account for pair i, which is independent of those. Given any
//   outcome of the first, the second collides with at most 2^-32: together 2^-64.
// - Taking away what is the same for all blocks changes nothing.
//
// A page of several blocks goes unnoticed only if every changed block does, so the bound holds for pages of any size.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "../base/limits.h"

namespace vmsnap {

/// Distance in the key between the two sums: four pairs, a vector of AVX2.
inline constexpr size_t kHashShiftBytes = 32;
inline constexpr size_t kHashKeyBytes = kBlockBytes + kHashShiftBytes;

struct BlockHash {
  uint64_t first = 0;
  uint64_t second = 0;
  friend bool operator==(const BlockHash&, const BlockHash&) = default;
};
inline constexpr size_t kBlockHashBytes = sizeof(BlockHash);

/// The two sums of a block, nothing taken away yet. `block` may have any alignment.
using SumBlock = BlockHash (*)(const uint8_t* key, const uint8_t* block);

struct HashKernel {
  std::string_view name;
  bool available;
  SumBlock sum_block;
};

BlockHash sum_block_scalar(const uint8_t* key, const uint8_t* block);
#if defined(__x86_64__)
BlockHash sum_block_avx2(const uint8_t* key, const uint8_t* block);
#endif
#if defined(__aarch64__)
BlockHash sum_block_neon(const uint8_t* key, const uint8_t* block);
#endif

/// Every kernel of this build, best first; all give the same values.
std::span<const HashKernel> hash_kernels();

/// The best kernel that is available here.
const HashKernel& best_hash_kernel();

class BlockHasher {
 public:
  explicit BlockHasher(std::span<const uint8_t, kHashKeyBytes> key, const HashKernel& kernel = best_hash_kernel());

  BlockHash hash(const uint8_t* block) const {
    const BlockHash sum = sum_block_(key_.data(), block);
    return {.first = sum.first - of_zeros_.first, .second = sum.second - of_zeros_.second};
  }

  /// Of a block that repeats an 8-byte word.
  BlockHash hash_repeated(uint64_t word) const;

 private:
  SumBlock sum_block_;
  alignas(64) std::array<uint8_t, kHashKeyBytes> key_;
  BlockHash of_zeros_;
};

}  // namespace vmsnap
