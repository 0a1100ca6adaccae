#include "extent_cursor.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <sys/uio.h>
#include <unistd.h>

namespace vmsnap {

namespace {

/// A header of a migration stream, with the name of a RAM block, has at most 264 bytes.
constexpr uint64_t kGapMostBytes = 512;
/// What find_stretch() tells of data at a time: a longer run is looked at in parts that end with an extent.
constexpr uint64_t kRunMostBytes = uint64_t{256} << 10;
/// For kRunMostBytes of pages of 4 KiB, each with a gap behind it.
constexpr size_t kMostParts = 128;

}  // namespace

void ExtentCursor::leave_full_extents() {
  while (done_in_extent_ == extents_[index_].size_bytes) {
    ++index_;
    done_in_extent_ = 0;
  }
}

/// Whether the extent at `index` comes so closely behind the one before it that both can be read together.
bool ExtentCursor::follows_closely(size_t index) const {
  const Extent& before = extents_[index - 1];
  const Extent& extent = extents_[index];
  const uint64_t end = before.offset + before.size_bytes;
  return extent.fd == before.fd && extent.offset >= end && extent.offset - end <= kGapMostBytes;
}

/// Where in its file the run ends that begins here.
uint64_t ExtentCursor::run_end() const {
  const uint64_t start = extents_[index_].offset + done_in_extent_;
  uint64_t end = extents_[index_].offset + extents_[index_].size_bytes;
  for (size_t i = index_ + 1; i < extents_.size() && follows_closely(i); ++i) {
    const uint64_t next_end = extents_[i].offset + extents_[i].size_bytes;
    if (next_end - start > kRunMostBytes) break;
    end = next_end;
  }
  return end;
}

/// Bytes of extents, without gaps, from here to the end of what is known to be data.
uint64_t ExtentCursor::data_bytes() const {
  const Extent& first = extents_[index_];
  const uint64_t at = first.offset + done_in_extent_;
  uint64_t end = first.offset + first.size_bytes;
  if (known_end_ <= end) return known_end_ - at;
  uint64_t bytes = end - at;
  for (size_t i = index_ + 1; i < extents_.size() && follows_closely(i); ++i) {
    const Extent& extent = extents_[i];
    if (extent.offset >= known_end_) break;
    bytes += std::min(extent.size_bytes, known_end_ - extent.offset);
  }
  return bytes;
}

int ExtentCursor::peek(Piece& piece) {
  leave_full_extents();
  const Extent& extent = extents_[index_];
  if (extent.fd == -1) {
    piece = {.is_hole = true, .size_bytes = extent.size_bytes - done_in_extent_};
    return 0;
  }
  const uint64_t at = extent.offset + done_in_extent_;
  if (known_fd_ != extent.fd || at < known_start_ || at >= known_end_) {
    Stretch stretch;
    const int status = find_stretch(extent.fd, at, run_end(), stretch);
    if (status != 0) {
      failed_offset_ = status == kFileEndsEarly && stretch.end > at ? stretch.end : at;
      return status == kFileEndsEarly ? kScanTruncated : status;
    }
    known_fd_ = extent.fd;
    known_start_ = at;
    known_end_ = stretch.end;
    known_hole_ = stretch.is_hole;
  }
  const uint64_t hole_bytes = std::min(known_end_, extent.offset + extent.size_bytes) - at;
  piece = {.is_hole = known_hole_, .size_bytes = known_hole_ ? hole_bytes : data_bytes()};
  return 0;
}

void ExtentCursor::skip(uint64_t size_bytes) {
  while (size_bytes > 0) {
    leave_full_extents();
    const uint64_t step = std::min(size_bytes, extents_[index_].size_bytes - done_in_extent_);
    done_in_extent_ += step;
    size_bytes -= step;
  }
}

int ExtentCursor::read(uint8_t* to, size_t size_bytes) {
  while (size_bytes > 0) {
    leave_full_extents();
    size_t done_bytes = 0;
    if (const int status = read_once(to, size_bytes, done_bytes); status != 0) return status;
    to += done_bytes;
    size_bytes -= done_bytes;
    skip(done_bytes);
  }
  return 0;
}

/// One preadv() over as many extents as go into it. `done_bytes`: what came of the extents.
int ExtentCursor::read_once(uint8_t* to, size_t size_bytes, size_t& done_bytes) {
  const Extent& first = extents_[index_];
  const uint64_t at = first.offset + done_in_extent_;
  uint8_t gap[kGapMostBytes];
  std::array<iovec, kMostParts> parts;
  size_t count = 0;
  size_t wanted = std::min<uint64_t>(size_bytes, first.size_bytes - done_in_extent_);
  parts[count++] = {.iov_base = to, .iov_len = wanted};
  for (size_t i = index_ + 1; wanted < size_bytes && count + 2 <= parts.size() && follows_closely(i); ++i) {
    const uint64_t gap_bytes = extents_[i].offset - (extents_[i - 1].offset + extents_[i - 1].size_bytes);
    const size_t next = std::min<uint64_t>(size_bytes - wanted, extents_[i].size_bytes);
    parts[count++] = {.iov_base = gap, .iov_len = gap_bytes};
    parts[count++] = {.iov_base = to + wanted, .iov_len = next};
    wanted += next;
  }
  ssize_t got = 0;
  do {
    got = preadv(first.fd, parts.data(), static_cast<int>(count), static_cast<off_t>(at));
  } while (got < 0 && errno == EINTR);
  if (got <= 0) {
    failed_offset_ = at;
    return got == 0 ? kScanTruncated : -errno;
  }
  auto left = static_cast<size_t>(got);
  for (size_t i = 0; i < count && left > 0; ++i) {
    const size_t bytes = std::min(left, parts[i].iov_len);
    if (i % 2 == 0) done_bytes += bytes;
    left -= bytes;
  }
  return 0;
}

}  // namespace vmsnap
