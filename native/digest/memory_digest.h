// The order-free sum over a region's leaves (SPEC.md, "Memory digest", 3 and 4).
#pragma once

#include <cstddef>
#include <cstdint>

namespace vmsnap {

struct Sum128 {
  uint64_t low = 0;
  uint64_t high = 0;
};

/// Adds the contributions of `count` leaf digests (16 bytes each), the first being leaf `first_leaf` of `region`.
void add_leaves(Sum128& sum, uint32_t region, uint64_t first_leaf, const uint8_t* leaves, size_t count);

}  // namespace vmsnap
