#include "source_mapping.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include <fcntl.h>
#include <linux/magic.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../file/file_system.h"
#include "../file/unique_fd.h"

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

namespace vmsnap::dsa {

namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kHugePageBytes = size_t{2} << 20;
constexpr uint64_t kStatBlockBytes = 512;

/// Huge blocks that are looked at to find out how the source lies in memory, and how many of them have to be there.
constexpr uint64_t kSampleTries = 64;
constexpr size_t kSamplesWanted = 8;

uint64_t round_down(uint64_t value, uint64_t unit) { return value / unit * unit; }
uint64_t round_up(uint64_t value, uint64_t unit) { return round_down(value + unit - 1, unit); }

/// Returns 0 or a negative errno.
int populate(uint8_t* address, size_t size_bytes) {
  while (madvise(address, size_bytes, MADV_POPULATE_READ) != 0) {
    if (errno != EINTR) return -errno;
  }
  return 0;
}

/// Whether the page tables of this process hold the page.
bool is_mapped(int pagemap, const uint8_t* address) {
  uint64_t entry = 0;
  const auto at = static_cast<off_t>(reinterpret_cast<uintptr_t>(address) / kPageBytes * sizeof entry);
  return pread(pagemap, &entry, sizeof entry, at) == sizeof entry && (entry >> 63) != 0;
}

struct FileFacts {
  uint64_t size_bytes = 0;
  bool is_hugetlb = false;
  bool fully_allocated = true;
  size_t huge_page_bytes = kHugePageBytes;
};

/// Returns 0 or an errno.
int examine(int fd, FileFacts& facts) {
  struct stat status;
  struct statfs file_system;
  if (fstat(fd, &status) != 0 || fstatfs(fd, &file_system) != 0) return errno;
  if (S_ISBLK(status.st_mode)) {
    const int64_t size_bytes = block_device_bytes(fd);
    if (size_bytes < 0) return static_cast<int>(-size_bytes);
    facts.size_bytes = static_cast<uint64_t>(size_bytes);
  } else if (S_ISREG(status.st_mode)) {
    facts.size_bytes = static_cast<uint64_t>(status.st_size);
    facts.is_hugetlb = static_cast<unsigned long>(file_system.f_type) == HUGETLBFS_MAGIC;
    if (facts.is_hugetlb) facts.huge_page_bytes = static_cast<size_t>(file_system.f_bsize);
    facts.fully_allocated = static_cast<uint64_t>(status.st_blocks) * kStatBlockBytes >= facts.size_bytes;
  } else {
    return ENODEV;
  }
  return facts.size_bytes == 0 ? EINVAL : 0;
}

}  // namespace

std::unique_ptr<SourceMapping> SourceMapping::map(int fd, int& error) {
  FileFacts facts;
  error = examine(fd, facts);
  if (error == 0 && facts.is_hugetlb && !facts.fully_allocated) error = ENODATA;
  if (error != 0) return nullptr;
  std::unique_ptr<SourceMapping> mapping(new SourceMapping());
  mapping->size_bytes_ = facts.size_bytes;
  mapping->is_hugetlb_ = facts.is_hugetlb;
  mapping->mapped_bytes_ = round_up(facts.size_bytes, facts.huge_page_bytes);
  if (facts.is_hugetlb) mapping->backing_page_bytes_ = facts.huge_page_bytes;
  mapping->reached_ = std::vector<std::atomic<bool>>(round_up(facts.size_bytes, kHugePageBytes) / kHugePageBytes);
  // One page past all that the file can have, where an honest answer is "not resident".
  if (!facts.is_hugetlb) mapping->mapped_bytes_ += kPageBytes;
  error = mapping->map_aligned(fd, facts.huge_page_bytes);
  if (error != 0) return nullptr;
  if (!facts.is_hugetlb) {
    unsigned char residence = 0;
    if (mincore(mapping->base_ + mapping->mapped_bytes_ - kPageBytes, kPageBytes, &residence) != 0) error = errno;
    if (error == 0 && (residence & 1) != 0) error = EPERM;
    if (error != 0) return nullptr;
    mapping->find_backing();
  }
  return mapping;
}

int SourceMapping::map_aligned(int fd, size_t alignment_bytes) {
  const size_t reserved_bytes = mapped_bytes_ + alignment_bytes;
  void* reserved = mmap(nullptr, reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return errno;
  auto* const start = static_cast<uint8_t*>(reserved);
  const auto address = reinterpret_cast<uintptr_t>(start);
  const size_t before_bytes = round_up(address, alignment_bytes) - address;
  const int flags = MAP_SHARED | MAP_NORESERVE | MAP_FIXED;
  if (mmap(start + before_bytes, mapped_bytes_, PROT_READ, flags, fd, 0) == MAP_FAILED) {
    const int error = errno;
    munmap(start, reserved_bytes);
    return error;
  }
  base_ = start + before_bytes;
  if (before_bytes > 0) munmap(start, before_bytes);
  const size_t after_bytes = alignment_bytes - before_bytes;
  if (after_bytes > 0) munmap(base_ + mapped_bytes_, after_bytes);
  // Without read-ahead, which would bring in pages that nobody asked for; and guest memory belongs neither into a core
  // dump nor into a child. Huge pages need no advice: where the source has them they are mapped as such, and advice
  // would only set the kernel to making them.
  madvise(base_, mapped_bytes_, MADV_RANDOM);
  madvise(base_, mapped_bytes_, MADV_DONTDUMP);
  madvise(base_, mapped_bytes_, MADV_DONTFORK);
  return 0;
}

SourceMapping::SourceMapping() : owner_(getpid()) {}

SourceMapping::~SourceMapping() {
  if (base_ != nullptr && getpid() == owner_) munmap(base_, mapped_bytes_);
}

/// Populates one page in some of the huge blocks that lie in memory whole: a huge page appears altogether, of others at
/// most the neighbours.
void SourceMapping::find_backing() {
  UniqueFd pagemap(open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  const uint64_t blocks = size_bytes_ / kHugePageBytes;
  const uint64_t step = std::max<uint64_t>(blocks / kSampleTries, 1);
  size_t found = 0;
  size_t huge = 0;
  std::array<unsigned char, kHugePageBytes / kPageBytes> residence;
  for (uint64_t block = 0; block < blocks && found < kSamplesWanted; block += step) {
    uint8_t* const address = base_ + block * kHugePageBytes;
    if (mincore(address, kHugePageBytes, residence.data()) != 0) return;
    const auto resident =
        std::count_if(residence.begin(), residence.end(), [](unsigned char r) { return (r & 1) != 0; });
    if (resident == 0) continue;
    ++found;
    if (static_cast<size_t>(resident) < residence.size() || populate(address, kPageBytes) != 0) continue;
    if (is_mapped(pagemap.get(), address + kHugePageBytes - kPageBytes)) ++huge;
    madvise(address, kHugePageBytes, MADV_DONTNEED);
  }
  if (huge * 2 > found) backing_page_bytes_ = kHugePageBytes;
}

const uint8_t* SourceMapping::at(uint64_t offset) const { return base_ + offset; }
uint64_t SourceMapping::size_bytes() const { return size_bytes_; }
size_t SourceMapping::backing_page_bytes() const { return backing_page_bytes_; }

int SourceMapping::make_reachable(uint64_t offset, uint64_t size_bytes, std::vector<ReachableRun>& runs) {
  if (offset > size_bytes_ || size_bytes > size_bytes_ - offset) return -EFAULT;
  const size_t runs_before = runs.size();
  const uint64_t end = round_up(offset + size_bytes, kPageBytes);
  std::array<unsigned char, 4096> residence;
  if (is_hugetlb_) residence.fill(1);
  for (uint64_t at = round_down(offset, kPageBytes); at < end;) {
    const uint64_t part_bytes = std::min<uint64_t>(end - at, residence.size() * kPageBytes);
    if (!is_hugetlb_ && mincore(base_ + at, part_bytes, residence.data()) != 0) {
      runs.resize(runs_before);
      return -errno;
    }
    for (uint64_t page = 0; page < part_bytes / kPageBytes; ++page) {
      if ((residence[page] & 1) == 0) continue;
      const uint64_t start = at + page * kPageBytes;
      if (runs.size() > runs_before && runs.back().offset + runs.back().size_bytes == start) {
        runs.back().size_bytes += kPageBytes;
      } else {
        runs.push_back({.offset = start, .size_bytes = kPageBytes});
      }
    }
    at += part_bytes;
  }
  // Walking page tables that are filled already costs a quarter of what reading and checking the pages does. The last
  // page tells whether the file was cut short.
  const bool reached = is_reached(offset, end);
  for (size_t i = reached && runs.size() > runs_before ? runs.size() - 1 : runs_before; i < runs.size(); ++i) {
    const uint64_t skipped_bytes = reached ? runs[i].size_bytes - kPageBytes : 0;
    const int status = populate(base_ + runs[i].offset + skipped_bytes, runs[i].size_bytes - skipped_bytes);
    if (status != 0) {
      runs.resize(runs_before);
      return status;
    }
  }
  if (!reached) note_reached(offset, end);
  return 0;
}

bool SourceMapping::is_reached(uint64_t offset, uint64_t end) const {
  const auto first = reached_.begin() + static_cast<ptrdiff_t>(offset / kHugePageBytes);
  const auto last = reached_.begin() + static_cast<ptrdiff_t>(round_up(end, kHugePageBytes) / kHugePageBytes);
  return std::all_of(first, last, [](const std::atomic<bool>& reached) { return reached.load(); });
}

void SourceMapping::note_reached(uint64_t offset, uint64_t end) {
  const uint64_t whole_end = end >= size_bytes_ ? reached_.size() : end / kHugePageBytes;
  for (uint64_t piece = round_up(offset, kHugePageBytes) / kHugePageBytes; piece < whole_end; ++piece) {
    reached_[piece].store(true);
  }
}

void SourceMapping::forget_reached(uint64_t offset, uint64_t end) {
  const uint64_t part_end = round_up(end, kHugePageBytes) / kHugePageBytes;
  for (uint64_t piece = offset / kHugePageBytes; piece < part_end; ++piece) reached_[piece].store(false);
}

void SourceMapping::release(uint64_t offset, uint64_t size_bytes) {
  if (backing_page_bytes_ > kPageBytes || offset > size_bytes_ || size_bytes > size_bytes_ - offset) return;
  const uint64_t start = round_up(offset, kPageBytes);
  // Of the file's last page the rest is nobody's.
  const bool to_the_end = offset + size_bytes == size_bytes_;
  const uint64_t end = to_the_end ? round_up(size_bytes_, kPageBytes) : round_down(offset + size_bytes, kPageBytes);
  if (start >= end) return;
  forget_reached(start, end);
  madvise(base_ + start, end - start, MADV_DONTNEED);
}

}  // namespace vmsnap::dsa
