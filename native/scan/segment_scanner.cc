#include "segment_scanner.h"

#include <algorithm>
#include <cstring>

#include "../base/page_state.h"
#include "../digest/leaf_digester.h"
#include "../file/take_pages.h"

namespace vmsnap {

namespace {

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

/// Takes the next pages, at most `most`, all of one kind.
int scan_some(ExtentCursor& cursor, size_t page_bytes, size_t most, PageSorter& sorter, ScanReport& report) {
  TakenPages taken;
  if (const int status = take_pages(cursor, page_bytes, most, sorter.next_data(), taken); status != 0) return status;
  report.hole_bytes += taken.hole_bytes;
  report.read_bytes += taken.read_bytes;
  if (taken.is_hole) {
    sorter.add_zero_pages(taken.pages);
  } else {
    sorter.add_pages(sorter.next_data(), taken.pages);
  }
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
      status = scan_some(cursor, page_bytes_, others, sorter, report);
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
