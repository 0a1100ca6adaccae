#include "page_cache.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <fcntl.h>
#include <unistd.h>

#include "mapping.h"

namespace vmsnap {

namespace {

off_t as_offset(uint64_t position) { return static_cast<off_t>(position); }

}  // namespace

double resident_share(int fd, uint64_t position, uint64_t size_bytes) {
  const long page_size = sysconf(_SC_PAGESIZE);
  if (page_size <= 0 || size_bytes == 0) return 1;
  const auto page_bytes = static_cast<uint64_t>(page_size);
  const uint64_t first_page = position / page_bytes;
  const uint64_t end_page = (position + size_bytes + page_bytes - 1) / page_bytes;
  uint64_t resident_pages = 0;
  std::array<unsigned char, 4096> residence;
  for (uint64_t page = first_page; page < end_page;) {
    const auto pages = static_cast<size_t>(std::min<uint64_t>(end_page - page, residence.size()));
    // Never touched, only asked about: a file that shrinks under it does no harm.
    const Mapping window(fd, page * page_bytes, pages * static_cast<size_t>(page_bytes), PROT_READ);
    if (window.error() != 0) return 1;
    if (mincore(window.address(), window.size_bytes(), residence.data()) != 0) return 1;
    for (size_t i = 0; i < pages; ++i) resident_pages += residence[i] & 1U;
    page += pages;
  }
  return static_cast<double>(resident_pages) / static_cast<double>(end_page - first_page);
}

// To the kernel a length of 0 means "to the end of the file" in the next two; here it means nothing.

int drop_cache(int fd, uint64_t position, uint64_t size_bytes) {
  if (size_bytes == 0) return 0;
  return -posix_fadvise(fd, as_offset(position), as_offset(size_bytes), POSIX_FADV_DONTNEED);
}

int start_writeback(int fd, uint64_t position, uint64_t size_bytes) {
  if (size_bytes == 0) return 0;
  return sync_file_range(fd, as_offset(position), as_offset(size_bytes), SYNC_FILE_RANGE_WRITE) == 0 ? 0 : -errno;
}

int allocate(int fd, uint64_t position, uint64_t size_bytes) {
  if (size_bytes == 0) return 0;
  while (fallocate(fd, 0, as_offset(position), as_offset(size_bytes)) != 0) {
    if (errno != EINTR) return -errno;
  }
  return 0;
}

}  // namespace vmsnap
