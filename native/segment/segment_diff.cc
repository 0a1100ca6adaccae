#include "segment_diff.h"

#include <cstring>

namespace vmsnap {

namespace {

/// Goes through the pages of a segment; each figure belongs to the page at hand only if its state says so.
struct PageCursor {
  size_t data = 0;
  size_t words = 0;

  void pass(uint8_t state) {
    if (state == kPageData) ++data;
    if (state == kPageUniform) ++words;
  }
};

}  // namespace

DiffCounts mark_same_as_base(const SegmentView& segment, const BaseView& base, const SegmentBuffers& out) {
  const size_t page_bytes = segment.page_bytes;
  PageCursor own;
  PageCursor theirs;
  DiffCounts counts;
  for (size_t page = 0; page < segment.states.size(); ++page) {
    const uint8_t state = segment.states[page];
    const uint8_t base_state = base.states[page];
    bool is_same = state == base_state;
    if (is_same && state == kPageData) is_same = base.same_data[own.data] != 0;
    if (is_same && state == kPageUniform) is_same = segment.words[own.words] == base.words[theirs.words];
    if (is_same) {
      out.states[page] = kPageSameAsBase;
      ++counts.same_as_base;
    } else if (state == kPageData) {
      uint8_t* to = out.data + counts.data * page_bytes;
      const uint8_t* from = segment.data + own.data * page_bytes;
      if (to != from) std::memmove(to, from, page_bytes);
      ++counts.data;
    } else if (state == kPageUniform) {
      out.words[counts.uniform++] = segment.words[own.words];
    } else if (state == kPageAbsent) {
      ++counts.absent;
    } else {
      ++counts.zero;
    }
    own.pass(state);
    theirs.pass(base_state);
  }
  return counts;
}

}  // namespace vmsnap
