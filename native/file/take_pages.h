// Whole pages out of extents, as many at a time as are of one kind and stay in the L2 cache.
#pragma once

#include <cstddef>
#include <cstdint>

#include "extent_cursor.h"

namespace vmsnap {

struct TakenPages {
  size_t pages = 0;
  /// They are part of a hole: nothing was read.
  bool is_hole = false;
  /// Of the pages; in a page in which pieces join, there may be some of both.
  uint64_t hole_bytes = 0;
  uint64_t read_bytes = 0;
};

/// Takes the next pages, at least one and at most `most`: part of a hole, or a batch of pages that is read to `to`.
/// Returns as ExtentCursor::read does.
int take_pages(ExtentCursor& cursor, size_t page_bytes, size_t most, uint8_t* to, TakenPages& taken);

}  // namespace vmsnap
