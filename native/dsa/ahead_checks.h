// The zero checks of the segments that one thread is about to scan.
//
// Each slot holds one segment: submit() makes what of it is in memory reachable and hands it to the device, wait()
// gives an answer for each of its pages. In between the thread does something else. What the device cannot be asked (no
// mapping, not resident, pages in which files join) stays unknown.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "../base/page_answer.h"
#include "../file/extent_cursor.h"
#include "open_device.h"
#include "page_check.h"

namespace vmsnap::dsa {

class AheadChecks {
 public:
  /// Enters the device.
  AheadChecks(std::shared_ptr<OpenDevice> device, size_t page_bytes, size_t slots);
  /// Waits for what is under way and leaves the device.
  ~AheadChecks();
  AheadChecks(const AheadChecks&) = delete;
  AheadChecks& operator=(const AheadChecks&) = delete;

  size_t slots() const { return slots_.size(); }
  bool is_submitted(size_t slot) const { return slots_[slot].submitted; }
  uint64_t size_bytes(size_t slot) const { return slots_[slot].size_bytes; }

  /// The slot is free. The extents add up to whole pages; their files stay open until this object goes.
  void submit(size_t slot, std::span<const Extent> extents);
  /// One answer a page, until the slot is submitted again. The slot is free then.
  std::span<const PageAnswer> wait(size_t slot);
  /// Tells that the CPU found an answer wrong.
  void distrust() { device_->offload().distrust(); }

 private:
  struct Reached {
    std::shared_ptr<SourceMapping> mapping;
    uint64_t offset;
    uint64_t size_bytes;
  };
  struct Slot {
    bool submitted = false;
    uint64_t size_bytes = 0;
    PageCheck check;
    /// Of each run of `check`, the number of its first page in the segment.
    std::vector<size_t> first_pages;
    std::vector<Reached> reached;
    std::vector<PageAnswer> answers;
  };
  struct KnownFile {
    int fd;
    std::shared_ptr<SourceMapping> mapping;
  };

  const std::shared_ptr<SourceMapping>& mapping_of(int fd);
  void add_extent(Slot& slot, const Extent& extent, uint64_t segment_offset);

  std::shared_ptr<OpenDevice> device_;
  size_t page_bytes_;
  std::vector<Slot> slots_;
  std::vector<KnownFile> files_;
  std::vector<ReachableRun> runs_;
};

}  // namespace vmsnap::dsa
