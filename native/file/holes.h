// Where a file has data and where holes.
//
// A hole answer is trusted only from a file system that gives sensible ones: on any other (block and character devices,
// /proc, file systems without SEEK_DATA) everything counts as data, and reading it says what is wrong.
//
// Asking moves the current position of the open file (lseek), so whoever reads it otherwise gives positions of his own.
#pragma once

#include <cstdint>

namespace vmsnap {

/// The stretch of a file that starts at the offset asked for. A stretch of data may hold small holes, which read as
/// zeros: a hole of 256 KiB and more is never read whole.
struct Stretch {
  bool is_hole;
  /// Where it ends: after the offset asked for, not after `end`.
  uint64_t end;
};

/// Answer of find_stretch where the file ends before `end`: it is as long as `stretch.end` says.
inline constexpr int kFileEndsEarly = 1;

/// What [offset, end) starts with; offset < end. Returns 0, kFileEndsEarly or a negative errno. A file is only known to
/// be too short when no data follows, so reading data must look out for the end itself.
int find_stretch(int fd, uint64_t offset, uint64_t end, Stretch& stretch);

/// The first byte of [offset, end) that is not in a hole, or `end`; negative errno.
int64_t seek_data(int fd, uint64_t offset, uint64_t end);

/// The first byte of [offset, end) that is in a hole, or `end`; negative errno. -ENXIO: the file ends before `offset`.
/// On tmpfs it walks page by page: ask once a stretch of data, and remember the answer.
int64_t seek_hole(int fd, uint64_t offset, uint64_t end);

}  // namespace vmsnap
