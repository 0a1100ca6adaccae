#include "leaf_digester.h"

#include <algorithm>
#include <cstring>

#include "../base/word.h"

namespace vmsnap {

namespace {

using BlockDigests = std::array<Digest, kBlocksPerLeaf>;
static_assert(sizeof(BlockDigests) == kBlocksPerLeaf * kDigestBytes);

Digest hash_blocks(const BlockDigests& blocks) { return xxh3_128(blocks.data()->data(), sizeof blocks); }

struct ZeroLeaf {
  ZeroLeaf() {
    const std::array<uint8_t, kBlockBytes> block{};
    blocks.fill(xxh3_128(block.data(), block.size()));
    digest = hash_blocks(blocks);
  }
  BlockDigests blocks;
  Digest digest;
};

const ZeroLeaf& zero_leaf() {
  static const ZeroLeaf leaf;
  return leaf;
}

}  // namespace

const Digest& zero_leaf_digest() { return zero_leaf().digest; }

LeafDigester::LeafDigester(uint8_t* leaves)
    : next_leaf_(leaves), last_word_digest_(zero_leaf().blocks[0]), blocks_(zero_leaf().blocks) {}

void LeafDigester::add_zero(size_t size_bytes) {
  for (size_t left = size_bytes / kBlockBytes; left > 0;) {
    const size_t blocks = std::min(left, kBlocksPerLeaf - block_);
    advance(blocks);
    left -= blocks;
  }
}

uint64_t LeafDigester::add_data(const uint8_t* bytes, size_t size_bytes) {
  uint64_t hash = 0;
  for (size_t at = 0; at < size_bytes; at += kBlockBytes) {
    blocks_[block_] = xxh3_128(bytes + at, kBlockBytes);
    // An odd factor keeps every bit of what is in there, and the order of the blocks counts.
    hash = hash * 0x9E3779B97F4A7C15 + low_64_bits(blocks_[block_]);
    leaf_is_zero_ = false;
    advance(1);
  }
  return hash;
}

void LeafDigester::add_uniform(uint64_t word, size_t size_bytes) {
  if (word != last_word_) {
    std::array<uint8_t, kBlockBytes> block;
    fill_words(block.data(), block.size(), word);
    last_word_digest_ = xxh3_128(block.data(), block.size());
    last_word_ = word;
  }
  for (size_t left = size_bytes / kBlockBytes; left > 0;) {
    const size_t blocks = std::min(left, kBlocksPerLeaf - block_);
    std::fill_n(blocks_.data() + block_, blocks, last_word_digest_);
    leaf_is_zero_ = false;
    advance(blocks);
    left -= blocks;
  }
}

void LeafDigester::finish() {
  if (block_ > 0) close_leaf();
}

void LeafDigester::advance(size_t blocks) {
  block_ += blocks;
  if (block_ == kBlocksPerLeaf) close_leaf();
}

void LeafDigester::close_leaf() {
  const Digest digest = leaf_is_zero_ ? zero_leaf().digest : hash_blocks(blocks_);
  std::memcpy(next_leaf_, digest.data(), digest.size());
  next_leaf_ += digest.size();
  if (!leaf_is_zero_) blocks_ = zero_leaf().blocks;
  leaf_is_zero_ = true;
  block_ = 0;
}

}  // namespace vmsnap
