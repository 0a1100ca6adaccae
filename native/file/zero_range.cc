#include "zero_range.h"

#include <cerrno>

#include <fcntl.h>
#include <linux/magic.h>

#include "file_system.h"
#include "gather_writer.h"
#include "holes.h"

namespace vmsnap {

namespace {

/// EINVAL: a block device whose logical blocks the range does not fit.
bool means_cannot_punch(int error) {
  return error == EOPNOTSUPP || error == ENOSYS || error == ENODEV || error == EINVAL || error == ESPIPE;
}

bool punch_piece(int fd, uint64_t position, uint64_t size_bytes, int& status) {
  while (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(position),
                   static_cast<off_t>(size_bytes)) != 0) {
    if (errno == EINTR) continue;
    if (means_cannot_punch(errno)) return false;
    status = -errno;
    break;
  }
  return true;
}

}  // namespace

bool punch_hole(int fd, uint64_t position, uint64_t size_bytes, int& status) {
  status = 0;
  const uint64_t end = position + size_bytes;
  // tmpfs holds the lock of the file while it frees the pages of a hole, 0.6 us each, and who wants to write elsewhere
  // in it spins meanwhile. So what there is to free goes in pieces of 256 KiB.
  const bool in_pieces = file_system_type(fd) == TMPFS_MAGIC;
  while (position < end && status == 0) {
    Stretch stretch = {.is_hole = false, .end = end};
    if (in_pieces && find_stretch(fd, position, end, stretch) != 0) stretch.end = end;
    if (!punch_piece(fd, position, stretch.end - position, status)) return false;
    position = stretch.end;
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
