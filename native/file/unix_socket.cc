#include "unix_socket.h"

#include <cerrno>
#include <cstring>

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "stream.h"
#include "unique_fd.h"

namespace vmsnap {

int listen_unix(const std::string& path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path) return -ENAMETOOLONG;
  std::memcpy(address.sun_path, path.data(), path.size());
  UniqueFd socket_fd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket_fd.is_open()) return -errno;
  // Before the socket has a name: bind takes the mode from here, less the umask.
  if (fchmod(socket_fd.get(), S_IRUSR | S_IWUSR) != 0) return -errno;
  if (bind(socket_fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return -errno;
  if (listen(socket_fd.get(), 1) != 0) return -errno;
  return socket_fd.release();
}

int accept_unix(int listening_fd, const int32_t* abort) {
  for (;;) {
    if (const int status = wait_readable(listening_fd, abort); status != 0) return status;
    const int fd = accept4(listening_fd, nullptr, nullptr, SOCK_CLOEXEC);
    if (fd >= 0) return fd;
    // Who connected may be gone again.
    if (errno != EINTR && errno != EAGAIN && errno != ECONNABORTED) return -errno;
  }
}

int peer_process(int fd) {
  ucred peer = {};
  socklen_t size_bytes = sizeof peer;
  if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size_bytes) != 0) return -errno;
  // Of another pid namespace: it has no number here.
  return peer.pid > 0 ? peer.pid : -ESRCH;
}

}  // namespace vmsnap
