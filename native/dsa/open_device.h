// A device in use by this process: its queues, the mappings of the sources that it reads, and who uses it.
//
// Shared by all threads of a save, and kept over several saves by a program that wants to: what makes a source
// reachable (its mapping, and with 2 MiB pages its page tables) is then there already.
#pragma once

#include <sys/stat.h>
#include <sys/types.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <vector>

#include "../file/unique_fd.h"
#include "emulator/emulator.h"
#include "offload.h"
#include "source_mapping.h"

namespace vmsnap::dsa {

class OpenDevice {
 public:
  /// `emulator` is null for real queues. `keep_mapped`: page tables of 4 KiB pages are kept too once they are filled.
  OpenDevice(std::unique_ptr<Emulator> emulator, std::unique_ptr<Offload> offload, bool keep_mapped)
      : emulator_(std::move(emulator)), offload_(std::move(offload)), keep_mapped_(keep_mapped) {}

  Offload& offload() { return *offload_; }
  /// Null for real queues.
  Emulator* emulator() { return emulator_.get(); }
  bool keeps_mapped() const { return keep_mapped_; }

  /// The mapping of an open file, made at its first use and again when the file has changed its size (on hugetlbfs: or
  /// what of it is allocated). Null with `error` set where it cannot be mapped.
  std::shared_ptr<SourceMapping> mapping_of(int fd, int& error);

  /// Whether page tables of the file are kept from an earlier save.
  bool keeps(int fd);

  /// Whoever uses the device says so. When the last one leaves, a save is over: mappings of files that were deleted
  /// since, or not used for long, are dropped.
  void enter() { users_.fetch_add(1); }
  void leave();
  bool in_use() const { return users_.load() > 0; }

  void add_reachable_cpu(uint64_t nanoseconds) { reachable_cpu_.fetch_add(nanoseconds, std::memory_order_relaxed); }
  /// CPU time spent on making pages reachable, in nanoseconds, over all threads.
  uint64_t reachable_cpu() const { return reachable_cpu_.load(std::memory_order_relaxed); }

 private:
  struct Source {
    /// O_PATH: tells whether the file still has a name. The inode cannot be given to another file while it is mapped.
    UniqueFd file;
    dev_t device;
    ino_t inode;
    off_t size_bytes;
    blkcnt_t blocks;
    bool had_name;
    uint64_t last_used;
    std::shared_ptr<SourceMapping> mapping;

    bool serves(const struct stat& status) const;
  };

  void forget_stale();

  std::mutex mutex_;
  uint64_t saves_ = 0;
  // The queues go before what they may still read, and before what answers them.
  std::vector<Source> sources_;
  std::unique_ptr<Emulator> emulator_;
  std::unique_ptr<Offload> offload_;
  bool keep_mapped_;
  std::atomic<uint32_t> users_ = 0;
  std::atomic<uint64_t> reachable_cpu_ = 0;
};

}  // namespace vmsnap::dsa
