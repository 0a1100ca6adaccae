#include "segment_scanner.h"

#include <algorithm>
#include <cstring>

#include "../base/page_state.h"
#include "../digest/leaf_digester.h"

namespace vmsnap {

namespace {

/// Fits into the L2 cache beside what else is in use.
constexpr size_t kBatchBytes = size_t{256} << 10;

/// Whether a page counts as data even if it is zero: `percent` of every 100 pages, spread evenly.
bool counts_as_data(uint64_t page_number, uint32_t percent) {
  return page_number % 100 * percent % 100 + percent >= 100;
}

/// Takes the pages of a segment in order and fills the output.
class PageSorter {
 public:
  PageSorter(RepeatsFirstWord repeats_first_word, size_t page_bytes, const ScanSettings& settings,
             const SegmentHints& hints, const ScanOutput& output, ScanReport& report)
      : repeats_first_word_(repeats_first_word),
        page_bytes_(page_bytes),
        settings_(settings),
        hints_(hints),
        states_(output.states),
        next_data_(output.data),
        next_state_(output.states),
        next_word_(output.words),
        hashes_(output.hashes),
        digester_(output.leaves),
        report_(report) {}

  /// Where the next data page belongs. Pages may be read to here and then given to add_pages.
  uint8_t* next_data() const { return next_data_; }

  /// How many pages were added.
  size_t next_page() const { return static_cast<size_t>(next_state_ - states_); }

  void add_zero_pages(size_t count) {
    if (settings_.normal_page_percent == 0) return put_zero_pages(count);
    for (size_t i = 0; i < count; ++i) {
      if (counts_as_data(hints_.first_page + next_page(), settings_.normal_page_percent)) {
        std::memset(next_data_, 0, page_bytes_);
        put_data_page(next_data_);
      } else {
        put_zero_pages(1);
      }
    }
  }

  void add_pages(const uint8_t* pages, size_t count) {
    for (size_t i = 0; i < count; ++i) add_page(pages + i * page_bytes_);
  }

  void finish() { digester_.finish(); }

 private:
  void add_page(const uint8_t* page) {
    const bool repeats = repeats_first_word_(page, page_bytes_);
    const uint64_t word = load_word(page);
    if (!hints_.answers.empty()) compare_answer(repeats && word == 0);
    if (!repeats) {
      put_data_page(page);
    } else if (word != 0) {
      *next_state_++ = kPageUniform;
      *next_word_++ = word;
      digester_.add_uniform(word, page_bytes_);
      ++report_.uniform_pages;
    } else {
      add_zero_pages(1);
    }
  }

  void put_data_page(const uint8_t* page) {
    const uint64_t hash = digester_.add_data(page, page_bytes_);
    if (hashes_ != nullptr) hashes_[next_page()] = hash;
    *next_state_++ = kPageData;
    if (page != next_data_) std::memmove(next_data_, page, page_bytes_);
    next_data_ += page_bytes_;
    ++report_.data_pages;
  }

  void put_zero_pages(size_t count) {
    next_state_ = std::fill_n(next_state_, count, kPageZero);
    digester_.add_zero(count * page_bytes_);
    report_.zero_pages += count;
  }

  void compare_answer(bool is_zero) {
    const size_t page = next_page();
    const PageAnswer answer = page < hints_.answers.size() ? hints_.answers[page] : PageAnswer::unknown;
    if (answer == PageAnswer::unknown) {
      ++report_.unanswered_pages;
    } else if (settings_.self_check) {
      ++report_.checked_answers;
      if ((answer == PageAnswer::zero) != is_zero) ++report_.wrong_answers;
    }
  }

  RepeatsFirstWord repeats_first_word_;
  size_t page_bytes_;
  const ScanSettings& settings_;
  const SegmentHints& hints_;
  const uint8_t* states_;
  uint8_t* next_data_;
  uint8_t* next_state_;
  uint64_t* next_word_;
  uint64_t* hashes_;
  LeafDigester digester_;
  ScanReport& report_;
};

/// How many pages from `page` on may be passed over (`zero`) or have to be looked at (not `zero`).
size_t run_length(std::span<const PageAnswer> answers, size_t page, size_t end, bool zero) {
  const size_t answered_end = std::min(answers.size(), end);
  size_t at = page;
  while (at < answered_end && (answers[at] == PageAnswer::zero) == zero) ++at;
  return (zero || at < answered_end ? at : end) - page;
}

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

/// Takes the next pages, at most `most`, all of one kind: part of a hole, a batch of data, or one in which pieces join.
int scan_piece(ExtentCursor& cursor, size_t page_bytes, size_t most, PageSorter& sorter, ScanReport& report) {
  ExtentCursor::Piece piece;
  if (const int status = cursor.peek(piece); status != 0) return status;
  const uint64_t whole_pages = piece.size_bytes / page_bytes;
  if (whole_pages == 0) {
    if (const int status = gather_page(cursor, sorter.next_data(), page_bytes, report); status != 0) return status;
    sorter.add_pages(sorter.next_data(), 1);
    return 0;
  }
  if (piece.is_hole) {
    const auto pages = static_cast<size_t>(std::min<uint64_t>(whole_pages, most));
    cursor.skip(pages * page_bytes);
    report.hole_bytes += pages * page_bytes;
    sorter.add_zero_pages(pages);
    return 0;
  }
  const size_t batch_pages = std::max<size_t>(kBatchBytes / page_bytes, 1);
  const auto pages = static_cast<size_t>(std::min<uint64_t>(whole_pages, std::min(batch_pages, most)));
  if (const int status = cursor.read(sorter.next_data(), pages * page_bytes); status != 0) return status;
  report.read_bytes += pages * page_bytes;
  sorter.add_pages(sorter.next_data(), pages);
  return 0;
}

}  // namespace

int SegmentScanner::scan_extents(std::span<const Extent> extents, const ScanOutput& output, ScanReport& report,
                                 const SegmentHints& hints) const {
  report = {};
  uint64_t size_bytes = 0;
  for (const Extent& extent : extents) size_bytes += extent.size_bytes;
  const auto end_page = static_cast<size_t>(size_bytes / page_bytes_);
  PageSorter sorter(kernel_.repeats_first_word, page_bytes_, settings_, hints, output, report);
  ExtentCursor cursor(extents);
  // With a self check nothing is passed over unread.
  const std::span<const PageAnswer> believed = settings_.self_check ? std::span<const PageAnswer>{} : hints.answers;
  int status = 0;
  while (status == 0 && sorter.next_page() < end_page) {
    if (const size_t zeros = run_length(believed, sorter.next_page(), end_page, true); zeros > 0) {
      cursor.skip(zeros * page_bytes_);
      report.answered_bytes += zeros * page_bytes_;
      sorter.add_zero_pages(zeros);
    } else {
      const size_t others = run_length(believed, sorter.next_page(), end_page, false);
      status = scan_piece(cursor, page_bytes_, others, sorter, report);
    }
  }
  if (status == 0) {
    sorter.finish();
  } else {
    report.failed_extent = cursor.failed_extent();
    report.failed_offset = cursor.failed_offset();
  }
  return status;
}

void SegmentScanner::scan_memory(std::span<const uint8_t> input, const ScanOutput& output, ScanReport& report,
                                 const SegmentHints& hints) const {
  report = {};
  const SegmentHints own_hints = {.first_page = hints.first_page, .answers = {}};
  PageSorter sorter(kernel_.repeats_first_word, page_bytes_, settings_, own_hints, output, report);
  sorter.add_pages(input.data(), input.size() / page_bytes_);
  sorter.finish();
  report.read_bytes = input.size();
}

}  // namespace vmsnap
