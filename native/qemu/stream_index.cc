#include "stream_index.h"

#include "wire.h"

namespace vmsnap::qemu {

StreamIndex::StreamIndex(int fd, uint64_t offset, uint64_t end, int table_fd)
    : parser_(ByteInput::of_file(fd, offset, end)), table_(table_fd) {}

bool StreamIndex::read_head(const int32_t* abort) {
  if (!parser_.read_head(abort)) return false;
  uint64_t first_page = 0;
  for (const RamBlock& block : head().blocks) {
    first_pages_.push_back(first_page);
    first_page += block.used_bytes / kPageBytes;
  }
  pages_.resize(head().blocks.size());
  return true;
}

Next StreamIndex::step(uint64_t most_bytes, const int32_t* abort) {
  const uint64_t start = position();
  while (position() - start < most_bytes) {
    PageRecord record;
    const Next next = parser_.next(record, abort);
    if (next == Next::kFault) return next;
    if (next == Next::kRamEnd) {
      const int status = table_.flush();
      if (status == 0) return next;
      fault_ = {.kind = FaultKind::kSystem, .offset = 0, .what = {}, .hint = {}, .error = status, .of_table = true};
      return Next::kFault;
    }
    if (!enter(record)) return Next::kFault;
    if (record.is_zero) continue;
    if (const int status = parser_.input().skip(kPageBytes, abort); status != 0) {
      parser_.input_fault(status, "the bytes of a page");
      return Next::kFault;
    }
  }
  return Next::kPage;
}

bool StreamIndex::enter(const PageRecord& record) {
  uint64_t before = kNeverSent;
  const uint64_t value = record.is_zero ? kSentZero : position();
  const uint64_t page = first_pages_[record.block] + record.offset / kPageBytes;
  if (const int status = table_.exchange(page, value, before); status != 0) {
    fault_ = {.kind = FaultKind::kSystem, .offset = 0, .what = {}, .hint = {}, .error = status, .of_table = true};
    return false;
  }
  BlockPages& counts = pages_[record.block];
  if (before != kNeverSent) {
    ++repeated_;
    --(before == kSentZero ? counts.zero : counts.data);
  }
  ++(record.is_zero ? counts.zero : counts.data);
  return true;
}

}  // namespace vmsnap::qemu
