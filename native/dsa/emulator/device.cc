// Operations are taken from a queue in the order in which they arrived, and what a fault plan counts is numbered then,
// under the device's lock: it does not matter which engine is the faster. An operation is executed at once; its record
// is written when latency and bandwidth say so, so that many are under way at the same time with few engines.
//
// The order in which one ends: its entry of the queue is freed, its record is written, and then nobody waits for it any
// more (drain, close). So whoever sees a record may submit again, and after a close no record is written.
#include "device.h"

#include <signal.h>

#include <algorithm>
#include <climits>

namespace vmsnap::dsa {

namespace {

bool is_compare(const dsa_hw_desc& descriptor) {
  return descriptor.opcode == DSA_OPCODE_COMPARE || descriptor.opcode == DSA_OPCODE_COMPVAL;
}

bool is_success(const Outcome& outcome) { return outcome.status == DSA_COMP_SUCCESS; }

bool has_record(const dsa_hw_desc& descriptor) { return (descriptor.flags & IDXD_OP_FLAG_CRAV) != 0; }

bool wants_record(const dsa_hw_desc& descriptor, const Outcome& outcome) {
  return has_record(descriptor) && ((descriptor.flags & IDXD_OP_FLAG_RCR) != 0 || !is_success(outcome));
}

bool is_never_recorded(uint8_t status) {
  return status == kErrorRecordFault || status == kErrorRecordAlignment || status == kErrorPrivilege;
}

Outcome outcome_of(const Verdict& verdict) {
  Outcome outcome;
  outcome.status = verdict.status;
  outcome.specific = verdict.invalid_flags;
  return outcome;
}

}  // namespace

Device::Device(const EmulatedDevice& setup, const RandomFaults& random, const DeviceMemory& memory)
    : setup_(setup), memory_(memory), executor_(memory, setup.difference_granularity_bytes) {
  for (size_t i = 0; i < setup_.queues.size(); ++i) {
    RandomFaults own = random;
    own.seed += (setup_.number * 1000 + i) * 0x9e3779b97f4a7c15U;
    queues_.push_back(std::make_unique<Queue>(static_cast<unsigned>(i), setup_.queues[i], setup_, own, signals_));
  }
  under_way_.resize(queues_.size());
  if (setup_.state == "halted") signals_.condition.become(FaultKind::device_halted);
  // Signals to the process are for the threads of the program.
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (uint32_t i = 0; i < std::max(setup_.engines, 1U); ++i) {
    engines_.emplace_back([this] { run_engine(); });
    clockid_t clock;
    if (pthread_getcpuclockid(engines_.back().native_handle(), &clock) == 0) clocks_.push_back(clock);
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Device::~Device() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  signals_.work.ring(INT_MAX);
  for (std::thread& engine : engines_) engine.join();
}

uint64_t Device::engine_cpu_nanoseconds() const {
  uint64_t sum = 0;
  for (const clockid_t clock : clocks_) {
    timespec used = {};
    if (clock_gettime(clock, &used) != 0) continue;
    sum += static_cast<uint64_t>(used.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(used.tv_nsec);
  }
  return sum;
}

void Device::add_fault(const Fault& fault) {
  if (fault.queue < queues_.size()) queues_[fault.queue]->add_fault(fault);
}

void Device::drain(const Queue& queue) {
  std::unique_lock lock(mutex_);
  done_.wait(lock, [&] { return under_way_[queue.number()].empty() && queue.is_empty(); });
}

void Device::run_engine() {
  pthread_setname_np(pthread_self(), "dsa-engine");
  Workspace workspace;
  for (;;) {
    const uint32_t rings = signals_.work.rings();
    uint64_t deadline = kNever;
    std::unique_ptr<Job> due;
    std::unique_ptr<Job> next;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_) return;
      due = due_job(now_nanoseconds());
      if (!due) due = ready_drain();
      if (!due) next = next_job();
      if (!waiting_.empty()) deadline = waiting_.begin()->first;
    }
    if (due) {
      finish(std::move(due));
    } else if (next) {
      perform(std::move(next), workspace);
    } else {
      signals_.work.wait(rings, deadline);
    }
  }
}

std::unique_ptr<Device::Job> Device::due_job(uint64_t now) {
  // What is lost need not be waited for.
  const auto is_lost = [&](const auto& entry) { return !signals_.condition.works(entry.second->operation.epoch); };
  auto found = std::find_if(waiting_.begin(), waiting_.end(), is_lost);
  if (found == waiting_.end()) found = waiting_.begin();
  if (found == waiting_.end() || (found->first > now && !is_lost(*found))) return nullptr;
  std::unique_ptr<Job> job = std::move(found->second);
  waiting_.erase(found);
  return job;
}

std::unique_ptr<Device::Job> Device::ready_drain() {
  for (auto drain = drains_.begin(); drain != drains_.end(); ++drain) {
    const std::vector<uint64_t>& numbers = under_way_[(*drain)->queue->number()];
    if (*std::min_element(numbers.begin(), numbers.end()) != (*drain)->operation.number) continue;
    std::unique_ptr<Job> job = std::move(*drain);
    drains_.erase(drain);
    return job;
  }
  return nullptr;
}

std::unique_ptr<Device::Job> Device::next_job() {
  for (size_t tried = 0; tried < queues_.size(); ++tried) {
    Queue& queue = *queues_[next_queue_++ % queues_.size()];
    const std::optional<Operation> operation = queue.next();
    if (!operation) continue;
    auto job = std::make_unique<Job>();
    job->queue = &queue;
    job->operation = *operation;
    under_way_[queue.number()].push_back(operation->number);
    number(*job);
    return job;
  }
  return nullptr;
}

void Device::number(Job& job) {
  const dsa_hw_desc& descriptor = job.operation.descriptor;
  if (is_compare(descriptor)) job.first_compare = job.queue->number_compares(1);
  if (descriptor.opcode != DSA_OPCODE_BATCH) return;
  job.batch_number = job.queue->number_batch();
  if (validate(descriptor, job.queue->rules(), false).status != 0) return;
  read_members(job);
  const auto compares = std::count_if(job.members.begin(), job.members.end(), is_compare);
  job.first_compare = job.queue->number_compares(static_cast<uint64_t>(compares));
}

void Device::read_members(Job& job) const {
  const dsa_hw_desc& batch = job.operation.descriptor;
  job.members.resize(batch.desc_count);
  const size_t got = memory_.read(batch.desc_list_addr, job.members.data(), job.members.size() * kDescriptorBytes,
                                  job.queue->rules().page_requests);
  job.members.resize(got / kDescriptorBytes);
}

void Device::perform(std::unique_ptr<Job> job, Workspace& workspace) {
  const dsa_hw_desc& descriptor = job->operation.descriptor;
  if (!signals_.condition.works(job->operation.epoch)) return finish(std::move(job));
  if (descriptor.opcode == DSA_OPCODE_BATCH) {
    execute_batch(*job, workspace);
  } else {
    execute_single(*job, workspace);
  }
  settle(std::move(job));
}

Device::Ending Device::execute_one(const Job& job, const dsa_hw_desc& descriptor, bool in_batch,
                                   uint64_t compare_number, Workspace& workspace) {
  std::optional<PlannedFault> planned;
  if (!in_batch) planned = job.queue->planned(FaultPlan::Counter::descriptor, job.operation.number);
  if (!planned && is_compare(descriptor)) planned = job.queue->planned(FaultPlan::Counter::compare, compare_number);

  Ending ending;
  if (descriptor.opcode != DSA_OPCODE_BATCH) executed_.fetch_add(1, std::memory_order_relaxed);
  InjectedFault injected;
  if (planned) {
    ending.never_answered = planned->kind == FaultKind::never_written;
    if (planned->kind == FaultKind::late) ending.late_milliseconds = planned->value;
    if (planned->kind == FaultKind::status) {
      ending.outcome.status = static_cast<uint8_t>(planned->value);
      ending.as_planned = true;
      return ending;
    }
    const bool is_write = planned->kind == FaultKind::write_fault;
    injected = {planned->kind == FaultKind::page_fault || is_write, is_write, planned->value};
  }
  const Verdict verdict = validate(descriptor, job.queue->rules(), in_batch);
  if (verdict.status != 0) {
    ending.outcome = outcome_of(verdict);
    return ending;
  }
  if (descriptor.opcode == DSA_OPCODE_BATCH) return ending;
  ending.outcome = executor_.execute(descriptor, injected, workspace);
  const bool answered = ending.outcome.status == DSA_COMP_SUCCESS || ending.outcome.status == DSA_COMP_SUCCESS_PRED;
  if (planned && planned->kind == FaultKind::wrong_answer && is_compare(descriptor) && answered) {
    ending.outcome.result ^= 1;
    ending.outcome.bytes_completed = 0;
  }
  return ending;
}

void Device::execute_single(Job& job, Workspace& workspace) {
  const dsa_hw_desc& descriptor = job.operation.descriptor;
  const Ending ending = execute_one(job, descriptor, false, job.first_compare, workspace);
  job.never_answered = ending.never_answered;
  job.late_milliseconds = ending.late_milliseconds;
  job.bytes_moved = ending.outcome.bytes_moved;
  job.records.push_back({descriptor, ending.outcome, ending.as_planned});
}

void Device::execute_batch(Job& job, Workspace& workspace) {
  const dsa_hw_desc& batch = job.operation.descriptor;
  Ending ending = execute_one(job, batch, false, 0, workspace);
  job.never_answered = ending.never_answered;
  job.late_milliseconds = ending.late_milliseconds;
  if (is_success(ending.outcome)) ending.outcome = execute_list(job, workspace);
  job.records.push_back({batch, ending.outcome, ending.as_planned});
}

Outcome Device::execute_list(Job& job, Workspace& workspace) {
  const dsa_hw_desc& batch = job.operation.descriptor;
  size_t readable = job.members.size();
  const auto planned = job.queue->planned(FaultPlan::Counter::batch, job.batch_number);
  if (planned) readable = std::min<uint64_t>(readable, planned->value);

  Outcome outcome;
  size_t done = 0;
  while (done < readable && is_success(outcome)) {
    size_t end = done + 1;
    while (end < readable && (job.members[end].flags & IDXD_OP_FLAG_FENCE) == 0) ++end;
    if (!execute_members(job, done, end, workspace)) outcome.status = DSA_COMP_BATCH_FAIL;
    done = end;
  }
  outcome.bytes_completed = static_cast<uint32_t>(done);
  // Members behind a fence that were abandoned do not count, and their list is not looked at.
  if (done < readable || readable == batch.desc_count) return outcome;
  outcome.status = DSA_COMP_BATCH_PAGE_FAULT;
  outcome.fault_address = (batch.desc_list_addr + done * kDescriptorBytes) & ~(kDevicePageBytes - 1);
  outcome.operand = Operand::source;
  return outcome;
}

bool Device::execute_members(Job& job, size_t from, size_t to, Workspace& workspace) {
  uint64_t compare_number = job.first_compare;
  for (size_t i = 0; i < from; ++i) compare_number += is_compare(job.members[i]) ? 1 : 0;
  std::vector<uint64_t> numbers(to - from);
  for (size_t i = from; i < to; ++i) {
    numbers[i - from] = compare_number;
    compare_number += is_compare(job.members[i]) ? 1 : 0;
  }
  bool all_succeeded = true;
  for (size_t step = 0; step < numbers.size(); ++step) {
    const size_t at = setup_.reverse_members ? numbers.size() - 1 - step : step;
    const dsa_hw_desc& member = job.members[from + at];
    const Ending ending = execute_one(job, member, true, numbers[at], workspace);
    all_succeeded = all_succeeded && is_success(ending.outcome);
    job.bytes_moved += ending.outcome.bytes_moved;
    if (ending.never_answered) {
      job.never_answered = true;
    } else if (ending.late_milliseconds != 0) {
      job.late_milliseconds = std::max(job.late_milliseconds, ending.late_milliseconds);
      job.records.push_back({member, ending.outcome, ending.as_planned});
    } else if (!answer(job, {member, ending.outcome, ending.as_planned})) {
      all_succeeded = false;
    }
  }
  return all_succeeded;
}

void Device::settle(std::unique_ptr<Job> job) {
  const uint64_t now = now_nanoseconds();
  uint64_t due = now + uint64_t{setup_.latency_microseconds} * 1000 + job->late_milliseconds * 1'000'000;
  {
    const std::lock_guard lock(mutex_);
    if (setup_.bytes_per_second != 0) {
      const double seconds = static_cast<double>(job->bytes_moved) / static_cast<double>(setup_.bytes_per_second);
      bandwidth_free_at_ = std::max(now, bandwidth_free_at_) + static_cast<uint64_t>(seconds * 1e9);
      due = std::max(due, bandwidth_free_at_);
    }
    if (job->operation.descriptor.opcode == DSA_OPCODE_DRAIN && is_success(job->records.back().outcome)) {
      drains_.push_back(std::move(job));
    } else if (due > now) {
      waiting_.emplace(due, std::move(job));
    }
  }
  if (job) return finish(std::move(job));
  signals_.work.ring(1);  // this engine may be busy when the time comes
}

void Device::finish(std::unique_ptr<Job> job) {
  Queue& queue = *job->queue;
  queue.release_entry();
  if (!job->never_answered) {
    for (const Record& record : job->records) answer(*job, record);
  }
  const std::lock_guard lock(mutex_);
  std::erase(under_way_[queue.number()], job->operation.number);
  done_.notify_all();
}

bool Device::answer(const Job& job, const Record& record) {
  if (!signals_.condition.works(job.operation.epoch)) return true;
  const dsa_hw_desc& descriptor = record.descriptor;
  SoftwareError error = {.error = record.outcome.status,
                         .operation = static_cast<uint8_t>(descriptor.opcode),
                         .queue = job.queue->number(),
                         .address = descriptor.completion_addr};
  const bool written = record.as_planned || !is_never_recorded(record.outcome.status);
  if (!written || (!has_record(descriptor) && !is_success(record.outcome))) {
    signals_.report(error);
    return false;
  }
  if (!wants_record(descriptor, record.outcome)) return true;
  if (write_record(memory_, descriptor.completion_addr, record.outcome, job.queue->rules())) return true;
  error.error = kErrorRecordFault;
  signals_.report(error);
  return false;
}

}  // namespace vmsnap::dsa
