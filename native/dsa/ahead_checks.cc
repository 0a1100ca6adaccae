#include "ahead_checks.h"

#include <algorithm>
#include <ctime>

namespace vmsnap::dsa {

namespace {

uint64_t thread_cpu_nanoseconds() {
  timespec now;
  if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) != 0) return 0;
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

/// Adds the CPU time of its scope to the device's account.
class ReachableTime {
 public:
  explicit ReachableTime(OpenDevice& device) : device_(device), start_(thread_cpu_nanoseconds()) {}
  ~ReachableTime() { device_.add_reachable_cpu(thread_cpu_nanoseconds() - start_); }
  ReachableTime(const ReachableTime&) = delete;
  ReachableTime& operator=(const ReachableTime&) = delete;

 private:
  OpenDevice& device_;
  uint64_t start_;
};

}  // namespace

AheadChecks::AheadChecks(std::shared_ptr<OpenDevice> device, size_t page_bytes, size_t slots)
    : device_(std::move(device)), page_bytes_(page_bytes), slots_(slots) {
  device_->enter();
}

AheadChecks::~AheadChecks() {
  for (size_t slot = 0; slot < slots_.size(); ++slot) wait(slot);
  slots_.clear();
  files_.clear();
  device_->leave();
}

const std::shared_ptr<SourceMapping>& AheadChecks::mapping_of(int fd) {
  for (const KnownFile& file : files_) {
    if (file.fd == fd) return file.mapping;
  }
  int error = 0;
  files_.push_back({.fd = fd, .mapping = device_->mapping_of(fd, error)});
  return files_.back().mapping;
}

void AheadChecks::submit(size_t number, std::span<const Extent> extents) {
  Slot& slot = slots_[number];
  slot.size_bytes = 0;
  for (const Extent& extent : extents) slot.size_bytes += extent.size_bytes;
  slot.check.reset(page_bytes_);
  slot.first_pages.clear();
  slot.submitted = true;
  if (!device_->offload().usable()) return;
  {
    const ReachableTime time(*device_);
    uint64_t segment_offset = 0;
    for (const Extent& extent : extents) {
      if (extent.fd >= 0 && extent.size_bytes > 0) add_extent(slot, extent, segment_offset);
      segment_offset += extent.size_bytes;
    }
  }
  if (!slot.first_pages.empty()) device_->offload().submit(slot.check);
}

/// Adds the pages that lie whole in what can be reached. A page of the segment may start anywhere in the file.
void AheadChecks::add_extent(Slot& slot, const Extent& extent, uint64_t segment_offset) {
  const std::shared_ptr<SourceMapping>& mapping = mapping_of(extent.fd);
  if (mapping == nullptr) return;
  runs_.clear();
  // Too short, or otherwise out of reach: pread() will say what is wrong.
  if (mapping->make_reachable(extent.offset, extent.size_bytes, runs_) != 0) return;
  slot.reached.push_back({.mapping = mapping, .offset = extent.offset, .size_bytes = extent.size_bytes});
  for (const ReachableRun& run : runs_) {
    const uint64_t start = std::max(run.offset, extent.offset);
    const uint64_t end = std::min(run.offset + run.size_bytes, extent.offset + extent.size_bytes);
    // In bytes of the segment.
    const uint64_t from = segment_offset + (start - extent.offset);
    const uint64_t to = segment_offset + (end - extent.offset);
    const uint64_t first_page = (from + page_bytes_ - 1) / page_bytes_;
    const uint64_t end_page = to / page_bytes_;
    if (first_page >= end_page) continue;
    const uint64_t file_offset = extent.offset + (first_page * page_bytes_ - segment_offset);
    slot.check.add(mapping->at(file_offset), static_cast<size_t>(end_page - first_page));
    slot.first_pages.push_back(static_cast<size_t>(first_page));
  }
}

std::span<const PageAnswer> AheadChecks::wait(size_t number) {
  Slot& slot = slots_[number];
  if (!slot.submitted) return {};
  slot.submitted = false;
  slot.answers.assign(static_cast<size_t>(slot.size_bytes / page_bytes_), PageAnswer::unknown);
  if (slot.first_pages.empty()) {
    slot.reached.clear();
    return slot.answers;
  }
  device_->offload().wait(slot.check);
  std::span<const PageAnswer> left = slot.check.answers();
  for (size_t run = 0; run < slot.first_pages.size(); ++run) {
    const size_t pages = slot.check.runs()[run].pages;
    std::copy_n(left.begin(), pages, slot.answers.begin() + static_cast<ptrdiff_t>(slot.first_pages[run]));
    left = left.subspan(pages);
  }
  if (!device_->keeps_mapped()) {
    const ReachableTime time(*device_);
    for (const Reached& reached : slot.reached) reached.mapping->release(reached.offset, reached.size_bytes);
  }
  slot.reached.clear();
  return slot.answers;
}

}  // namespace vmsnap::dsa
