// Walks the bytes that a list of extents names, as one sequence.
//
// Extents that follow each other closely in one file, as the pages of a migration stream do behind their headers, are
// read together: one preadv() takes the bytes and drops what is between them. A pread() a page cost about twice as much
// (docs/decisions.md has the figures).
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

  /// What the bytes from here on are: a hole within one extent, or data of one file, and how many (at least 1).
  struct Piece {
    bool is_hole;
    uint64_t size_bytes;
  };
  /// There must be bytes left. Returns 0, kScanTruncated or a negative errno.
  int peek(Piece& piece);

  /// Passes over bytes, through as many extents as they take, without asking what they are.
  void skip(uint64_t size_bytes);

  /// Reads bytes of the piece that peek() gave. Returns as peek() does.
  int read(uint8_t* to, size_t size_bytes);

  /// After a failure: which extent, and at which offset of its file.
  size_t failed_extent() const { return index_; }
  uint64_t failed_offset() const { return failed_offset_; }

 private:
  void leave_full_extents();
  bool follows_closely(size_t index) const;
  uint64_t run_end() const;
  uint64_t data_bytes() const;
  int read_once(uint8_t* to, size_t size_bytes, size_t& done_bytes);

  std::span<const Extent> extents_;
  size_t index_ = 0;
  uint64_t done_in_extent_ = 0;
  // What is known of a file: that [known_start_, known_end_) is all data or all hole.
  int known_fd_ = -1;
  uint64_t known_start_ = 0;
  uint64_t known_end_ = 0;
  bool known_hole_ = false;
  uint64_t failed_offset_ = 0;
};

}  // namespace vmsnap
