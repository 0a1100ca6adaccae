// The system calls by which a queue is reached, as a table: the kernel's own, or the emulator's.
#pragma once

#include <sys/types.h>

#include <cstddef>

namespace vmsnap::dsa {

/// Each call answers as the system call does, but with -errno instead of -1. Callable from any thread.
class DeviceCalls {
 public:
  virtual ~DeviceCalls() = default;
  /// open(path, O_RDWR | O_CLOEXEC)
  virtual int open(const char* path) = 0;
  /// mmap(nullptr, 4096, PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0) into `portal`; returns 0 or -errno.
  virtual int map_portal(int fd, void*& portal) = 0;
  virtual int unmap_portal(void* portal) = 0;
  /// Bytes taken, possibly fewer than given (a multiple of 64), or -errno.
  virtual ssize_t write(int fd, const void* bytes, size_t size_bytes) = 0;
  /// poll() for POLLIN, which says that the software error register is valid: 1, 0 after the time, or -errno.
  virtual int poll_error(int fd, int timeout_milliseconds) = 0;
  /// Drains what this process has in the queue.
  virtual int close(int fd) = 0;
  /// Whether stores to a mapped portal are caught, so that the CPU itself need not know their instructions. The
  /// kernel's calls answer false: there an unknown instruction ends the process.
  virtual bool catches_instructions() const { return true; }
};

DeviceCalls& kernel_calls();

}  // namespace vmsnap::dsa
