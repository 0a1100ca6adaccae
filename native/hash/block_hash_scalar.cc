// A pair of words is one load of 64 bits; its halves are added to those of the key without a carry between them.
#include "../base/word.h"
#include "block_hash.h"

namespace vmsnap {

namespace {

uint64_t product(uint64_t pair, uint64_t key) {
  const auto low = static_cast<uint32_t>(pair) + static_cast<uint32_t>(key);
  const auto high = static_cast<uint32_t>(pair >> 32) + static_cast<uint32_t>(key >> 32);
  return uint64_t{low} * high;
}

}  // namespace

BlockHash sum_block_scalar(const uint8_t* key, const uint8_t* block) {
  BlockHash sum;
  for (size_t at = 0; at < kBlockBytes; at += 8) {
    const uint64_t pair = load_word(block + at);
    sum.first += product(pair, load_word(key + at));
    sum.second += product(pair, load_word(key + at + kHashShiftBytes));
  }
  return sum;
}

}  // namespace vmsnap
