// Finds the pages of a segment that have changed since they were hashed, and takes them: the second look of a live
// save.
//
// The first look hashes the very bytes that are stored (hash_segment), the second reads the memory again and keeps what
// differs (find_changes). So it does not matter when, between the two, a page was written, nor how often.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "../file/extent_cursor.h"
#include "../segment/segment_view.h"
#include "block_hash.h"

namespace vmsnap {

/// Writes the hashes of all blocks of the segment, kBlockHashBytes each, to `hashes`.
void hash_segment(const BlockHasher& hasher, const SegmentView& segment, uint8_t* hashes);

struct ChangeReport {
  uint64_t changed_pages = 0;
  uint64_t read_bytes = 0;
  uint64_t failed_offset = 0;
};

/// Reads the extents, whole pages, and compares them with what hash_segment() gave for them. Sets `changed` to 1 for
/// each page that differs and to 0 for the others, and puts the changed pages one after the other into `pages`, which
/// has room for all. Returns 0, kScanTruncated or a negative errno.
int find_changes(const BlockHasher& hasher, std::span<const Extent> extents, size_t page_bytes, const uint8_t* hashes,
                 uint8_t* pages, uint8_t* changed, ChangeReport& report);

}  // namespace vmsnap
