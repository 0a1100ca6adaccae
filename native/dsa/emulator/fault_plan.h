// Which faults a test wants at which number, and the random ones. Of one queue; guarded by that queue's lock.
#pragma once

#include <optional>
#include <vector>

#include "emulator.h"

namespace vmsnap::dsa {

struct RandomFaults {
  uint64_t seed = 0;
  uint32_t permille = 0;
  std::vector<FaultKind> kinds;
};

struct PlannedFault {
  FaultKind kind;
  uint64_t value;
};

class FaultPlan {
 public:
  /// What is counted separately.
  enum class Counter : uint8_t { compare, descriptor, batch, submission, call };

  explicit FaultPlan(RandomFaults random) : random_(std::move(random)) {}

  static Counter counter_of(const Fault& fault);

  /// Allocates: never in a signal handler.
  void add(const Fault& fault) { faults_.push_back(fault); }

  /// The first planned fault for that number, else perhaps a random one. Allocates nothing.
  std::optional<PlannedFault> find(Counter counter, uint64_t number) const;

 private:
  std::optional<PlannedFault> roll(Counter counter, uint64_t number) const;

  std::vector<Fault> faults_;
  RandomFaults random_;
};

/// Concerns the whole device from then on.
inline bool is_turning_point(FaultKind kind) {
  return kind == FaultKind::device_lost || kind == FaultKind::device_halted || kind == FaultKind::device_back;
}

}  // namespace vmsnap::dsa
