// Classifies the pages of a segment (zero, uniform, data), compacts the data pages and takes the leaf digests.
//
// Bytes from files are read in batches that stay in the L2 cache, straight to where the next data page belongs in the
// output, and are classified there: a data page that has only data before it is never copied, and a zero page is
// overwritten by the next read. Each page is hashed right when it is classified, while it is in the cache.
//
// A page that a device has already called zero is not read at all. What is read is classified here, whatever the device
// said, so the output does not depend on the answers as long as no page with data is called zero.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "../base/page_answer.h"
#include "../file/extent_cursor.h"
#include "kernel.h"

namespace vmsnap {

/// Where a scan puts its answers; each as large as native/binding.ts (ScanOutput) asks for.
struct ScanOutput {
  uint8_t* data;
  uint8_t* states;
  uint64_t* words;
  uint8_t* leaves;
  /// Null: not wanted. Of each data page a hash, at the page's number in the segment; the others are left as they are.
  uint64_t* hashes = nullptr;
};

struct ScanReport {
  uint64_t data_pages = 0;
  uint64_t uniform_pages = 0;
  uint64_t zero_pages = 0;
  /// hole_bytes + read_bytes + answered_bytes is the segment's length after a whole scan.
  uint64_t hole_bytes = 0;
  uint64_t read_bytes = 0;
  /// Of pages that were not read because a device had called them zero.
  uint64_t answered_bytes = 0;
  /// Of the pages that were read, those without an answer; counted only where answers were given.
  uint64_t unanswered_pages = 0;
  /// Answers that were compared with what the CPU found (ScanSettings::self_check), and those that were wrong.
  uint64_t checked_answers = 0;
  uint64_t wrong_answers = 0;
  uint64_t failed_extent = 0;
  uint64_t failed_offset = 0;
};

struct ScanSettings {
  /// Reads pages that were answered zero all the same and compares every answer with what the CPU finds.
  bool self_check = false;
  /// This share (0 to 100) of the pages is stored as data even where they are zero, to analyse throughput. Which ones
  /// follows from the page's number alone, so not from threads, detector or geometry.
  uint32_t normal_page_percent = 0;
};

/// What is known of a segment before it is scanned.
struct SegmentHints {
  /// Number of its first page in its region.
  uint64_t first_page = 0;
  /// One for each page from the first on; those beyond its end are unknown.
  std::span<const PageAnswer> answers;
};

/// Holds no state between calls; may be used by several threads at once if their outputs differ.
class SegmentScanner {
 public:
  /// `kernel` must be available; `page_bytes` a power of two, 4 KiB to 2 MiB.
  SegmentScanner(const Kernel& kernel, size_t page_bytes, const ScanSettings& settings = {})
      : kernel_(kernel), page_bytes_(page_bytes), settings_(settings) {}

  std::string_view detector() const { return kernel_.name; }

  /// The extents' lengths add up to a multiple of the page size. Returns 0, kScanTruncated or a negative errno; after
  /// a failure the output is incomplete.
  int scan_extents(std::span<const Extent> extents, const ScanOutput& output, ScanReport& report,
                   const SegmentHints& hints = {}) const;

  /// `input` may be `output.data` itself or lie after its start. Answers among the hints are not looked at.
  void scan_memory(std::span<const uint8_t> input, const ScanOutput& output, ScanReport& report,
                   const SegmentHints& hints = {}) const;

 private:
  const Kernel& kernel_;
  size_t page_bytes_;
  ScanSettings settings_;
};

}  // namespace vmsnap
