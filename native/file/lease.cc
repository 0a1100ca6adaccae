// When a writer comes, the kernel signals the holder and lets the writer wait for /proc/sys/fs/lease-break-time seconds
// or until the lease is given back. The default signal, SIGIO, would end the process; SIGURG is ignored by default, and
// the holder asks from time to time instead: while a break is pending F_GETLEASE names the lease that would be left.
#include "lease.h"

#include <cerrno>
#include <csignal>

#include <fcntl.h>

namespace vmsnap {

int take_read_lease(int fd) {
  if (fcntl(fd, F_SETSIG, SIGURG) != 0) return -errno;
  return fcntl(fd, F_SETLEASE, F_RDLCK) == 0 ? 0 : -errno;
}

int read_lease_held(int fd) {
  const int lease = fcntl(fd, F_GETLEASE);
  if (lease < 0) return -errno;
  return lease == F_RDLCK ? 1 : 0;
}

int release_lease(int fd) { return fcntl(fd, F_SETLEASE, F_UNLCK) == 0 ? 0 : -errno; }

}  // namespace vmsnap
