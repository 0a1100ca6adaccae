#include "segment_view.h"

#include <cstring>

#include "../base/word.h"
#include "../digest/leaf_digester.h"

namespace vmsnap {

PageCounts count_pages(std::span<const uint8_t> states) {
  PageCounts counts;
  for (const uint8_t state : states) {
    counts.data += state == kPageData ? 1 : 0;
    counts.uniform += state == kPageUniform ? 1 : 0;
    if (state > kPageUniform && state != kPageAbsent) counts.states_are_known = false;
  }
  return counts;
}

void digest_segment(const SegmentView& segment, uint8_t* leaves) {
  LeafDigester digester(leaves);
  for_each_run(segment, [&](const PageRun& run) {
    if (run.state == kPageData) {
      digester.add_data(run.data, run.pages * segment.page_bytes);
    } else if (run.state == kPageUniform) {
      for (size_t i = 0; i < run.pages; ++i) digester.add_uniform(run.words[i], segment.page_bytes);
    } else {
      digester.add_zero(run.pages * segment.page_bytes);
    }
    return true;
  });
  digester.finish();
}

void expand_segment(const SegmentView& segment, uint8_t* out) {
  for_each_run(segment, [&](const PageRun& run) {
    uint8_t* to = out + run.first_page * segment.page_bytes;
    const size_t size_bytes = run.pages * segment.page_bytes;
    if (run.state == kPageData) {
      std::memcpy(to, run.data, size_bytes);
    } else if (run.state == kPageUniform) {
      for (size_t i = 0; i < run.pages; ++i) fill_words(to + i * segment.page_bytes, segment.page_bytes, run.words[i]);
    } else {
      std::memset(to, 0, size_bytes);
    }
    return true;
  });
}

}  // namespace vmsnap
