// One work queue: what arrives by portal or write() until an engine takes it.
//
// Everything here is guarded by a spin lock and allocates nothing, as portal stores come from inside a signal handler.
#pragma once

#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

#include "../descriptor.h"
#include "emulator.h"
#include "fault_plan.h"
#include "futex.h"
#include "portal_trap.h"
#include "validate.h"

namespace vmsnap::dsa {

class Queue;

/// Whether a device works. Each change for the worse begins a new epoch: what arrived in an earlier one is lost.
class DeviceCondition {
 public:
  enum class State : uint32_t { working, halted, lost };

  State state() const { return static_cast<State>(word_.load() & 3); }
  uint32_t epoch() const { return word_.load() >> 2; }
  bool works(uint32_t epoch) const { return word_.load() == epoch << 2; }

  void become(FaultKind kind) {
    const State next = kind == FaultKind::device_lost     ? State::lost
                       : kind == FaultKind::device_halted ? State::halted
                                                          : State::working;
    uint32_t word = word_.load();
    uint32_t changed;
    do {
      const uint32_t epoch = (word >> 2) + (next == State::working ? 0 : 1);
      changed = epoch << 2 | static_cast<uint32_t>(next);
    } while (!word_.compare_exchange_weak(word, changed));
  }

 private:
  std::atomic<uint32_t> word_{0};
};

/// Shared by the queues of a device and those who wait for them.
struct DeviceSignals {
  DeviceCondition condition;
  /// Rung for engines: an operation has arrived, or time has to be looked at again.
  Doorbell work;
  /// Rung when the software error becomes valid.
  Doorbell error_bell;

  /// One of the kinds that concern the device; tells those who wait.
  void become(FaultKind kind);
  void report(const SoftwareError& error);
  SoftwareError software_error() const;
  void clear_error();

 private:
  mutable SpinLock lock_;
  SoftwareError error_;
};

/// A descriptor as it arrived.
struct Operation {
  dsa_hw_desc descriptor;
  /// Of the queue, in order of arrival.
  uint64_t number;
  uint32_t epoch;
};

class Queue final : public PortalSink {
 public:
  Queue(unsigned number, const EmulatedQueue& setup, const EmulatedDevice& device, RandomFaults random,
        DeviceSignals& signals);

  const EmulatedQueue& setup() const { return setup_; }
  const Rules& rules() const { return rules_; }
  unsigned number() const { return number_; }

  Answer store(const uint8_t* descriptor, bool by_enqcmd) override;

  /// Begins a write(): the fault that is planned for this call, if any.
  std::optional<PlannedFault> begin_write();
  /// A write() for which the queue is full by plan: whether it is refused, else it is dropped.
  bool refuse_write();
  /// One descriptor of a write(): 0 or an errno.
  int write(dsa_hw_desc descriptor);

  void add_fault(const Fault& fault);

  // For engines.
  std::optional<Operation> next();
  bool is_empty() const;
  /// Its entry is free from now on.
  void release_entry();
  uint64_t number_batch();
  /// First of `count` consecutive numbers of compares.
  uint64_t number_compares(uint64_t count);
  std::optional<PlannedFault> planned(FaultPlan::Counter counter, uint64_t number) const;

 private:
  enum class Taken : uint8_t { yes, dropped, full };

  // The lock is held.
  std::optional<PlannedFault> count_submission();
  Taken take(const dsa_hw_desc& descriptor);
  // The lock is not held.
  void tell(Taken taken, const dsa_hw_desc& descriptor);

  const unsigned number_;
  const EmulatedQueue setup_;
  Rules rules_;
  DeviceSignals& signals_;

  mutable SpinLock lock_;
  FaultPlan plan_;
  std::vector<Operation> ring_;
  uint64_t arrived_ = 0;
  uint64_t taken_ = 0;
  uint32_t entries_ = 0;
  uint64_t submissions_ = 0;
  uint64_t calls_ = 0;
  uint64_t batches_ = 0;
  uint64_t compares_ = 0;
};

}  // namespace vmsnap::dsa
