// Zeroing part of a file.
#pragma once

#include <cstdint>

namespace vmsnap {

/// Gives the blocks back and leaves a hole. Returns false where the file system or device cannot (write zeros then),
/// and true with `status` 0 or a negative errno otherwise. Does not grow a file.
bool punch_hole(int fd, uint64_t position, uint64_t size_bytes, int& status);

/// By a hole if `punch` and possible, else by writing (which grows a file that is shorter). Returns 0 or a negative
/// errno.
int zero_range(int fd, uint64_t position, uint64_t size_bytes, bool punch);

}  // namespace vmsnap
