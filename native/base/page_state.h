// Page states as SPEC.md, "Page states", numbers them; only those that carry their own contents.
#pragma once

#include <cstdint>

namespace vmsnap {

inline constexpr uint8_t kPageZero = 0;
inline constexpr uint8_t kPageData = 1;
inline constexpr uint8_t kPageUniform = 2;

}  // namespace vmsnap
