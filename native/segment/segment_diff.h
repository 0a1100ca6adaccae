// What a scanned segment has that its base has not.
#pragma once

#include <cstddef>
#include <cstdint>

#include "segment_view.h"

namespace vmsnap {

/// Where a segment in its scanned form can be written; the same memory that a SegmentView of it shows.
struct SegmentBuffers {
  uint8_t* states;
  uint8_t* data;
  uint64_t* words;
};

/// What is known of a base's segment once its data pages have been compared (match_pages).
struct BaseView {
  /// 0, 1, 2 or 6 each, as many as the segment has pages.
  std::span<const uint8_t> states;
  const uint64_t* words;
  /// For each data page of the segment: not 0 if the base has the same bytes there.
  const uint8_t* same_data;
};

struct DiffCounts {
  size_t data = 0;
  size_t uniform = 0;
  size_t zero = 0;
  size_t same_as_base = 0;
  size_t absent = 0;
};

/// Gives each page of `segment` that is the same as the base's the state kPageSameAsBase, and closes the gaps that it
/// leaves among data pages and words. A page that is zero is not the same as one that is absent. `segment.states` is a
/// copy of `out.states`; data and words are where `out` points to.
DiffCounts mark_same_as_base(const SegmentView& segment, const BaseView& base, const SegmentBuffers& out);

}  // namespace vmsnap
