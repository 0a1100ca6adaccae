// Classifies the pages of a segment (zero, uniform, data), compacts the data pages and takes the leaf digests.
//
// Bytes from files are read in batches that stay in the L2 cache, straight to where the next data page belongs in the
// output, and are classified there: a data page that has only data before it is never copied, and a zero page is
// overwritten by the next read. Each page is hashed right when it is classified, while it is in the cache.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "../file/extent_cursor.h"
#include "kernel.h"

namespace vmsnap {

/// Where a scan puts its answers; each as large as native/binding.ts (ScanOutput) asks for.
struct ScanOutput {
  uint8_t* data;
  uint8_t* states;
  uint64_t* words;
  uint8_t* leaves;
};

struct ScanReport {
  uint64_t data_pages = 0;
  uint64_t uniform_pages = 0;
  uint64_t zero_pages = 0;
  /// hole_bytes + read_bytes is the segment's length after a whole scan.
  uint64_t hole_bytes = 0;
  uint64_t read_bytes = 0;
  uint64_t failed_extent = 0;
  uint64_t failed_offset = 0;
};

/// Holds no state between calls; may be used by several threads at once if their outputs differ.
class SegmentScanner {
 public:
  /// `kernel` must be available; `page_bytes` a power of two, 4 KiB to 2 MiB.
  SegmentScanner(const Kernel& kernel, size_t page_bytes) : kernel_(kernel), page_bytes_(page_bytes) {}

  std::string_view detector() const { return kernel_.name; }

  /// The extents' lengths add up to a multiple of the page size. Returns 0, kScanTruncated or a negative errno; after
  /// a failure the output is incomplete.
  int scan_extents(std::span<const Extent> extents, const ScanOutput& output, ScanReport& report) const;

  /// `input` may be `output.data` itself or lie after its start.
  void scan_memory(std::span<const uint8_t> input, const ScanOutput& output, ScanReport& report) const;

 private:
  const Kernel& kernel_;
  size_t page_bytes_;
};

}  // namespace vmsnap
