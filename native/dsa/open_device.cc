#include "open_device.h"

#include <algorithm>
#include <cerrno>

#include <fcntl.h>

namespace vmsnap::dsa {

namespace {

/// Saves without it after which a mapping is dropped.
constexpr uint64_t kKeptSaves = 64;

}  // namespace

/// Whether it is a mapping of the file as the file is now.
bool OpenDevice::Source::serves(const struct stat& status) const {
  const bool same_blocks = !mapping->is_hugetlb() || blocks == status.st_blocks;
  return device == status.st_dev && inode == status.st_ino && size_bytes == status.st_size && same_blocks;
}

bool OpenDevice::keeps(int fd) {
  struct stat status;
  if (fstat(fd, &status) != 0) return false;
  const std::lock_guard lock(mutex_);
  return std::any_of(sources_.begin(), sources_.end(), [&](const Source& source) {
    return source.serves(status) && (keep_mapped_ || source.mapping->backing_page_bytes() > 4096);
  });
}

std::shared_ptr<SourceMapping> OpenDevice::mapping_of(int fd, int& error) {
  struct stat status;
  if (fstat(fd, &status) != 0) {
    error = errno;
    return nullptr;
  }
  error = 0;
  const std::lock_guard lock(mutex_);
  for (Source& source : sources_) {
    if (!source.serves(status)) continue;
    source.last_used = saves_;
    return source.mapping;
  }
  // One of the same file from before it changed is of no more use.
  std::erase_if(sources_,
                [&](const Source& source) { return source.device == status.st_dev && source.inode == status.st_ino; });
  std::shared_ptr<SourceMapping> mapping = SourceMapping::map(fd, error);
  if (mapping == nullptr) return nullptr;
  Source source = {.file = UniqueFd(),
                   .device = status.st_dev,
                   .inode = status.st_ino,
                   .size_bytes = status.st_size,
                   .blocks = status.st_blocks,
                   .had_name = status.st_nlink > 0,
                   .last_used = saves_,
                   .mapping = mapping};
  // Without it the mapping serves this save and is dropped.
  source.file.reopen(fd, O_PATH);
  sources_.push_back(std::move(source));
  return mapping;
}

void OpenDevice::leave() {
  if (users_.fetch_sub(1) == 1) forget_stale();
}

void OpenDevice::forget_stale() {
  const std::lock_guard lock(mutex_);
  ++saves_;
  std::erase_if(sources_, [this](const Source& source) {
    struct stat status;
    if (!source.file.is_open() || fstat(source.file.get(), &status) != 0) return true;
    return (source.had_name && status.st_nlink == 0) || source.last_used + kKeptSaves < saves_;
  });
}

}  // namespace vmsnap::dsa
