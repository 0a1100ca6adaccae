// One emulated device with an open queue, and descriptors made by hand: nothing of the driver is used.
#pragma once

#include <cstdlib>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <sys/mman.h>
#include <time.h>

#include "../../dsa/descriptor.h"
#include "../../dsa/emulator/emulator.h"
#include "check.h"

namespace vmsnap::test {

/// Anonymous pages, given back at the end. Not touched yet.
class Pages {
 public:
  explicit Pages(size_t count) : size_bytes_(count * 4096) {
    void* address = mmap(nullptr, size_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (address == MAP_FAILED) std::abort();
    // Faults are about pages of 4 KiB, so no others may come.
    madvise(address, size_bytes_, MADV_NOHUGEPAGE);
    bytes_ = static_cast<uint8_t*>(address);
  }
  ~Pages() {
    for (size_t offset = 0; offset < size_bytes_; offset += 4096) {
      if (!holes_.contains(offset)) munmap(bytes_ + offset, 4096);
    }
  }
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;

  Pages& fill(uint8_t value) {
    std::memset(bytes_, value, size_bytes_);
    return *this;
  }
  /// What somebody else may map there later is not ours to unmap.
  void unmap_page(size_t offset) {
    if (holes_.insert(offset).second) munmap(bytes_ + offset, 4096);
  }
  uint8_t* at(size_t offset = 0) const { return bytes_ + offset; }
  size_t size_bytes() const { return size_bytes_; }

 private:
  uint8_t* bytes_;
  size_t size_bytes_;
  std::set<size_t> holes_;
};

/// What a completion record tells, as its bytes lie.
struct RecordCopy {
  uint8_t status;
  uint8_t result;
  uint8_t fault_info;
  uint8_t reserved;
  uint32_t bytes_completed;
  uint64_t fault_address;
  uint64_t specific;
  uint64_t rest;
};
static_assert(sizeof(RecordCopy) == dsa::kRecordBytes);

inline RecordCopy copy_of(const dsa::CompletionRecord& record) {
  RecordCopy copy;
  std::memcpy(&copy, const_cast<const dsa_completion_record*>(&record.hw), sizeof copy);
  return copy;
}

/// 0 if nothing came in time.
inline uint8_t await_record(const dsa::CompletionRecord& record, unsigned milliseconds = 5000) {
  const timespec nap = {0, 20'000};
  timespec start;
  clock_gettime(CLOCK_MONOTONIC, &start);
  for (;;) {
    const uint8_t status = __atomic_load_n(&record.hw.status, __ATOMIC_ACQUIRE);
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    const int64_t passed = (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1'000'000;
    if (status != 0 || passed >= int64_t{milliseconds}) return status;
    nanosleep(&nap, nullptr);
  }
}

/// A device may write to a record as long as its queue is open, so those that were not answered are kept to the end.
inline void keep_for_ever(std::shared_ptr<void> memory) {
  static std::vector<std::shared_ptr<void>> kept;
  kept.push_back(std::move(memory));
}

inline uint64_t address_of(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

/// With a record that is asked for, if there is one.
inline dsa_hw_desc descriptor_of(unsigned opcode, const dsa::CompletionRecord* record) {
  dsa_hw_desc descriptor{};
  descriptor.opcode = opcode & 0xff;
  if (record != nullptr) descriptor.flags = IDXD_OP_FLAG_CRAV | IDXD_OP_FLAG_RCR;
  descriptor.completion_addr = address_of(record);
  return descriptor;
}

inline dsa_hw_desc compval_of(const void* source, uint32_t size_bytes, uint64_t pattern,
                              const dsa::CompletionRecord* record) {
  dsa_hw_desc descriptor = descriptor_of(DSA_OPCODE_COMPVAL, record);
  descriptor.src_addr = address_of(source);
  descriptor.comp_pattern = pattern;
  descriptor.xfer_size = size_bytes;
  return descriptor;
}

inline dsa_hw_desc batch_of(const void* list, uint32_t count, const dsa::CompletionRecord* record) {
  dsa_hw_desc descriptor = descriptor_of(DSA_OPCODE_BATCH, record);
  descriptor.desc_list_addr = address_of(list);
  descriptor.desc_count = count;
  return descriptor;
}

#if defined(__x86_64__)
struct StoreAnswer {
  bool zero_flag;
  uint32_t ecx;
};

inline StoreAnswer enqcmd(void* portal, const dsa_hw_desc& descriptor) {
  uint32_t ecx = 2;
  uint8_t zero_flag = 0;
  asm volatile(".byte 0xf2, 0x0f, 0x38, 0xf8, 0x02\n\tsetz %0"
               : "=&q"(zero_flag), "+c"(ecx)
               : "a"(portal), "d"(&descriptor)
               : "memory", "cc");
  return {zero_flag != 0, ecx};
}

inline void movdir64b(void* portal, const dsa_hw_desc& descriptor) {
  asm volatile(".byte 0x66, 0x0f, 0x38, 0xf8, 0x02" : : "a"(portal), "d"(&descriptor) : "memory");
}
#endif

/// An emulator with device 0, whose queue 0 is open. Not `ready` where this system has no way to emulate (then the test
/// has been marked as skipped).
class Rig {
 public:
  explicit Rig(const dsa::EmulatorConfig& config = {}) {
    std::string error;
    emulator_ = dsa::Emulator::create(config, error);
    if (!emulator_) {
      skip(error);
      return;
    }
    fd_ = emulator_->open(node().c_str());
  }
  ~Rig() {
    if (portal_ != nullptr) emulator_->unmap_portal(portal_);
    if (fd_ >= 0) emulator_->close(fd_);
  }
  Rig(const Rig&) = delete;
  Rig& operator=(const Rig&) = delete;

  bool ready() const { return emulator_ != nullptr; }
  dsa::Emulator& emulator() { return *emulator_; }
  int fd() const { return fd_; }
  std::string node(unsigned queue = 0) const { return emulator_->device_root() + "/wq0." + std::to_string(queue); }

  ssize_t write(const void* descriptors, size_t count = 1) {
    return emulator_->write(fd_, descriptors, count * sizeof(dsa_hw_desc));
  }

  /// Mapped at the first call; null if that failed.
  void* portal() {
    if (portal_ == nullptr) map_error_ = emulator_->map_portal(fd_, portal_);
    return portal_;
  }
  int map_error() const { return map_error_; }

  /// Fills in the record's address and waits for the record.
  RecordCopy run(dsa_hw_desc descriptor) {
    auto record = std::make_unique<dsa::CompletionRecord>();
    descriptor.completion_addr = address_of(record.get());
    CHECK_EQ(write(&descriptor), ssize_t{64});
    await_record(*record);
    return taken(record);
  }

  /// A copy. A record that has not been written may still be: then its memory stays.
  static RecordCopy taken(std::unique_ptr<dsa::CompletionRecord>& record) {
    const RecordCopy copy = copy_of(*record);
    if (copy.status == 0) keep_for_ever(std::move(record));
    return copy;
  }

 private:
  std::unique_ptr<dsa::Emulator> emulator_;
  int fd_ = -1;
  void* portal_ = nullptr;
  int map_error_ = 0;
};

}  // namespace vmsnap::test
