// A file descriptor that is closed when it goes out of scope.
#pragma once

#include <cstdio>
#include <utility>

#include <fcntl.h>
#include <unistd.h>

namespace vmsnap {

class UniqueFd {
 public:
  explicit UniqueFd(int fd = -1) : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~UniqueFd() {
    if (fd_ >= 0) close(fd_);
  }

  bool is_open() const { return fd_ >= 0; }
  int get() const { return fd_; }
  /// Gives it to the caller, who closes it.
  int release() { return std::exchange(fd_, -1); }

  /// Opens the file behind another descriptor once more, with flags of its own. Returns whether that worked.
  bool reopen(int fd, int flags) {
    char path[32];
    std::snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    *this = UniqueFd(open(path, flags | O_CLOEXEC));
    return is_open();
  }

 private:
  int fd_;
};

}  // namespace vmsnap
