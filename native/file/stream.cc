// Each step waits in poll() for at most 100 ms, so that the abort word is seen, and then moves bytes without blocking.
//
// The blocking flag belongs to the open file, which a shell may share with other programs, so it is not touched. A pipe
// that has room for some bytes blocks a writer that brings more, so there are three ways to write to one, tried in
// turn: a write that must not wait (RWF_NOWAIT; pipes know it since Linux 6.4), the same pipe opened once more as
// non-blocking through /proc, and at most PIPE_BUF bytes at a time, for which poll() promises room.
#include "stream.h"

#include <algorithm>
#include <cerrno>
#include <climits>

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <sys/un.h>
#include <unistd.h>

#include "unique_fd.h"

namespace vmsnap {

namespace {

constexpr int kPollMilliseconds = 100;
/// A write to a file cannot be stopped, so it is cut into parts.
constexpr size_t kFileWriteBytes = size_t{1} << 20;
/// What a new pipe holds anyway.
constexpr size_t kDefaultPipeBytes = size_t{64} << 10;

/// What is not allowed is halved, down to the capacity that the pipe has anyway.
void set_capacity(int fd, size_t capacity_bytes, size_t least_bytes) {
  size_t capacity = std::min<size_t>(capacity_bytes, INT_MAX);
  while (fcntl(fd, F_SETPIPE_SZ, static_cast<int>(capacity)) < 0) {
    capacity /= 2;
    if (capacity <= least_bytes) break;
  }
}

bool is_aborted(const int32_t* abort) { return __atomic_load_n(abort, __ATOMIC_ACQUIRE) != 0; }

/// Returns 0 once `fd` is ready (or has an error for the call that follows to tell), or a negative errno.
int wait_ready(int fd, short events, const int32_t* abort) {
  for (;;) {
    if (is_aborted(abort)) return -ECANCELED;
    pollfd waiting = {.fd = fd, .events = events, .revents = 0};
    const int ready = poll(&waiting, 1, kPollMilliseconds);
    if (ready < 0 && errno != EINTR) return -errno;
    if (ready > 0) return (waiting.revents & POLLNVAL) != 0 ? -EBADF : 0;
  }
}

/// Moves bytes to a stream in the way that fits its kind.
class StreamSink {
 public:
  explicit StreamSink(PipeWay first_way) : pipe_way_(first_way) {}

  /// Returns 0 or a negative errno.
  int open(int fd) {
    struct stat status;
    if (fstat(fd, &status) != 0) return -errno;
    fd_ = fd;
    const int flags = fcntl(fd, F_GETFL);
    if (S_ISREG(status.st_mode) || S_ISBLK(status.st_mode)) {
      kind_ = Kind::kFile;
    } else if (S_ISSOCK(status.st_mode)) {
      kind_ = Kind::kSocket;
    } else if (flags >= 0 && (flags & O_NONBLOCK) != 0) {
      kind_ = Kind::kNonBlocking;
    } else {
      kind_ = S_ISFIFO(status.st_mode) ? Kind::kPipe : Kind::kOther;
    }
    return 0;
  }

  bool waits_in_poll() const { return kind_ != Kind::kFile; }

  /// Returns the bytes taken or a negative errno; -EAGAIN if there was no room.
  ssize_t write(const uint8_t* bytes, size_t size_bytes) {
    switch (kind_) {
      case Kind::kFile:
        return checked(::write(fd_, bytes, std::min(size_bytes, kFileWriteBytes)));
      case Kind::kSocket:
        return checked(send(fd_, bytes, size_bytes, MSG_DONTWAIT | MSG_NOSIGNAL));
      case Kind::kNonBlocking:
        return checked(::write(fd_, bytes, size_bytes));
      case Kind::kPipe:
        return write_pipe(bytes, size_bytes);
      case Kind::kOther:
        break;
    }
    return write_small(bytes, size_bytes);
  }

 private:
  enum class Kind : uint8_t { kFile, kSocket, kNonBlocking, kPipe, kOther };

  static ssize_t checked(ssize_t result) { return result < 0 ? -errno : result; }

  ssize_t write_small(const uint8_t* bytes, size_t size_bytes) {
    return checked(::write(fd_, bytes, std::min<size_t>(size_bytes, PIPE_BUF)));
  }

  ssize_t write_pipe(const uint8_t* bytes, size_t size_bytes) {
    if (pipe_way_ == PipeWay::kNoWait) {
      const iovec piece = {.iov_base = const_cast<uint8_t*>(bytes), .iov_len = size_bytes};
      const ssize_t wrote = checked(pwritev2(fd_, &piece, 1, -1, RWF_NOWAIT));
      if (wrote != -EOPNOTSUPP && wrote != -EINVAL && wrote != -ENOSYS && wrote != -ESPIPE) return wrote;
      pipe_way_ = PipeWay::kReopened;
    }
    if (pipe_way_ == PipeWay::kReopened && !reopened_.is_open() && !reopened_.reopen(fd_, O_WRONLY | O_NONBLOCK)) {
      pipe_way_ = PipeWay::kSmall;
    }
    if (pipe_way_ == PipeWay::kSmall) return write_small(bytes, size_bytes);
    return checked(::write(reopened_.get(), bytes, size_bytes));
  }

  int fd_ = -1;
  Kind kind_ = Kind::kOther;
  PipeWay pipe_way_;
  UniqueFd reopened_;
};

}  // namespace

int wait_readable(int fd, const int32_t* abort) { return wait_ready(fd, POLLIN, abort); }

int64_t read_stream_part(int fd, uint8_t* bytes, size_t size_bytes, const int32_t* abort) {
  for (;;) {
    if (const int status = wait_ready(fd, POLLIN, abort); status != 0) return status;
    const ssize_t got = read(fd, bytes, size_bytes);
    if (got >= 0) return got;
    if (errno != EINTR && errno != EAGAIN) return -errno;
  }
}

int64_t read_stream(int fd, uint8_t* bytes, size_t size_bytes, const int32_t* abort) {
  size_t done = 0;
  while (done < size_bytes) {
    const int64_t got = read_stream_part(fd, bytes + done, size_bytes - done, abort);
    if (got < 0) return got;
    if (got == 0) break;
    done += static_cast<size_t>(got);
  }
  return static_cast<int64_t>(done);
}

int write_stream(int fd, const uint8_t* bytes, size_t size_bytes, const int32_t* abort, PipeWay first_way) {
  StreamSink sink(first_way);
  if (const int status = sink.open(fd); status != 0) return status;
  while (size_bytes > 0) {
    if (is_aborted(abort)) return -ECANCELED;
    if (sink.waits_in_poll()) {
      if (const int status = wait_ready(fd, POLLOUT, abort); status != 0) return status;
    }
    const ssize_t wrote = sink.write(bytes, size_bytes);
    if (wrote == -EINTR || wrote == -EAGAIN) continue;
    if (wrote <= 0) return wrote < 0 ? static_cast<int>(wrote) : -EIO;
    bytes += wrote;
    size_bytes -= static_cast<size_t>(wrote);
  }
  return 0;
}

int open_pipe(size_t capacity_bytes, PipeEnds& ends) {
  int fds[2];
  if (pipe2(fds, O_CLOEXEC) != 0) return -errno;
  ends = {.read_fd = fds[0], .write_fd = fds[1]};
  set_capacity(ends.write_fd, capacity_bytes, kDefaultPipeBytes);
  return 0;
}

void widen_pipe(int fd, size_t capacity_bytes) {
  const int present_bytes = fcntl(fd, F_GETPIPE_SZ);
  if (present_bytes < 0 || capacity_bytes <= static_cast<size_t>(present_bytes)) return;
  set_capacity(fd, capacity_bytes, static_cast<size_t>(present_bytes));
}

int connect_unix(std::string_view path) {
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) return -ENAMETOOLONG;
  std::copy(path.begin(), path.end(), address.sun_path);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return -errno;
  if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) == 0) return fd;
  const int status = -errno;
  close(fd);
  return status;
}

}  // namespace vmsnap
