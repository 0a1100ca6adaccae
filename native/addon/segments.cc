// What is done with a scanned segment: compareSegments, diffSegment, digestSegment, expandSegment, matchPages,
// scatterPages, writeSegment.
#include <algorithm>
#include <array>
#include <bit>

#include "../base/limits.h"
#include "../compare/segment_compare.h"
#include "../digest/leaf_digester.h"
#include "../segment/chunk_pages.h"
#include "../segment/segment_diff.h"
#include "../segment/segment_view.h"
#include "../segment/segment_writer.h"
#include "arguments.h"
#include "register.h"
#include "segment_arguments.h"

namespace vmsnap::addon {

namespace {

// Indexes of the counts of diffSegment: DIFF_* of binding.ts.
constexpr size_t kDiffDataPages = 0;
constexpr size_t kDiffUniformPages = 1;
constexpr size_t kDiffZeroPages = 2;
constexpr size_t kDiffSameAsBasePages = 3;
constexpr size_t kDiffAbsentPages = 4;
constexpr size_t kDiffCounts = 5;

void digest_segment_leaves(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const SegmentArguments segment(arguments, 0);
  const std::span<uint8_t> leaves = arguments.bytes(5, "leaves", leaf_count(segment.size_bytes()) * kDigestBytes);
  if (arguments.ok()) digest_segment(segment.view(), leaves.data());
}

void expand_segment_to(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const SegmentArguments segment(arguments, 0);
  const std::span<uint8_t> out = arguments.bytes(5, "out", segment.size_bytes());
  if (arguments.ok()) expand_segment(segment.view(), out.data());
}

void compare_two_segments(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const SegmentArguments a(arguments, 0);
  const SegmentArguments b(arguments, 5);
  const std::span<uint8_t> changes = arguments.bytes(10, "changes", a.view().states.size());
  const std::span<double> counts = arguments.doubles(11, "counts", kPageChangeCount);
  if (a.view().states.size() != b.view().states.size() || a.view().page_bytes != b.view().page_bytes) {
    arguments.range_error("the two segments must have the same pageCount and pageSize");
  }
  if (!arguments.ok()) return;
  const ChangeCounts found = compare_segments(a.view(), b.view(), changes.data());
  std::copy(found.begin(), found.end(), counts.begin());
}

void diff_segment(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const SegmentArguments segment(arguments, 0);
  const size_t pages = segment.view().states.size();
  const std::span<uint8_t> states = arguments.bytes(0, "states");
  const std::span<uint8_t> data = arguments.bytes(3, "data");
  const std::span<uint64_t> words = arguments.words(4, "words");
  const std::span<const uint8_t> same = arguments.bytes(5, "same", count_pages(segment.view().states).data);
  const std::span<const uint8_t> given_base_states = arguments.bytes(6, "baseStates", pages);
  const std::span<const uint64_t> base_words = arguments.words(7, "baseWords");
  const std::span<double> counts = arguments.doubles(8, "counts", kDiffCounts);
  if (!arguments.ok()) return;
  std::array<uint8_t, kMaxSegmentPages> base_states;
  std::copy_n(given_base_states.data(), pages, base_states.data());
  const BaseView base = {.states = {base_states.data(), pages}, .words = base_words.data(), .same_data = same.data()};
  const PageCounts base_counts = count_pages(base.states);
  if (!base_counts.states_are_known) arguments.range_error("baseStates must be 0, 1, 2 or 6");
  if (base_counts.uniform > base_words.size()) arguments.range_error("baseWords is shorter than the uniform pages");
  if (!arguments.ok()) return;
  const SegmentBuffers buffers = {.states = states.data(), .data = data.data(), .words = words.data()};
  const DiffCounts found = mark_same_as_base(segment.view(), base, buffers);
  counts[kDiffDataPages] = static_cast<double>(found.data);
  counts[kDiffUniformPages] = static_cast<double>(found.uniform);
  counts[kDiffZeroPages] = static_cast<double>(found.zero);
  counts[kDiffSameAsBasePages] = static_cast<double>(found.same_as_base);
  counts[kDiffAbsentPages] = static_cast<double>(found.absent);
}

/// The arguments pages, pageSize, targets, firstTarget, pageCount, checked against each other.
struct ChunkArguments {
  explicit ChunkArguments(Arguments& arguments)
      : pages(arguments.bytes(0, "pages")),
        page_bytes(static_cast<size_t>(arguments.integer(1, "pageSize", static_cast<int64_t>(kMinPageBytes),
                                                         static_cast<int64_t>(kMaxPageBytes)))) {
    const std::span<const int32_t> all = arguments.ints(2, "targets");
    const auto most = static_cast<int64_t>(kMaxSegmentPages);
    const auto first = static_cast<size_t>(arguments.integer(3, "firstTarget", 0, most));
    const auto count = static_cast<size_t>(arguments.integer(4, "pageCount", 0, most));
    if (!arguments.ok()) return;
    if (first > all.size() || count > all.size() - first) {
      arguments.range_error("targets is shorter than firstTarget and pageCount say");
    } else if (count > pages.size() / page_bytes) {
      arguments.range_error("pages is shorter than pageCount says");
    } else {
      targets = all.subspan(first, count);
    }
  }

  std::span<const uint8_t> pages;
  size_t page_bytes;
  std::span<const int32_t> targets;
};

void scatter_chunk_pages(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const ChunkArguments chunk(arguments);
  const std::span<uint8_t> data = arguments.bytes(5, "data");
  if (!arguments.ok()) return;
  if (!scatter_pages(chunk.targets, chunk.page_bytes, chunk.pages.data(), data)) {
    arguments.range_error("a target lies beyond data");
  }
}

void match_chunk_pages(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const ChunkArguments chunk(arguments);
  const std::span<const uint8_t> data = arguments.bytes(5, "data");
  const std::span<uint8_t> same = arguments.bytes(6, "same");
  if (!arguments.ok()) return;
  if (!match_pages(chunk.targets, chunk.page_bytes, chunk.pages.data(), data, same)) {
    arguments.range_error("a target lies beyond data or same");
  }
}

Napi::Value write_segment_to(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = arguments.file_descriptor(0);
  const uint64_t position = arguments.position(1, "position");
  const SegmentArguments segment(arguments, 2);
  const int64_t zero_mode = arguments.integer(7, "zeroMode", 0, 2);
  const std::span<double> failed_at = arguments.doubles(8, "failedAt", 1);
  if (!arguments.ok()) return info.Env().Undefined();
  uint64_t failed_position = position;
  const int status = write_segment(fd, position, segment.view(), static_cast<ZeroMode>(zero_mode), failed_position);
  if (status != 0) failed_at[0] = static_cast<double>(failed_position);
  return Napi::Number::New(info.Env(), status);
}

}  // namespace

void register_segments(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "compareSegments", compare_two_segments);
  export_function(env, exports, "diffSegment", diff_segment);
  export_function(env, exports, "digestSegment", digest_segment_leaves);
  export_function(env, exports, "expandSegment", expand_segment_to);
  export_function(env, exports, "matchPages", match_chunk_pages);
  export_function(env, exports, "scatterPages", scatter_chunk_pages);
  export_function(env, exports, "writeSegment", write_segment_to);
}

}  // namespace vmsnap::addon
