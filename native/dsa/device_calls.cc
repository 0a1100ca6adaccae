#include "device_calls.h"

#include <cerrno>

#include <fcntl.h>
#include <poll.h>
#include <sys/mman.h>
#include <unistd.h>

#include "descriptor.h"

namespace vmsnap::dsa {

namespace {

class KernelCalls final : public DeviceCalls {
 public:
  int open(const char* path) override {
    const int fd = ::open(path, O_RDWR | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
  }

  int map_portal(int fd, void*& portal) override {
    void* const address = mmap(nullptr, kPortalBytes, PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
    if (address == MAP_FAILED) return -errno;
    portal = address;
    return 0;
  }

  int unmap_portal(void* portal) override { return munmap(portal, kPortalBytes) == 0 ? 0 : -errno; }

  ssize_t write(int fd, const void* bytes, size_t size_bytes) override {
    const ssize_t taken = ::write(fd, bytes, size_bytes);
    return taken < 0 ? -errno : taken;
  }

  int poll_error(int fd, int timeout_milliseconds) override {
    pollfd wanted = {fd, POLLIN, 0};
    const int ready = poll(&wanted, 1, timeout_milliseconds);
    if (ready < 0) return -errno;
    return ready > 0 && (wanted.revents & POLLIN) != 0 ? 1 : 0;
  }

  int close(int fd) override { return ::close(fd) == 0 ? 0 : -errno; }

  bool catches_instructions() const override { return false; }
};

}  // namespace

DeviceCalls& kernel_calls() {
  static KernelCalls calls;
  return calls;
}

}  // namespace vmsnap::dsa
