// How a thread waits for a store of the device: in the core for short, by sleeping for long.
#pragma once

#include <cstdint>

#include "descriptor.h"

namespace vmsnap::dsa {

/// UMONITOR, UMWAIT (CPUID: WAITPKG).
bool cpu_has_waitpkg();

/// One `pause`: for loops that wait for another core.
void relax_core();

class CpuWait {
 public:
  /// Something was ready: the next wait is a short one again.
  void reset() { waits_ = 0; }
  /// Whether the next wait() is still one in the core, for which nobody should do more than look at records.
  bool is_short() const { return waits_ < kShortWaits; }
  /// A little, and more with each call without a reset(): first in the core, watching `record`, then asleep for times
  /// that grow to a fifth of a millisecond. May return at any time.
  void wait(const CompletionRecord& record);
  /// The same without anything to watch: sleeps.
  void sleep();

 private:
  static constexpr uint32_t kShortWaits = 32;

  bool has_waitpkg_ = cpu_has_waitpkg();
  uint32_t waits_ = 0;
};

}  // namespace vmsnap::dsa
