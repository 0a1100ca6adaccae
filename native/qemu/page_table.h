// Where each page of a stream lies, in a file of 8 bytes a page, so that memory is bounded whatever the stream claims.
//
// Pages come in nearly rising order, or anywhere: a small direct-mapped cache of 4 KiB parts of the table keeps the
// first kind fast and the second kind harmless. Parts that were never touched stay holes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vmsnap::qemu {

// Entries beside file offsets.
inline constexpr uint64_t kNeverSent = 0;
inline constexpr uint64_t kSentZero = 1;

class PageTable {
 public:
  /// `fd`: a file of its own, empty and open for reading and writing.
  explicit PageTable(int fd);

  // Each returns 0 or a negative errno.

  /// Sets the entry of a page and tells what it was.
  int exchange(uint64_t page, uint64_t value, uint64_t& before);
  /// Writes what is still in memory.
  int flush();

 private:
  struct Part {
    uint64_t number;
    bool dirty;
  };

  int load(uint64_t number);
  int write_back(size_t slot);
  uint64_t* entries_of(size_t slot);

  int fd_;
  std::vector<Part> parts_;
  std::vector<uint64_t> entries_;
};

}  // namespace vmsnap::qemu
