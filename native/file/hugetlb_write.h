// Writing to files on hugetlbfs, which has no write(): through a mapping, one huge page at a time.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vmsnap {

bool is_hugetlbfs(int fd);

/// Writes all bytes at `position`, which must lie within the file. The pages are allocated first, so that having none
/// left is an error (-ENOSPC, -ENOMEM) and not a SIGBUS. Returns 0 or a negative errno.
int write_hugetlb(int fd, const uint8_t* bytes, size_t size_bytes, uint64_t position);

}  // namespace vmsnap
