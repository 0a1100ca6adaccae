// What is done with a scanned segment: digestSegment, expandSegment, writeSegment.
#include <algorithm>
#include <array>
#include <bit>

#include "../base/limits.h"
#include "../digest/leaf_digester.h"
#include "../segment/segment_view.h"
#include "../segment/segment_writer.h"
#include "arguments.h"
#include "register.h"

namespace vmsnap::addon {

namespace {

/// The arguments states, pageCount, pageSize, data, words, checked against each other.
class SegmentArguments {
 public:
  SegmentArguments(Arguments& arguments, size_t index) {
    const auto pages =
        static_cast<size_t>(arguments.integer(index + 1, "pageCount", 0, static_cast<int64_t>(kMaxSegmentPages)));
    const std::span<const uint8_t> states = arguments.bytes(index, "states", pages);
    const auto page_bytes = static_cast<size_t>(arguments.integer(
        index + 2, "pageSize", static_cast<int64_t>(kMinPageBytes), static_cast<int64_t>(kMaxPageBytes)));
    const std::span<const uint8_t> data = arguments.bytes(index + 3, "data");
    const std::span<const uint64_t> words = arguments.words(index + 4, "words");
    if (!std::has_single_bit(page_bytes)) arguments.range_error("pageSize must be a power of two");
    if (pages * page_bytes > kMaxSegmentBytes) arguments.range_error("a segment has at most 64 MiB");
    if (!arguments.ok()) return;
    // The array may be shared with another thread: what is checked must be what is used.
    std::copy_n(states.data(), pages, states_.data());
    view_ = {.states = {states_.data(), pages}, .page_bytes = page_bytes, .data = data.data(), .words = words.data()};
    const PageCounts counts = count_pages(view_.states);
    if (!counts.states_are_known) arguments.range_error("states must be 0, 1 or 2");
    if (counts.data * page_bytes > data.size()) arguments.range_error("data is shorter than the data pages");
    if (counts.uniform > words.size()) arguments.range_error("words is shorter than the uniform pages");
  }

  const SegmentView& view() const { return view_; }
  size_t size_bytes() const { return view_.states.size() * view_.page_bytes; }

 private:
  SegmentView view_ = {.states = {}, .page_bytes = kMinPageBytes, .data = nullptr, .words = nullptr};
  std::array<uint8_t, kMaxSegmentPages> states_;
};

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
  export_function(env, exports, "digestSegment", digest_segment_leaves);
  export_function(env, exports, "expandSegment", expand_segment_to);
  export_function(env, exports, "writeSegment", write_segment_to);
}

}  // namespace vmsnap::addon
