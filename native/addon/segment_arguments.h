// A segment in its scanned form as the arguments of a call.
#pragma once

#include <algorithm>
#include <array>
#include <bit>

#include "../base/limits.h"
#include "../segment/segment_view.h"
#include "arguments.h"

namespace vmsnap::addon {

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
    if (!counts.states_are_known) arguments.range_error("states must be 0, 1, 2 or 6");
    if (counts.data * page_bytes > data.size()) arguments.range_error("data is shorter than the data pages");
    if (counts.uniform > words.size()) arguments.range_error("words is shorter than the uniform pages");
  }

  const SegmentView& view() const { return view_; }
  size_t size_bytes() const { return view_.states.size() * view_.page_bytes; }
  bool has_shape_of(const SegmentArguments& other) const {
    return view_.states.size() == other.view_.states.size() && view_.page_bytes == other.view_.page_bytes;
  }

 private:
  SegmentView view_ = {.states = {}, .page_bytes = kMinPageBytes, .data = nullptr, .words = nullptr};
  std::array<uint8_t, kMaxSegmentPages> states_;
};

}  // namespace vmsnap::addon
