#include "queue.h"

#include <algorithm>
#include <cerrno>
#include <climits>
#include <cstring>
#include <mutex>

namespace vmsnap::dsa {

namespace {

Rules rules_of(const EmulatedQueue& queue, const EmulatedDevice& device) {
  const bool any = std::any_of(device.operations.begin(), device.operations.end(), [](uint32_t w) { return w != 0; });
  return {.operations = any ? device.operations : known_operations(),
          .general_capability = device.general_capability,
          .max_transfer_bytes = std::min(queue.max_transfer_bytes, device.max_transfer_bytes),
          .max_batch = std::min(queue.max_batch, device.max_batch),
          .block_on_fault = queue.block_on_fault,
          .page_requests = queue.page_requests};
}

}  // namespace

void DeviceSignals::become(FaultKind kind) {
  condition.become(kind);
  work.ring(INT_MAX);  // engines throw away what is lost
  error_bell.ring(INT_MAX);
}

void DeviceSignals::report(const SoftwareError& error) {
  {
    const std::lock_guard lock(lock_);
    if (error_.valid) {
      error_.overflow = true;
      return;
    }
    error_ = error;
    error_.valid = true;
  }
  error_bell.ring(INT_MAX);
}

SoftwareError DeviceSignals::software_error() const {
  const std::lock_guard lock(lock_);
  return error_;
}

void DeviceSignals::clear_error() {
  const std::lock_guard lock(lock_);
  error_ = {};
}

Queue::Queue(unsigned number, const EmulatedQueue& setup, const EmulatedDevice& device, RandomFaults random,
             DeviceSignals& signals)
    : number_(number),
      setup_(setup),
      rules_(rules_of(setup, device)),
      signals_(signals),
      plan_(std::move(random)),
      ring_(std::max(setup.size, 1U)) {}

PortalSink::Answer Queue::store(const uint8_t* bytes, bool by_enqcmd) {
  dsa_hw_desc descriptor;
  std::memcpy(&descriptor, bytes, sizeof descriptor);
  if (by_enqcmd) {
    // The processor puts its own PASID there.
    descriptor.pasid = 0;
    descriptor.rsvd = 0;
    descriptor.priv = 0;
  }
  const bool right_kind = by_enqcmd == (setup_.mode == QueueMode::shared);
  Taken taken = Taken::full;
  {
    const std::lock_guard lock(lock_);
    const auto fault = count_submission();
    const bool works = signals_.condition.state() == DeviceCondition::State::working;
    if (right_kind && works) taken = !fault ? take(descriptor) : by_enqcmd ? Taken::full : Taken::dropped;
  }
  tell(taken, descriptor);
  return taken == Taken::full ? Answer::retry : Answer::taken;
}

void Queue::tell(Taken taken, const dsa_hw_desc& descriptor) {
  if (taken == Taken::yes) signals_.work.ring(1);
  if (taken != Taken::dropped) return;
  signals_.report({.error = kErrorQueueFull, .operation = static_cast<uint8_t>(descriptor.opcode), .queue = number_});
}

std::optional<PlannedFault> Queue::begin_write() {
  const std::lock_guard lock(lock_);
  const auto submission = count_submission();
  const auto call = plan_.find(FaultPlan::Counter::call, calls_++);
  return submission ? submission : call;
}

bool Queue::refuse_write() {
  if (setup_.mode == QueueMode::shared) return true;
  tell(Taken::dropped, {});
  return false;
}

int Queue::write(dsa_hw_desc descriptor) {
  // As the kernel does it: the rest is for the device to find.
  if (setup_.write_refuses_batches && descriptor.opcode == DSA_OPCODE_BATCH) return EINVAL;
  if (descriptor.completion_addr % kRecordBytes != 0) return EINVAL;
  descriptor.pasid = 0;
  descriptor.priv = 0;
  Taken taken = Taken::full;
  {
    const std::lock_guard lock(lock_);
    if (signals_.condition.state() == DeviceCondition::State::working) taken = take(descriptor);
  }
  tell(taken, descriptor);
  // Of a dedicated queue nobody learns that it was full.
  return taken == Taken::full && setup_.mode == QueueMode::shared ? EAGAIN : 0;
}

Queue::Taken Queue::take(const dsa_hw_desc& descriptor) {
  const bool shared = setup_.mode == QueueMode::shared;
  const size_t entries = shared && setup_.threshold != 0 ? setup_.threshold : ring_.size();
  if (entries_ >= std::min(entries, ring_.size())) return shared ? Taken::full : Taken::dropped;
  ++entries_;
  ring_[arrived_ % ring_.size()] = {descriptor, arrived_, signals_.condition.epoch()};
  ++arrived_;
  return Taken::yes;
}

std::optional<PlannedFault> Queue::count_submission() {
  const auto fault = plan_.find(FaultPlan::Counter::submission, submissions_++);
  if (!fault || !is_turning_point(fault->kind)) return fault;
  signals_.become(fault->kind);
  return std::nullopt;
}

void Queue::add_fault(const Fault& fault) {
  const std::lock_guard lock(lock_);
  const bool has_passed = fault.first < submissions_;
  if (is_turning_point(fault.kind) && has_passed) return signals_.become(fault.kind);
  plan_.add(fault);
}

std::optional<Operation> Queue::next() {
  const std::lock_guard lock(lock_);
  if (taken_ == arrived_) return std::nullopt;
  return ring_[taken_++ % ring_.size()];
}

bool Queue::is_empty() const {
  const std::lock_guard lock(lock_);
  return taken_ == arrived_;
}

void Queue::release_entry() {
  const std::lock_guard lock(lock_);
  --entries_;
}

uint64_t Queue::number_batch() {
  const std::lock_guard lock(lock_);
  return batches_++;
}

uint64_t Queue::number_compares(uint64_t count) {
  const std::lock_guard lock(lock_);
  const uint64_t first = compares_;
  compares_ += count;
  return first;
}

std::optional<PlannedFault> Queue::planned(FaultPlan::Counter counter, uint64_t number) const {
  const std::lock_guard lock(lock_);
  return plan_.find(counter, number);
}

}  // namespace vmsnap::dsa
