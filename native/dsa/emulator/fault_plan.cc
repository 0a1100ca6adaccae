#include "fault_plan.h"

#include <array>
#include <cerrno>

namespace vmsnap::dsa {

namespace {

uint64_t scramble(uint64_t value) {
  value += 0x9e3779b97f4a7c15U;
  value = (value ^ (value >> 30)) * 0xbf58476d1ce4e5b9U;
  value = (value ^ (value >> 27)) * 0x94d049bb133111ebU;
  return value ^ (value >> 31);
}

// Those that a compare of a right descriptor can end with, with and without the bit for a write.
constexpr std::array<uint8_t, 12> kRandomStatuses = {0x03, 0x04, 0x10, 0x11, 0x13, 0x1a,
                                                     0x1f, 0x20, 0x21, 0x22, 0x83, 0x84};
constexpr std::array<int, 3> kRandomErrors = {EAGAIN, EINVAL, EIO};

uint64_t random_value(FaultKind kind, uint64_t random) {
  switch (kind) {
    case FaultKind::status:
      return kRandomStatuses[random % kRandomStatuses.size()];
    case FaultKind::late:
      return 1 + random % 20;
    case FaultKind::write_error:
      return static_cast<uint64_t>(kRandomErrors[random % kRandomErrors.size()]);
    case FaultKind::short_write:
      return 1 + random % 63;
    case FaultKind::batch_list_fault:
      return random % 64;
    default:
      return random % (uint64_t{2} << 20);
  }
}

}  // namespace

FaultPlan::Counter FaultPlan::counter_of(const Fault& fault) {
  switch (fault.kind) {
    case FaultKind::batch_list_fault:
      return Counter::batch;
    case FaultKind::queue_full:
    case FaultKind::device_lost:
    case FaultKind::device_halted:
    case FaultKind::device_back:
      return Counter::submission;
    case FaultKind::short_write:
    case FaultKind::write_error:
      return Counter::call;
    default:
      return fault.of == FaultUnit::compares ? Counter::compare : Counter::descriptor;
  }
}

std::optional<PlannedFault> FaultPlan::find(Counter counter, uint64_t number) const {
  for (const Fault& fault : faults_) {
    if (counter_of(fault) != counter || number < fault.first) continue;
    if (is_turning_point(fault.kind) ? number != fault.first : number - fault.first >= fault.count) continue;
    return PlannedFault{fault.kind, fault.value};
  }
  return roll(counter, number);
}

std::optional<PlannedFault> FaultPlan::roll(Counter counter, uint64_t number) const {
  if (random_.permille == 0 || counter == Counter::descriptor) return std::nullopt;
  const uint64_t random = scramble(scramble(random_.seed + static_cast<uint64_t>(counter)) + number);
  if (random % 1000 >= random_.permille) return std::nullopt;
  // Of the kinds that can be here; which, is random too.
  size_t fitting = 0;
  for (const FaultKind kind : random_.kinds) fitting += counter_of({.kind = kind}) == counter ? 1 : 0;
  if (fitting == 0) return std::nullopt;
  size_t chosen = scramble(random) % fitting;
  for (const FaultKind kind : random_.kinds) {
    if (counter_of({.kind = kind}) != counter || chosen-- != 0) continue;
    if (is_turning_point(kind)) return std::nullopt;
    return PlannedFault{kind, random_value(kind, scramble(random + 1))};
  }
  return std::nullopt;
}

}  // namespace vmsnap::dsa
