// The bytes of a stream in order, through one buffer: from a file, where what is passed over need not be read, or from
// a pipe or socket.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace vmsnap::qemu {

/// Status beside 0 and negative errnos: the input ended before the bytes that were asked for.
inline constexpr int kInputEnded = 1;

class ByteInput {
 public:
  /// Most that need() can be asked for.
  static constexpr size_t kMostNeeded = size_t{64} << 10;

  /// Bytes [offset, end) of a file; positions are offsets in the file.
  static ByteInput of_file(int fd, uint64_t offset, uint64_t end);
  /// `start`: bytes of the stream that have been read already.
  static ByteInput of_stream(int fd, std::span<const uint8_t> start);

  /// Where the next byte stands: in the file, or counted from the first byte of the stream.
  uint64_t position() const { return position_; }
  bool is_file() const { return is_file_; }

  // Each returns 0, kInputEnded (position() is then where the input ended) or a negative errno. `abort` as in stream.h.

  /// Makes the next `count` bytes stand at data(). They count as passed only after consume().
  int need(size_t count, const int32_t* abort) {
    return buffer_end_ - buffer_at_ >= count ? 0 : need_more(count, abort);
  }
  const uint8_t* data() const { return buffer_.data() + buffer_at_; }
  void consume(size_t count) {
    buffer_at_ += count;
    position_ += count;
  }

  /// Passes over bytes. In a file they may lie beyond its end: the next need() tells.
  int skip(uint64_t count, const int32_t* abort);

  /// Reads bytes straight to where they belong, as far as they are not in the buffer.
  int read(uint8_t* to, size_t count, const int32_t* abort);

  /// Reads what there is, at most `count` bytes: at least one unless the stream has ended. Returns the bytes read or a
  /// negative errno.
  int64_t read_some(uint8_t* to, size_t count, const int32_t* abort);

  /// Of a file: goes on at another offset.
  void seek(uint64_t offset);
  uint64_t end() const { return end_; }

 private:
  ByteInput(int fd, bool is_file, uint64_t position, uint64_t end);

  int need_more(size_t count, const int32_t* abort);
  /// Bytes read or a negative errno; 0 at the end.
  int64_t read_file_or_stream(uint8_t* to, size_t count, const int32_t* abort);

  int fd_;
  bool is_file_;
  uint64_t position_;
  uint64_t end_;
  std::vector<uint8_t> buffer_;
  size_t buffer_at_ = 0;
  size_t buffer_end_ = 0;
};

}  // namespace vmsnap::qemu
