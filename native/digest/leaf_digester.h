// Leaf digests of a segment, fed page by page in order (SPEC.md, "Memory digest").
//
// Every 4096-byte block is hashed by itself, and every 1 MiB leaf is the hash of its 256 block digests. The table of
// block digests starts each leaf as that of a zero leaf, so a zero page costs a step of a counter, and blocks past the
// end of the region are zero without a further thought.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "xxh3.h"

namespace vmsnap {

/// Digest of a leaf of zero blocks only.
const Digest& zero_leaf_digest();

constexpr size_t leaf_count(size_t segment_bytes) { return (segment_bytes + kLeafBytes - 1) / kLeafBytes; }

class LeafDigester {
 public:
  /// `leaves` takes 16 bytes for each leaf; it must outlive the digester. The segment starts at a leaf's start.
  explicit LeafDigester(uint8_t* leaves);

  /// All sizes are multiples of the block size.
  void add_zero(size_t size_bytes);
  /// Returns a hash of the bytes, which the digests of their blocks yield without further reading: those of one block
  /// alone are the low 64 bits of its digest.
  uint64_t add_data(const uint8_t* bytes, size_t size_bytes);
  void add_uniform(uint64_t word, size_t size_bytes);

  /// Closes the last leaf if it is not full. Once, at the end.
  void finish();

 private:
  void advance(size_t blocks);
  void close_leaf();

  uint8_t* next_leaf_;
  size_t block_ = 0;
  bool leaf_is_zero_ = true;
  // Guests fill memory with few patterns: the last one's digest is kept.
  uint64_t last_word_ = 0;
  Digest last_word_digest_;
  std::array<Digest, kBlocksPerLeaf> blocks_;
};

}  // namespace vmsnap
