// What of a file is in the page cache, and advice about it. Status 0 or a negative errno.
#pragma once

#include <cstdint>

namespace vmsnap {

/// Share (0 to 1) of the range's pages that are in the page cache; 1 where it cannot be told.
double resident_share(int fd, uint64_t position, uint64_t size_bytes);

/// Drops clean cached pages of the range.
int drop_cache(int fd, uint64_t position, uint64_t size_bytes);

/// Starts write-back of the range without waiting for it.
int start_writeback(int fd, uint64_t position, uint64_t size_bytes);

/// Allocates blocks or huge pages for the range; grows the file.
int allocate(int fd, uint64_t position, uint64_t size_bytes);

}  // namespace vmsnap
