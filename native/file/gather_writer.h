// Writes neighbouring pieces of memory to neighbouring bytes of a file with as few system calls as it can.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include <sys/uio.h>

namespace vmsnap {

class GatherWriter {
 public:
  GatherWriter(int fd, uint64_t position) : fd_(fd), position_(position) {}

  /// Appends bytes; they must stay as they are until flush(). Returns 0 or a negative errno.
  int add(const uint8_t* bytes, size_t size_bytes);
  int add_zeros(uint64_t size_bytes);
  /// Appends `size_bytes` (a multiple of 4096) of a repeated word.
  int add_words(uint64_t word, size_t size_bytes);

  /// Writes what was added. To be called at the end, and before skip().
  int flush();

  /// Leaves the next bytes of the file alone. Nothing may be pending.
  void skip(uint64_t size_bytes) { position_ += size_bytes; }

  /// Where the next unwritten byte belongs; after a failure, the byte that could not be written.
  uint64_t position() const { return position_; }

 private:
  static constexpr size_t kPatternBytes = 4096;
  static constexpr size_t kPatterns = 8;

  int fd_;
  uint64_t position_;
  size_t pieces_ = 0;
  size_t patterns_ = 0;
  uint64_t last_word_ = 0;
  std::array<iovec, 256> pending_;
  // Pages of repeated words that pending pieces point to.
  std::array<std::array<uint8_t, kPatternBytes>, kPatterns> pattern_;
};

}  // namespace vmsnap
