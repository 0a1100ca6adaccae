#include "segment_compare.h"

#include <cstring>

#include "../base/word.h"

namespace vmsnap {

namespace {

struct Page {
  /// Null: `word` repeated.
  const uint8_t* data;
  uint64_t word;
};

/// Takes the pages of a segment one after the other.
class PageWalk {
 public:
  explicit PageWalk(const SegmentView& segment)
      : next_state_(segment.states.data()),
        next_data_(segment.data),
        next_word_(segment.words),
        page_bytes_(segment.page_bytes) {}

  Page next() {
    const uint8_t state = *next_state_++;
    if (state == kPageUniform) return {.data = nullptr, .word = *next_word_++};
    if (state != kPageData) return {.data = nullptr, .word = 0};
    const uint8_t* data = next_data_;
    next_data_ += page_bytes_;
    return {.data = data, .word = 0};
  }

 private:
  const uint8_t* next_state_;
  const uint8_t* next_data_;
  const uint64_t* next_word_;
  size_t page_bytes_;
};

/// Ends at the first byte that is another.
bool repeats(const Page& page, uint64_t word, size_t page_bytes) {
  if (page.data == nullptr) return page.word == word;
  constexpr size_t kStep = sizeof word;
  return load_word(page.data) == word && std::memcmp(page.data, page.data + kStep, page_bytes - kStep) == 0;
}

bool are_equal(const Page& a, const Page& b, size_t page_bytes) {
  if (a.data == nullptr) return repeats(b, a.word, page_bytes);
  if (b.data == nullptr) return repeats(a, b.word, page_bytes);
  return std::memcmp(a.data, b.data, page_bytes) == 0;
}

uint8_t change_of(const Page& a, const Page& b, size_t page_bytes) {
  const bool was_zero = repeats(a, 0, page_bytes);
  const bool is_zero = repeats(b, 0, page_bytes);
  if (was_zero) return is_zero ? kPageBothZero : kPageWasZero;
  if (is_zero) return kPageBecameZero;
  return are_equal(a, b, page_bytes) ? kPageSame : kPageChanged;
}

}  // namespace

ChangeCounts compare_segments(const SegmentView& a, const SegmentView& b, uint8_t* changes) {
  ChangeCounts counts = {};
  PageWalk walk_a(a);
  PageWalk walk_b(b);
  for (size_t page = 0; page < a.states.size(); ++page) {
    const uint8_t change = change_of(walk_a.next(), walk_b.next(), a.page_bytes);
    changes[page] = change;
    ++counts[change];
  }
  return counts;
}

}  // namespace vmsnap
