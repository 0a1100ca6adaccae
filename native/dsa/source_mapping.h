// A read-only mapping of a source for the device alone.
//
// The CPU never reads through it: a file that is cut short while it is read would end the process with SIGBUS, where
// pread() gives an error. Pages are made reachable with MADV_POPULATE_READ, which answers EFAULT then.
//
// Only pages that lie in memory already are made reachable, because reaching for others would change the source or cost
// what it should save: a hole of a tmpfs file would be allocated, a swapped page brought in, a file read from disk. The
// kernel tells which these are (mincore), but only to who may write the file or owns it: to others it calls all pages
// resident, so for them there is no mapping. On hugetlbfs it tells what is mapped, not what there is: there a file must
// be allocated altogether. A hole punched between the question and the reach is filled; a source that holds still has
// no such moment.
#pragma once

#include <sys/types.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace vmsnap::dsa {

/// What may be asked of the device: pages that are there, so that reaching them changes nothing about the source.
struct ReachableRun {
  uint64_t offset;
  uint64_t size_bytes;
};

/// May be used by several threads at once.
class SourceMapping {
 public:
  /// Maps all of the file. Null with `error` set (an errno) where it cannot be mapped: EPERM where the kernel would not
  /// tell what is resident, ENODATA for a hugetlbfs file with holes. Keeps no descriptor, but the file itself: while
  /// this lives, a deleted file keeps its memory and its file system cannot be unmounted.
  static std::unique_ptr<SourceMapping> map(int fd, int& error);
  ~SourceMapping();
  SourceMapping(const SourceMapping&) = delete;
  SourceMapping& operator=(const SourceMapping&) = delete;

  const uint8_t* at(uint64_t offset) const;
  uint64_t size_bytes() const;

  /// Makes the resident parts of [offset, offset + size_bytes) reachable, and appends them to `runs` in order, page
  /// aligned. What was made reachable before and not given back is taken to be so still: where the kernel has taken a
  /// page away meanwhile the device meets a page fault, and the driver mends it. What is not in memory (holes, swapped
  /// out, not cached) is left out: the CPU reads it as it always does. Returns 0 or a negative errno (-EFAULT: the file
  /// has become shorter); then nothing was appended.
  int make_reachable(uint64_t offset, uint64_t size_bytes, std::vector<ReachableRun>& runs);

  /// Gives the page tables of a range back, where keeping them would not pay (4 KiB pages); does nothing for 2 MiB
  /// pages. Of pages that lie in the range in part nothing is given back.
  void release(uint64_t offset, uint64_t size_bytes);

  /// Size of the pages in which the source lies in memory, told from a sample: 2 MiB (hugetlbfs, huge tmpfs or memfd)
  /// or 4 KiB.
  size_t backing_page_bytes() const;
  bool is_hugetlb() const { return is_hugetlb_; }

 private:
  SourceMapping();
  /// Maps at an address that is a multiple of `alignment_bytes`. Returns 0 or an errno.
  int map_aligned(int fd, size_t alignment_bytes);
  void find_backing();
  /// Of the pieces that lie in a range: whether all are known to be reachable. A piece is whole or not at all.
  bool is_reached(uint64_t offset, uint64_t end) const;
  void note_reached(uint64_t offset, uint64_t end);
  void forget_reached(uint64_t offset, uint64_t end);

  /// A child of a fork has not got the mapping, and something else may stand in its place there.
  const pid_t owner_;
  uint8_t* base_ = nullptr;
  uint64_t size_bytes_ = 0;
  /// Of the mapping: size_bytes_ rounded up to whole (huge) pages.
  size_t mapped_bytes_ = 0;
  bool is_hugetlb_ = false;
  size_t backing_page_bytes_ = 4096;
  /// One for each piece of 2 MiB; the last may be a shorter one.
  std::vector<std::atomic<bool>> reached_;
};

}  // namespace vmsnap::dsa
