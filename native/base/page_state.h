// Page states as SPEC.md, "Page states", numbers them; those that the library meets.
#pragma once

#include <cstdint>

namespace vmsnap {

inline constexpr uint8_t kPageZero = 0;
inline constexpr uint8_t kPageData = 1;
inline constexpr uint8_t kPageUniform = 2;
// Only in what is written; a segment that is scanned or decoded has none.
inline constexpr uint8_t kPageReference = 3;
inline constexpr uint8_t kPageSameAsBase = 4;
/// Contents unknown; its bytes count as zero.
inline constexpr uint8_t kPageAbsent = 6;

}  // namespace vmsnap
