// A device that has answered before a store or a write() returns, on the thread that submits: for measuring the host's
// side alone, without waiting. Knows NOOP, compare pattern (with 0) and batches of those, and no errors.
//
// It must not bring memory into the CPU's caches that a real device leaves out of them. So it looks at one line of each
// block of 4 KiB only, and is right where blocks that are not zero are not zero there.
#pragma once

#include <algorithm>
#include <array>
#include <cstring>

#include "../../dsa/descriptor.h"
#include "../../dsa/device_calls.h"
#include "../../dsa/emulator/portal_trap.h"

namespace vmsnap::test {

class ReadyDevice final : public dsa::DeviceCalls, public dsa::PortalSink {
 public:
  /// `nodes`: the emulated device, whose queues are opened.
  explicit ReadyDevice(dsa::DeviceCalls& nodes) : nodes_(nodes) {}

  int open(const char* path) override { return nodes_.open(path); }
  int map_portal(int, void*& portal) override { return dsa::map_portal_page(*this, portal); }
  int unmap_portal(void* portal) override { return dsa::unmap_portal_page(portal); }
  int poll_error(int fd, int timeout_milliseconds) override { return nodes_.poll_error(fd, timeout_milliseconds); }
  int close(int fd) override { return nodes_.close(fd); }

  ssize_t write(int, const void* bytes, size_t size_bytes) override {
    const auto* descriptors = static_cast<const dsa::Descriptor*>(bytes);
    for (size_t i = 0; i < size_bytes / dsa::kDescriptorBytes; ++i) execute(descriptors[i].hw);
    return static_cast<ssize_t>(size_bytes);
  }

  Answer store(const uint8_t* bytes, bool) override {
    dsa_hw_desc descriptor;
    std::memcpy(&descriptor, bytes, sizeof descriptor);
    execute(descriptor);
    return Answer::taken;
  }

  static void execute(const dsa_hw_desc& descriptor) {
    auto* const record = reinterpret_cast<dsa_completion_record*>(descriptor.completion_addr);
    record->result = 0;
    record->bytes_completed = 0;
    if (descriptor.opcode == DSA_OPCODE_BATCH) {
      const auto* members = reinterpret_cast<const dsa::Descriptor*>(descriptor.desc_list_addr);
      for (uint32_t i = 0; i < descriptor.desc_count; ++i) execute(members[i].hw);
    } else if (descriptor.opcode == DSA_OPCODE_COMPVAL) {
      compare(descriptor, *record);
    }
    __atomic_store_n(&record->status, DSA_COMP_SUCCESS, __ATOMIC_RELEASE);
  }

 private:
  static constexpr uint32_t kBlockBytes = 4096;
  /// Where a queue's probe puts its difference too.
  static constexpr uint32_t kLineAt = 2752;

  /// Tells of a difference the block in which it lies.
  static void compare(const dsa_hw_desc& descriptor, dsa_completion_record& record) {
    static constexpr std::array<uint8_t, 64> kZeros{};
    const auto* const source = reinterpret_cast<const uint8_t*>(descriptor.src_addr);
    for (uint32_t at = 0; at < descriptor.xfer_size; at += kBlockBytes) {
      if (std::memcmp(source + at + kLineAt, kZeros.data(), kZeros.size()) == 0) continue;
      record.result = 1;
      record.bytes_completed = at;
      return;
    }
  }

  dsa::DeviceCalls& nodes_;
};

}  // namespace vmsnap::test
