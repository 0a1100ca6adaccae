#include "hugetlb_write.h"

#include <algorithm>
#include <cstring>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/stat.h>
#include <sys/statfs.h>

#include "mapping.h"

namespace vmsnap {

namespace {

int statfs_of(int fd, struct statfs& status) { return fstatfs(fd, &status) == 0 ? 0 : -errno; }

}  // namespace

bool is_hugetlbfs(int fd) {
  struct statfs status;
  return statfs_of(fd, status) == 0 && static_cast<uint32_t>(status.f_type) == HUGETLBFS_MAGIC;
}

int write_hugetlb(int fd, const uint8_t* bytes, size_t size_bytes, uint64_t position) {
  struct statfs file_system;
  if (const int status = statfs_of(fd, file_system); status != 0) return status;
  struct stat file;
  if (fstat(fd, &file) != 0) return -errno;
  const auto huge_page_bytes = static_cast<uint64_t>(file_system.f_bsize);
  const auto file_bytes = static_cast<uint64_t>(file.st_size);
  // Beyond the end a store is a SIGBUS, and growing the file is for its owner to decide.
  if (position > file_bytes || size_bytes > file_bytes - position) return -EFBIG;
  while (size_bytes > 0) {
    const uint64_t page_start = position / huge_page_bytes * huge_page_bytes;
    const auto within = static_cast<size_t>(position - page_start);
    const size_t piece_bytes = std::min(size_bytes, static_cast<size_t>(huge_page_bytes) - within);
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, static_cast<off_t>(page_start), static_cast<off_t>(huge_page_bytes)) != 0) {
      if (errno == EINTR) continue;
      return -errno;
    }
    const Mapping page(fd, page_start, static_cast<size_t>(huge_page_bytes), PROT_READ | PROT_WRITE);
    if (page.error() != 0) return -page.error();
    std::memcpy(static_cast<uint8_t*>(page.address()) + within, bytes, piece_bytes);
    bytes += piece_bytes;
    position += piece_bytes;
    size_bytes -= piece_bytes;
  }
  return 0;
}

}  // namespace vmsnap
