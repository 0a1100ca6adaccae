// Reads a migration stream that comes through a pipe, segment by segment, in one pass.
//
// Whoever has the claim lock calls fill() with a segment's buffer: pages go in as they come, until one of another
// segment comes, whose record is kept for the next call. So segments come in the order of the stream, and may come
// again: what was not sent this time is told by the map of pages.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "stream_parser.h"

namespace vmsnap::qemu {

/// A stretch of a RAM block that is a region of its own.
struct BlockPart {
  uint32_t block;
  uint64_t offset;
  uint64_t size_bytes;
};

// What a call says of a page.
inline constexpr uint8_t kPageNotSent = 0;
inline constexpr uint8_t kPageGot = 1;
inline constexpr uint8_t kPageSentZero = 2;

struct FilledSegment {
  /// Index of the part, and where the segment begins in it.
  size_t part = 0;
  uint64_t offset = 0;
  uint64_t size_bytes = 0;
  uint64_t got_pages = 0;
  uint64_t zero_pages = 0;
  /// The last earlier call about the same segment, counted from 0; -1: there was none.
  int64_t earlier = -1;
};

class SegmentReader {
 public:
  /// `start`: bytes of the stream that have been read already.
  SegmentReader(int fd, std::span<const uint8_t> start) : parser_(ByteInput::of_stream(fd, start)) {}

  bool read_head(const int32_t* abort) { return parser_.read_head(abort); }
  const StreamHead& head() const { return parser_.head(); }
  const Fault& fault() const { return parser_.fault(); }

  /// After the head: which parts are read, which cover all blocks, those of a block side by side in rising order;
  /// and the size of segments, counted from the start of each part. Returns whether that is so and not too much.
  bool plan(std::vector<BlockPart> parts, uint64_t segment_bytes);

  /// Takes the pages of the next segment. `buffer` has a segment's size and `map` one byte a page; where no data was
  /// got, the buffer is zeroed. kPage: a segment was filled. kRamEnd: there are no more.
  Next fill(uint8_t* buffer, std::span<uint8_t> map, FilledSegment& filled, const int32_t* abort);

  /// After kRamEnd: the next segment, from `number` on, that no page was sent of; counted over all parts in order.
  /// Returns segment_count() if there is none.
  uint64_t next_unseen(uint64_t number) const;
  uint64_t segment_count() const { return segment_count_; }
  /// 0 before plan().
  uint64_t segment_bytes() const { return segment_bytes_; }

  /// After kRamEnd: the rest of the stream, as ByteInput::read_some.
  int64_t read_rest(uint8_t* to, size_t count, const int32_t* abort) {
    return parser_.input().read_some(to, count, abort);
  }

 private:
  void place(const PageRecord& record, size_t& part, uint64_t& segment) const;
  bool take_page(const PageRecord& record, uint64_t from, uint8_t* buffer, std::span<uint8_t> map,
                 const int32_t* abort);

  StreamParser parser_;
  std::vector<BlockPart> parts_;
  /// Number of each part's first segment.
  std::vector<uint64_t> first_segments_;
  /// Of each block: its first part.
  std::vector<size_t> first_parts_;
  uint64_t segment_bytes_ = 0;
  uint64_t segment_count_ = 0;
  /// Of each segment: the last call about it, plus one.
  std::vector<uint32_t> last_fills_;
  uint32_t fills_ = 0;
  PageRecord held_;
  bool has_held_ = false;
};

}  // namespace vmsnap::qemu
