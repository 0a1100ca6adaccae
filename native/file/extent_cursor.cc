#include "extent_cursor.h"

#include <cerrno>

#include <unistd.h>

namespace vmsnap {

int ExtentCursor::peek(Piece& piece) {
  while (done_in_extent_ == extents_[index_].size_bytes) {
    ++index_;
    done_in_extent_ = 0;
    known_end_ = 0;
  }
  const Extent& extent = extents_[index_];
  if (extent.fd == -1) {
    piece = {.is_hole = true, .size_bytes = extent.size_bytes - done_in_extent_};
    return 0;
  }
  const uint64_t at = extent.offset + done_in_extent_;
  if (known_end_ <= at) {
    Stretch stretch;
    const int status = find_stretch(extent.fd, at, extent.offset + extent.size_bytes, stretch);
    if (status != 0) {
      failed_offset_ = status == kFileEndsEarly && stretch.end > at ? stretch.end : at;
      return status == kFileEndsEarly ? kScanTruncated : status;
    }
    known_end_ = stretch.end;
    known_hole_ = stretch.is_hole;
  }
  piece = {.is_hole = known_hole_, .size_bytes = known_end_ - at};
  return 0;
}

void ExtentCursor::skip(uint64_t size_bytes) { done_in_extent_ += size_bytes; }

int ExtentCursor::read(uint8_t* to, size_t size_bytes) {
  const Extent& extent = extents_[index_];
  while (size_bytes > 0) {
    const uint64_t at = extent.offset + done_in_extent_;
    const ssize_t got = pread(extent.fd, to, size_bytes, static_cast<off_t>(at));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      failed_offset_ = at;
      return got == 0 ? kScanTruncated : -errno;
    }
    const auto got_bytes = static_cast<size_t>(got);
    to += got_bytes;
    size_bytes -= got_bytes;
    done_in_extent_ += got_bytes;
  }
  return 0;
}

}  // namespace vmsnap
