#include "page_table.h"

#include <algorithm>
#include <cerrno>

#include <unistd.h>

namespace vmsnap::qemu {

namespace {

constexpr size_t kPartBytes = 4096;
constexpr size_t kEntriesPerPart = kPartBytes / sizeof(uint64_t);
constexpr size_t kParts = 256;
constexpr uint64_t kNoPart = UINT64_MAX;

}  // namespace

PageTable::PageTable(int fd)
    : fd_(fd), parts_(kParts, {.number = kNoPart, .dirty = false}), entries_(kParts * kEntriesPerPart) {}

uint64_t* PageTable::entries_of(size_t slot) { return entries_.data() + slot * kEntriesPerPart; }

int PageTable::exchange(uint64_t page, uint64_t value, uint64_t& before) {
  const uint64_t number = page / kEntriesPerPart;
  const size_t slot = number % kParts;
  if (parts_[slot].number != number) {
    if (const int status = load(number); status != 0) return status;
  }
  uint64_t& entry = entries_of(slot)[page % kEntriesPerPart];
  before = entry;
  entry = value;
  parts_[slot].dirty = true;
  return 0;
}

int PageTable::load(uint64_t number) {
  const size_t slot = number % kParts;
  if (const int status = write_back(slot); status != 0) return status;
  parts_[slot] = {.number = kNoPart, .dirty = false};
  auto* bytes = reinterpret_cast<uint8_t*>(entries_of(slot));
  for (size_t done = 0; done < kPartBytes;) {
    const ssize_t got = pread(fd_, bytes + done, kPartBytes - done, static_cast<off_t>(number * kPartBytes + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (got == 0) {
      std::fill(bytes + done, bytes + kPartBytes, uint8_t{0});
      break;
    }
    done += static_cast<size_t>(got);
  }
  parts_[slot].number = number;
  return 0;
}

int PageTable::write_back(size_t slot) {
  if (!parts_[slot].dirty) return 0;
  const auto* bytes = reinterpret_cast<const uint8_t*>(entries_of(slot));
  const uint64_t at = parts_[slot].number * kPartBytes;
  for (size_t done = 0; done < kPartBytes;) {
    const ssize_t wrote = pwrite(fd_, bytes + done, kPartBytes - done, static_cast<off_t>(at + done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return wrote < 0 ? -errno : -EIO;
    done += static_cast<size_t>(wrote);
  }
  parts_[slot].dirty = false;
  return 0;
}

int PageTable::flush() {
  for (size_t slot = 0; slot < kParts; ++slot) {
    if (const int status = write_back(slot); status != 0) return status;
  }
  return 0;
}

}  // namespace vmsnap::qemu
