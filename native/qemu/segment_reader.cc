#include "segment_reader.h"

#include <algorithm>
#include <cstring>

#include "wire.h"

namespace vmsnap::qemu {

namespace {

/// 16 TiB in segments of 4 MiB.
constexpr uint64_t kMostSegments = uint64_t{1} << 22;

}  // namespace

bool SegmentReader::plan(std::vector<BlockPart> parts, uint64_t segment_bytes) {
  const std::vector<RamBlock>& blocks = head().blocks;
  std::vector<uint64_t> covered(blocks.size());
  first_parts_.assign(blocks.size(), parts.size());
  first_segments_.clear();
  segment_count_ = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const BlockPart& part = parts[i];
    if (part.block >= blocks.size() || part.size_bytes == 0 || part.offset != covered[part.block]) return false;
    if (part.offset == 0) {
      first_parts_[part.block] = i;
    } else if (part.block != parts[i - 1].block) {
      return false;
    }
    if (part.size_bytes > blocks[part.block].used_bytes - part.offset) return false;
    covered[part.block] += part.size_bytes;
    first_segments_.push_back(segment_count_);
    segment_count_ += (part.size_bytes + segment_bytes - 1) / segment_bytes;
    if (segment_count_ > kMostSegments) return false;
  }
  for (size_t i = 0; i < blocks.size(); ++i) {
    if (covered[i] != blocks[i].used_bytes) return false;
  }
  parts_ = std::move(parts);
  segment_bytes_ = segment_bytes;
  last_fills_.assign(segment_count_, 0);
  return true;
}

void SegmentReader::place(const PageRecord& record, size_t& part, uint64_t& segment) const {
  part = first_parts_[record.block];
  while (record.offset - parts_[part].offset >= parts_[part].size_bytes) ++part;
  segment = (record.offset - parts_[part].offset) / segment_bytes_;
}

Next SegmentReader::fill(uint8_t* buffer, std::span<uint8_t> map, FilledSegment& filled, const int32_t* abort) {
  filled = {};
  if (!has_held_) {
    const Next next = parser_.next(held_, abort);
    if (next != Next::kPage) return next;
  }
  has_held_ = false;
  size_t part = 0;
  uint64_t segment = 0;
  place(held_, part, segment);
  const uint64_t number = first_segments_[part] + segment;
  filled.part = part;
  filled.offset = segment * segment_bytes_;
  filled.size_bytes = std::min(segment_bytes_, parts_[part].size_bytes - filled.offset);
  filled.earlier = int64_t{last_fills_[number]} - 1;
  last_fills_[number] = ++fills_;
  // In its block.
  const uint64_t from = parts_[part].offset + filled.offset;
  std::fill(map.begin(), map.end(), kPageNotSent);
  if (!take_page(held_, from, buffer, map, abort)) return Next::kFault;
  const uint32_t block = held_.block;
  for (;;) {
    const Next next = parser_.next(held_, abort);
    if (next == Next::kFault) return next;
    if (next == Next::kRamEnd) break;
    if (held_.block != block || held_.offset < from || held_.offset - from >= filled.size_bytes) {
      has_held_ = true;
      break;
    }
    if (!take_page(held_, from, buffer, map, abort)) return Next::kFault;
  }
  const size_t pages = filled.size_bytes / kPageBytes;
  for (size_t page = 0; page < pages; ++page) {
    if (map[page] == kPageGot) {
      ++filled.got_pages;
    } else {
      std::memset(buffer + page * kPageBytes, 0, kPageBytes);
      if (map[page] == kPageSentZero) ++filled.zero_pages;
    }
  }
  return Next::kPage;
}

bool SegmentReader::take_page(const PageRecord& record, uint64_t from, uint8_t* buffer, std::span<uint8_t> map,
                              const int32_t* abort) {
  const uint64_t at = record.offset - from;
  map[at / kPageBytes] = record.is_zero ? kPageSentZero : kPageGot;
  if (record.is_zero) return true;
  const int status = parser_.input().read(buffer + at, kPageBytes, abort);
  return status == 0 || parser_.input_fault(status, "the bytes of a page");
}

uint64_t SegmentReader::next_unseen(uint64_t number) const {
  while (number < segment_count_ && last_fills_[number] != 0) ++number;
  return std::min(number, segment_count_);
}

}  // namespace vmsnap::qemu
