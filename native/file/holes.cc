#include "holes.h"

#include <cerrno>

#include <sys/stat.h>
#include <unistd.h>

namespace vmsnap {

namespace {

bool means_no_hole_support(int error) {
  return error == EINVAL || error == EOPNOTSUPP || error == ENOSYS || error == ENOTTY;
}

/// How far data is taken to go before asking again. SEEK_HOLE would tell exactly, but tmpfs answers it by walking page
/// by page to the next hole: for each segment of a dense 2 GiB file that came to 8 s of system time in all.
constexpr uint64_t kDataStretchBytes = uint64_t{256} << 10;

off_t as_offset(uint64_t position) { return static_cast<off_t>(position); }

}  // namespace

int find_stretch(int fd, uint64_t offset, uint64_t end, Stretch& stretch) {
  stretch = {.is_hole = false, .end = end};
  const off_t data = lseek(fd, as_offset(offset), SEEK_DATA);
  if (data < 0) {
    if (errno != ENXIO) return 0;  // read it: either that works or it gives the better error
    struct stat status;
    if (fstat(fd, &status) != 0) return -errno;
    if (!S_ISREG(status.st_mode)) return 0;
    const auto size_bytes = static_cast<uint64_t>(status.st_size);
    if (size_bytes < end) {
      stretch.end = size_bytes;
      return kFileEndsEarly;
    }
    stretch.is_hole = true;
    return 0;
  }
  const auto data_start = static_cast<uint64_t>(data);
  if (data_start < offset) return 0;  // a device that does not really seek (/dev/zero)
  if (data_start > offset) {
    stretch.is_hole = true;
    if (data_start < end) stretch.end = data_start;
    return 0;
  }
  if (end - offset > kDataStretchBytes) stretch.end = offset + kDataStretchBytes;
  return 0;
}

int64_t seek_data(int fd, uint64_t offset, uint64_t end) {
  if (offset >= end) return static_cast<int64_t>(end);
  const off_t data = lseek(fd, as_offset(offset), SEEK_DATA);
  if (data < 0) {
    if (errno == ENXIO) return static_cast<int64_t>(end);
    return means_no_hole_support(errno) ? static_cast<int64_t>(offset) : -int64_t{errno};
  }
  const auto data_start = static_cast<uint64_t>(data);
  if (data_start < offset) return static_cast<int64_t>(offset);
  return static_cast<int64_t>(data_start < end ? data_start : end);
}

int64_t seek_hole(int fd, uint64_t offset, uint64_t end) {
  if (offset >= end) return static_cast<int64_t>(end);
  const off_t hole = lseek(fd, as_offset(offset), SEEK_HOLE);
  if (hole < 0) return means_no_hole_support(errno) ? static_cast<int64_t>(end) : -int64_t{errno};
  const auto hole_start = static_cast<uint64_t>(hole);
  if (hole_start < offset) return static_cast<int64_t>(end);
  return static_cast<int64_t>(hole_start < end ? hole_start : end);
}

}  // namespace vmsnap
