// Walks the bytes that a list of extents names, as one sequence.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "holes.h"

namespace vmsnap {

/// Bytes [offset, offset + size_bytes) of a file; fd -1 stands for zeros that no file holds.
struct Extent {
  int fd;
  uint64_t offset;
  uint64_t size_bytes;
};

/// Status beside 0 and negative errnos: a file ended before its extent did.
inline constexpr int kScanTruncated = 1;

class ExtentCursor {
 public:
  explicit ExtentCursor(std::span<const Extent> extents) : extents_(extents) {}

  /// What the bytes from here on are, within one extent: a hole or data, and how many (at least 1).
  struct Piece {
    bool is_hole;
    uint64_t size_bytes;
  };
  /// There must be bytes left. Returns 0, kScanTruncated or a negative errno.
  int peek(Piece& piece);

  /// Passes over bytes of the piece that peek() gave.
  void skip(uint64_t size_bytes);

  /// Reads bytes of the piece that peek() gave. Returns as peek() does.
  int read(uint8_t* to, size_t size_bytes);

  /// After a failure: which extent, and at which offset of its file.
  size_t failed_extent() const { return index_; }
  uint64_t failed_offset() const { return failed_offset_; }

 private:
  std::span<const Extent> extents_;
  size_t index_ = 0;
  uint64_t done_in_extent_ = 0;
  // What is known of the present extent: the stretch up to known_end_ (a file offset); nothing if it is not past here.
  uint64_t known_end_ = 0;
  bool known_hole_ = false;
  uint64_t failed_offset_ = 0;
};

}  // namespace vmsnap
