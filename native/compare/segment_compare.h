// What became of each page of a segment: two segments in their scanned form, held against each other.
//
// Bytes decide. A state only says where a page's bytes are: a page that is stored as data may be zero all the same, and
// is then taken for zero.
#pragma once

#include <array>
#include <cstdint>

#include "../segment/segment_view.h"

namespace vmsnap {

// From `a` to `b`.
inline constexpr uint8_t kPageBothZero = 0;
inline constexpr uint8_t kPageSame = 1;
inline constexpr uint8_t kPageChanged = 2;
inline constexpr uint8_t kPageBecameZero = 3;
inline constexpr uint8_t kPageWasZero = 4;
inline constexpr size_t kPageChangeCount = 5;

/// How many pages there are of each change.
using ChangeCounts = std::array<uint64_t, kPageChangeCount>;

/// `a` and `b` have as many pages, of one size. Writes the change of each page to `changes`.
ChangeCounts compare_segments(const SegmentView& a, const SegmentView& b, uint8_t* changes);

}  // namespace vmsnap
