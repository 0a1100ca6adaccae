// Takes the pages out of a scanned segment that an earlier page is the same as, byte for byte.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../segment/segment_diff.h"
#include "../segment/segment_view.h"

namespace vmsnap {

/// Where a region of the source lies: `page_count` pages, the first of them with the global number `first_page`.
struct RegionFile {
  uint64_t first_page;
  uint64_t page_count;
  int fd;
  uint64_t offset;
};

struct TakeOutReport {
  size_t data = 0;
  size_t references = 0;
  /// After a failure: the number of the page that could not be read again.
  uint64_t failed_page = 0;
};

/// Reads pages of the source again and compares them.
class DuplicateCheck {
 public:
  /// `regions` by rising first page, apart from each other.
  DuplicateCheck(std::span<const RegionFile> regions, size_t page_bytes);

  /// `targets`: for each page of the segment a page that may be the same (propose_duplicates), of this segment or an
  /// earlier one, or kNoPage. Gives each page that is the same the state kPageReference, closes the gaps that they
  /// leave in `out.data`, and puts their targets together at the start of `targets`. `segment.states` is a copy of
  /// `out.states`. Returns 0, kScanTruncated or a negative errno.
  int take_out(const SegmentView& segment, uint64_t first_page, std::span<uint64_t> targets, const SegmentBuffers& out,
               TakeOutReport& report);

 private:
  /// Reads as many pages as can be read at once: those from `page` on whose targets follow each other.
  int read_run(const SegmentView& segment, uint64_t first_page, std::span<const uint64_t> targets, size_t page);
  const RegionFile* region_of(uint64_t page) const;

  std::span<const RegionFile> regions_;
  size_t page_bytes_;
  std::vector<uint8_t> read_;
  // The pages [read_from_, read_to_) of the segment have their targets in read_.
  size_t read_from_ = 0;
  size_t read_to_ = 0;
};

}  // namespace vmsnap
