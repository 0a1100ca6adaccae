#include "file_system.h"

#include <cerrno>
#include <cstdio>

#include <fcntl.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

namespace vmsnap {

namespace {

int try_flock(int fd, int operation) {
  while (flock(fd, operation | LOCK_NB) != 0) {
    if (errno != EINTR) return -errno;
  }
  return 0;
}

bool is_folder(const char* path) {
  struct stat status;
  return lstat(path, &status) == 0 && S_ISDIR(status.st_mode);
}

}  // namespace

int try_lock(int fd) { return try_flock(fd, LOCK_EX); }

int try_lock_shared(int fd) { return try_flock(fd, LOCK_SH); }

int try_lock_range(int fd, uint64_t position, uint64_t size_bytes) {
  struct flock range = {};
  range.l_type = F_WRLCK;
  range.l_whence = SEEK_SET;
  range.l_start = static_cast<off_t>(position);
  range.l_len = static_cast<off_t>(size_bytes);
  while (fcntl(fd, F_OFD_SETLK, &range) != 0) {
    if (errno == EINTR) continue;
    // POSIX allows either for a lock that another has.
    return errno == EACCES ? -EWOULDBLOCK : -errno;
  }
  return 0;
}

int rename_no_replace(const char* from, const char* to) {
  if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0) return 0;
  if (errno != EINVAL && errno != ENOSYS) return -errno;
  return is_folder(from) ? rename_folder(from, to) : rename_by_link(from, to);
}

int rename_folder(const char* from, const char* to) {
  if (rename(from, to) == 0) return 0;
  return errno == ENOTEMPTY || errno == ENOTDIR ? -EEXIST : -errno;
}

int rename_by_link(const char* from, const char* to) {
  if (link(from, to) != 0) return -errno;
  return unlink(from) == 0 ? 0 : -errno;
}

int rename_exchange(const char* one, const char* other) {
  return renameat2(AT_FDCWD, one, AT_FDCWD, other, RENAME_EXCHANGE) == 0 ? 0 : -errno;
}

int64_t block_device_bytes(int fd) {
  uint64_t size_bytes = 0;
  return ioctl(fd, BLKGETSIZE64, &size_bytes) == 0 ? static_cast<int64_t>(size_bytes) : -int64_t{errno};
}

int64_t file_system_type(int fd) {
  struct statfs status;
  if (fstatfs(fd, &status) != 0) return -int64_t{errno};
  return static_cast<int64_t>(static_cast<uint32_t>(status.f_type));  // some magics have bit 31 set
}

}  // namespace vmsnap
