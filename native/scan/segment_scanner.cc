#include "segment_scanner.h"

#include <algorithm>
#include <cstring>

#include "../base/page_state.h"
#include "../digest/leaf_digester.h"

namespace vmsnap {

namespace {

/// Fits into the L2 cache beside what else is in use.
constexpr size_t kBatchBytes = size_t{256} << 10;

/// Takes the pages of a segment in order and fills the output.
class PageSorter {
 public:
  PageSorter(RepeatsFirstWord repeats_first_word, size_t page_bytes, const ScanOutput& output, ScanReport& report)
      : repeats_first_word_(repeats_first_word),
        page_bytes_(page_bytes),
        next_data_(output.data),
        next_state_(output.states),
        next_word_(output.words),
        digester_(output.leaves),
        report_(report) {}

  /// Where the next data page belongs. Pages may be read to here and then given to add_pages.
  uint8_t* next_data() const { return next_data_; }

  void add_zero_pages(size_t count) {
    next_state_ = std::fill_n(next_state_, count, kPageZero);
    digester_.add_zero(count * page_bytes_);
    report_.zero_pages += count;
  }

  void add_pages(const uint8_t* pages, size_t count) {
    for (size_t i = 0; i < count; ++i) add_page(pages + i * page_bytes_);
  }

  void finish() { digester_.finish(); }

 private:
  void add_page(const uint8_t* page) {
    if (!repeats_first_word_(page, page_bytes_)) {
      *next_state_++ = kPageData;
      digester_.add_data(page, page_bytes_);
      if (page != next_data_) std::memmove(next_data_, page, page_bytes_);
      next_data_ += page_bytes_;
      ++report_.data_pages;
    } else if (const uint64_t word = load_word(page); word != 0) {
      *next_state_++ = kPageUniform;
      *next_word_++ = word;
      digester_.add_uniform(word, page_bytes_);
      ++report_.uniform_pages;
    } else {
      add_zero_pages(1);
    }
  }

  RepeatsFirstWord repeats_first_word_;
  size_t page_bytes_;
  uint8_t* next_data_;
  uint8_t* next_state_;
  uint64_t* next_word_;
  LeafDigester digester_;
  ScanReport& report_;
};

/// Fills one page in which pieces join. Returns as ExtentCursor::read does.
int gather_page(ExtentCursor& cursor, uint8_t* page, size_t page_bytes, ScanReport& report) {
  for (size_t filled = 0; filled < page_bytes;) {
    ExtentCursor::Piece piece;
    if (const int status = cursor.peek(piece); status != 0) return status;
    const size_t size_bytes = static_cast<size_t>(std::min<uint64_t>(piece.size_bytes, page_bytes - filled));
    if (piece.is_hole) {
      std::memset(page + filled, 0, size_bytes);
      cursor.skip(size_bytes);
      report.hole_bytes += size_bytes;
    } else {
      if (const int status = cursor.read(page + filled, size_bytes); status != 0) return status;
      report.read_bytes += size_bytes;
    }
    filled += size_bytes;
  }
  return 0;
}

}  // namespace

int SegmentScanner::scan_extents(std::span<const Extent> extents, const ScanOutput& output, ScanReport& report) const {
  report = {};
  uint64_t left_bytes = 0;
  for (const Extent& extent : extents) left_bytes += extent.size_bytes;
  PageSorter sorter(kernel_.repeats_first_word, page_bytes_, output, report);
  ExtentCursor cursor(extents);
  int status = 0;
  while (left_bytes > 0) {
    ExtentCursor::Piece piece;
    status = cursor.peek(piece);
    if (status != 0) break;
    const uint64_t whole_pages = piece.size_bytes / page_bytes_;
    size_t pages = 1;
    if (whole_pages == 0) {
      status = gather_page(cursor, sorter.next_data(), page_bytes_, report);
      if (status != 0) break;
      sorter.add_pages(sorter.next_data(), 1);
    } else if (piece.is_hole) {
      pages = static_cast<size_t>(whole_pages);
      cursor.skip(pages * page_bytes_);
      report.hole_bytes += pages * page_bytes_;
      sorter.add_zero_pages(pages);
    } else {
      const size_t batch_pages = std::max<size_t>(kBatchBytes / page_bytes_, 1);
      pages = static_cast<size_t>(std::min<uint64_t>(whole_pages, batch_pages));
      status = cursor.read(sorter.next_data(), pages * page_bytes_);
      if (status != 0) break;
      report.read_bytes += pages * page_bytes_;
      sorter.add_pages(sorter.next_data(), pages);
    }
    left_bytes -= pages * page_bytes_;
  }
  if (status == 0) {
    sorter.finish();
  } else {
    report.failed_extent = cursor.failed_extent();
    report.failed_offset = cursor.failed_offset();
  }
  return status;
}

void SegmentScanner::scan_memory(std::span<const uint8_t> input, const ScanOutput& output, ScanReport& report) const {
  report = {};
  PageSorter sorter(kernel_.repeats_first_word, page_bytes_, output, report);
  sorter.add_pages(input.data(), input.size() / page_bytes_);
  sorter.finish();
  report.read_bytes = input.size();
}

}  // namespace vmsnap
