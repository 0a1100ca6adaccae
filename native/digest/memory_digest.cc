#include "memory_digest.h"

#include <array>
#include <cstring>

#include "leaf_digester.h"

namespace vmsnap {

namespace {

uint64_t load_big_endian(const uint8_t* bytes) {
  uint64_t value = 0;
  for (unsigned i = 0; i < 8; ++i) value = (value << 8) | bytes[i];
  return value;
}

}  // namespace

void add_leaves(Sum128& sum, uint32_t region, uint64_t first_leaf, const uint8_t* leaves, size_t count) {
  const Digest& zero = zero_leaf_digest();
  for (size_t i = 0; i < count; ++i) {
    const uint8_t* leaf = leaves + i * kDigestBytes;
    if (std::memcmp(leaf, zero.data(), zero.size()) == 0) continue;
    const uint64_t number = first_leaf + i;
    std::array<uint8_t, 32> message{};
    std::memcpy(message.data(), &region, sizeof region);
    std::memcpy(message.data() + 8, &number, sizeof number);
    std::memcpy(message.data() + 16, leaf, kDigestBytes);
    const Digest contribution = xxh3_128(message.data(), message.size());
    const uint64_t low = load_big_endian(contribution.data() + 8);
    sum.low += low;
    sum.high += load_big_endian(contribution.data()) + (sum.low < low ? 1 : 0);
  }
}

}  // namespace vmsnap
