// A segment in its scanned form: a state for each page, the data pages compacted, a word for each uniform page.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "../base/limits.h"
#include "../base/page_state.h"

namespace vmsnap {

struct SegmentView {
  /// 0, 1, 2 or 6 (read as zero) each; count_pages() proves that `data` and `words` hold as many as they name.
  std::span<const uint8_t> states;
  size_t page_bytes;
  const uint8_t* data;
  const uint64_t* words;
};

struct PageCounts {
  /// False if a state is unknown.
  bool states_are_known = true;
  size_t data = 0;
  size_t uniform = 0;
};

PageCounts count_pages(std::span<const uint8_t> states);

/// Neighbouring pages of one state.
struct PageRun {
  uint8_t state;
  size_t first_page;
  size_t pages;
  /// The run's own data pages or words; meaningful for its state only.
  const uint8_t* data;
  const uint64_t* words;
};

/// Calls `visit` with each run in page order, until one answers false.
template <class Visit>
void for_each_run(const SegmentView& segment, Visit&& visit) {
  const uint8_t* data = segment.data;
  const uint64_t* words = segment.words;
  const size_t count = segment.states.size();
  for (size_t first = 0; first < count;) {
    const uint8_t state = segment.states[first];
    size_t end = first + 1;
    while (end < count && segment.states[end] == state) ++end;
    const size_t pages = end - first;
    if (!visit(PageRun{.state = state, .first_page = first, .pages = pages, .data = data, .words = words})) return;
    if (state == kPageData) data += pages * segment.page_bytes;
    if (state == kPageUniform) words += pages;
    first = end;
  }
}

/// Leaf digests (16 bytes for each MiB begun) of the segment.
void digest_segment(const SegmentView& segment, uint8_t* leaves);

/// Writes the segment's bytes to `out`: a page size for each state.
void expand_segment(const SegmentView& segment, uint8_t* out);

}  // namespace vmsnap
