// Writes a segment to its place in a file.
#pragma once

#include <cstdint>

#include "segment_view.h"

namespace vmsnap {

enum class ZeroMode : uint8_t {
  /// Zero pages are left alone: the file is known to be zero there.
  kSkip = 0,
  kWrite = 1,
  /// By a hole, else by writing.
  kPunch = 2,
};

/// Returns 0, or a negative errno and in `failed_at` the file offset of the first byte that is not written.
int write_segment(int fd, uint64_t position, const SegmentView& segment, ZeroMode zero_mode, uint64_t& failed_at);

}  // namespace vmsnap
