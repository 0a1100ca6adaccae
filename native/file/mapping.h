// A mapping of part of a file, unmapped when it goes out of scope.
#pragma once

#include <cerrno>
#include <cstddef>
#include <cstdint>

#include <sys/mman.h>

namespace vmsnap {

class Mapping {
 public:
  /// Offset as mmap wants it: a multiple of the page size (the huge page size on hugetlbfs).
  Mapping(int fd, uint64_t offset, size_t size_bytes, int protection)
      : address_(mmap(nullptr, size_bytes, protection, MAP_SHARED, fd, static_cast<off_t>(offset))),
        size_bytes_(size_bytes),
        error_(address_ == MAP_FAILED ? errno : 0) {}
  ~Mapping() {
    if (error_ == 0) munmap(address_, size_bytes_);
  }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  /// 0, or the errno of the mmap that failed.
  int error() const { return error_; }
  void* address() const { return address_; }
  size_t size_bytes() const { return size_bytes_; }

 private:
  void* address_;
  size_t size_bytes_;
  int error_;
};

}  // namespace vmsnap
