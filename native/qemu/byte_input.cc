#include "byte_input.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <unistd.h>

#include "../file/stream.h"

namespace vmsnap::qemu {

namespace {

/// Fits into the L2 cache beside what else is in use.
constexpr size_t kBufferBytes = size_t{256} << 10;

}  // namespace

ByteInput::ByteInput(int fd, bool is_file, uint64_t position, uint64_t end)
    : fd_(fd), is_file_(is_file), position_(position), end_(end), buffer_(kBufferBytes) {}

ByteInput ByteInput::of_file(int fd, uint64_t offset, uint64_t end) { return {fd, true, offset, end}; }

ByteInput ByteInput::of_stream(int fd, std::span<const uint8_t> start) {
  ByteInput input(fd, false, 0, UINT64_MAX);
  if (start.size() > input.buffer_.size()) input.buffer_.resize(start.size());
  std::copy(start.begin(), start.end(), input.buffer_.begin());
  input.buffer_end_ = start.size();
  return input;
}

int ByteInput::need_more(size_t count, const int32_t* abort) {
  const size_t kept = buffer_end_ - buffer_at_;
  std::memmove(buffer_.data(), buffer_.data() + buffer_at_, kept);
  buffer_at_ = 0;
  buffer_end_ = kept;
  while (buffer_end_ < count) {
    const int64_t got = read_file_or_stream(buffer_.data() + buffer_end_, buffer_.size() - buffer_end_, abort);
    if (got < 0) return static_cast<int>(got);
    if (got == 0) {
      position_ += buffer_end_;
      buffer_end_ = 0;
      return kInputEnded;
    }
    buffer_end_ += static_cast<size_t>(got);
  }
  return 0;
}

int64_t ByteInput::read_file_or_stream(uint8_t* to, size_t count, const int32_t* abort) {
  if (!is_file_) return read_stream_part(fd_, to, count, abort);
  if (__atomic_load_n(abort, __ATOMIC_ACQUIRE) != 0) return -ECANCELED;
  const uint64_t at = position_ + (buffer_end_ - buffer_at_);
  if (at >= end_) return 0;
  for (;;) {
    const ssize_t got = pread(fd_, to, std::min<uint64_t>(count, end_ - at), static_cast<off_t>(at));
    if (got >= 0) return got;
    if (errno != EINTR) return -errno;
  }
}

int ByteInput::skip(uint64_t count, const int32_t* abort) {
  const uint64_t buffered = buffer_end_ - buffer_at_;
  if (count <= buffered) {
    consume(count);
    return 0;
  }
  if (is_file_) {
    seek(position_ + count);
    return 0;
  }
  for (uint64_t left = count; left > 0;) {
    const size_t step = std::min<uint64_t>(left, kMostNeeded);
    if (const int status = need(step, abort); status != 0) return status;
    consume(step);
    left -= step;
  }
  return 0;
}

int ByteInput::read(uint8_t* to, size_t count, const int32_t* abort) {
  if (count <= kMostNeeded) {
    if (const int status = need(count, abort); status != 0) return status;
    std::memcpy(to, data(), count);
    consume(count);
    return 0;
  }
  while (count > 0) {
    const int64_t got = read_some(to, count, abort);
    if (got <= 0) return got < 0 ? static_cast<int>(got) : kInputEnded;
    to += got;
    count -= static_cast<size_t>(got);
  }
  return 0;
}

int64_t ByteInput::read_some(uint8_t* to, size_t count, const int32_t* abort) {
  const size_t buffered = std::min(count, buffer_end_ - buffer_at_);
  if (buffered > 0) {
    std::memcpy(to, data(), buffered);
    consume(buffered);
    return static_cast<int64_t>(buffered);
  }
  buffer_at_ = 0;
  buffer_end_ = 0;
  const int64_t got = read_file_or_stream(to, count, abort);
  if (got > 0) position_ += static_cast<uint64_t>(got);
  return got;
}

void ByteInput::seek(uint64_t offset) {
  buffer_at_ = 0;
  buffer_end_ = 0;
  position_ = offset;
}

}  // namespace vmsnap::qemu
