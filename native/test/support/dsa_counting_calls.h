// Passes system calls on and counts those that must come in pairs.
#pragma once

#include <atomic>

#include "../../dsa/device_calls.h"

namespace vmsnap::test {

class CountingCalls : public dsa::DeviceCalls {
 public:
  explicit CountingCalls(dsa::DeviceCalls& inner) : inner_(inner) {}

  int open(const char* path) override {
    const int fd = inner_.open(path);
    opened += fd >= 0 ? 1 : 0;
    return fd;
  }
  int map_portal(int fd, void*& portal) override {
    const int error = inner_.map_portal(fd, portal);
    mapped += error == 0 ? 1 : 0;
    return error;
  }
  int unmap_portal(void* portal) override {
    const int error = inner_.unmap_portal(portal);
    unmapped += error == 0 ? 1 : 0;
    return error;
  }
  ssize_t write(int fd, const void* bytes, size_t size_bytes) override {
    ++writes;
    return inner_.write(fd, bytes, size_bytes);
  }
  int poll_error(int fd, int timeout_milliseconds) override { return inner_.poll_error(fd, timeout_milliseconds); }
  int close(int fd) override {
    const int error = inner_.close(fd);
    closed += error == 0 ? 1 : 0;
    return error;
  }
  bool catches_instructions() const override { return inner_.catches_instructions(); }

  bool all_given_back() const { return opened == closed && mapped == unmapped; }

  std::atomic<size_t> opened = 0;
  std::atomic<size_t> closed = 0;
  std::atomic<size_t> mapped = 0;
  std::atomic<size_t> unmapped = 0;
  std::atomic<size_t> writes = 0;

 private:
  dsa::DeviceCalls& inner_;
};

}  // namespace vmsnap::test
