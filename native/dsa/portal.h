// Stores of 64 bytes to a mapped portal: ENQCMD for shared queues, MOVDIR64B for dedicated ones.
//
// A portal page has 64 slots that mean the same; using one after the other spares the CPU from waiting until the store
// before has left its write-combining buffer.
#pragma once

#include <atomic>
#include <cstdint>

#include "descriptor.h"

namespace vmsnap::dsa {

/// What CPUID says of this machine; false on other architectures.
bool cpu_has_enqcmd();
bool cpu_has_movdir64b();

/// May be used by several threads at once.
class Portal {
 public:
  /// `address` is a mapped portal page, or null for none, as in the beginning.
  void map(void* address) { address_ = static_cast<uint8_t*>(address); }
  void* address() const { return address_; }

  /// Makes all stores before it visible to the device; once before the stores of descriptors.
  static void order_stores();

  /// To a shared queue; false if it did not take it. Ends the process where the CPU or the kernel (PASID) does not know
  /// the instruction: queue_probe.cc asks first.
  bool enqueue(const Descriptor& descriptor);
  /// To a dedicated queue, which drops silently what is too much for it.
  void store(const Descriptor& descriptor);

 private:
  uint8_t* next_slot();

  uint8_t* address_ = nullptr;
  std::atomic<uint32_t> slot_{0};
};

}  // namespace vmsnap::dsa
