#include "gather_writer.h"

#include <algorithm>
#include <cerrno>

#include "../base/word.h"
#include "hugetlb_write.h"

namespace vmsnap {

namespace {

/// Never written to; not const so that it takes no room in the file of the program.
alignas(4096) uint8_t g_zeros[64 << 10];

}  // namespace

int GatherWriter::add(const uint8_t* bytes, size_t size_bytes) {
  if (pieces_ == pending_.size()) {
    if (const int status = flush(); status != 0) return status;
  }
  pending_[pieces_++] = {.iov_base = const_cast<uint8_t*>(bytes), .iov_len = size_bytes};
  return 0;
}

int GatherWriter::add_zeros(uint64_t size_bytes) {
  while (size_bytes > 0) {
    const auto piece_bytes = static_cast<size_t>(std::min<uint64_t>(size_bytes, sizeof g_zeros));
    if (const int status = add(g_zeros, piece_bytes); status != 0) return status;
    size_bytes -= piece_bytes;
  }
  return 0;
}

int GatherWriter::add_words(uint64_t word, size_t size_bytes) {
  for (size_t at = 0; at < size_bytes; at += kPatternBytes) {
    // A flush gives the patterns free, so it comes before one is chosen.
    if (pieces_ == pending_.size() || (patterns_ == kPatterns && word != last_word_)) {
      if (const int status = flush(); status != 0) return status;
    }
    if (patterns_ == 0 || word != last_word_) {
      fill_words(pattern_[patterns_++].data(), kPatternBytes, word);
      last_word_ = word;
    }
    if (const int status = add(pattern_[patterns_ - 1].data(), kPatternBytes); status != 0) return status;
  }
  return 0;
}

int GatherWriter::flush() {
  for (size_t first = 0; first < pieces_;) {
    const ssize_t wrote =
        pwritev(fd_, &pending_[first], static_cast<int>(pieces_ - first), static_cast<off_t>(position_));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0 && errno == EINVAL && is_hugetlbfs(fd_)) {
      // This file system can be read but not written by system calls.
      const auto* bytes = static_cast<const uint8_t*>(pending_[first].iov_base);
      if (const int status = write_hugetlb(fd_, bytes, pending_[first].iov_len, position_); status != 0) return status;
      position_ += pending_[first++].iov_len;
      continue;
    }
    // A write of nothing says neither what is wrong nor that it will ever go on.
    if (wrote <= 0) return wrote < 0 ? -errno : -EIO;
    auto left_bytes = static_cast<size_t>(wrote);
    position_ += left_bytes;
    while (first < pieces_ && left_bytes >= pending_[first].iov_len) left_bytes -= pending_[first++].iov_len;
    if (first < pieces_) {
      pending_[first].iov_base = static_cast<uint8_t*>(pending_[first].iov_base) + left_bytes;
      pending_[first].iov_len -= left_bytes;
    }
  }
  pieces_ = 0;
  patterns_ = 0;
  return 0;
}

}  // namespace vmsnap
