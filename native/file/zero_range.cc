#include "zero_range.h"

#include <cerrno>

#include <fcntl.h>

#include "gather_writer.h"

namespace vmsnap {

namespace {

/// EINVAL: a block device whose logical blocks the range does not fit.
bool means_cannot_punch(int error) {
  return error == EOPNOTSUPP || error == ENOSYS || error == ENODEV || error == EINVAL || error == ESPIPE;
}

}  // namespace

bool punch_hole(int fd, uint64_t position, uint64_t size_bytes, int& status) {
  status = 0;
  if (size_bytes == 0) return true;
  while (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(position),
                   static_cast<off_t>(size_bytes)) != 0) {
    if (errno == EINTR) continue;
    if (means_cannot_punch(errno)) return false;
    status = -errno;
    break;
  }
  return true;
}

int zero_range(int fd, uint64_t position, uint64_t size_bytes, bool punch) {
  if (int status = 0; punch && punch_hole(fd, position, size_bytes, status)) return status;
  GatherWriter writer(fd, position);
  if (const int status = writer.add_zeros(size_bytes); status != 0) return status;
  return writer.flush();
}

}  // namespace vmsnap
