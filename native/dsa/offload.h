// Zero checks on the work queues of one or more DSA devices, asynchronously.
//
// submit() cuts a request into compare operations and hands them to the queues: up to `batch_pages` in one batch
// descriptor where the queue takes batches, else several single descriptors in one write() (or one portal store each).
// What does not fit into the queues now waits in line. One completion thread for all queues looks at the records of
// what is in flight, settles it, resumes what faulted, submits what waits, and sleeps when there is nothing. wait()
// sleeps until a request is settled.
//
// How many pages one compare covers follows what came before: it doubles after memory that was zero throughout and
// falls back to one page where there is data. A difference in a larger compare settles the pages before it; the rest
// goes out again page by page, with the page in which the device says it saw the difference, because its word is a
// lower bound only.
//
// Nothing here hangs, aborts or trusts the device's good behaviour: every wait has a limit, every status an answer
// (status.h), and what cannot be settled is `unknown`, which the caller does on the CPU. Memory that a lost operation
// may still write to is kept until the queue's file is closed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "device_calls.h"
#include "discovery.h"
#include "page_check.h"

namespace vmsnap::dsa {

/// How descriptors reach a queue, in the order in which open() tries.
enum class SubmitWay : uint8_t { none, enqcmd, movdir64b, write_batch, write_single };

const char* name_of(SubmitWay way);

struct OffloadLimits {
  /// Pages in one batch descriptor; lowered to what the queue takes.
  uint32_t batch_pages = 128;
  /// Descriptors in flight in one queue at most; 0: as many as the queue has entries. Never more than those.
  uint32_t depth = 0;
  /// One compare covers at most this much; lowered to what the queue takes.
  uint64_t max_unit_bytes = uint64_t{2} << 20;
  /// Stores to a portal that the queue may refuse before another queue is tried.
  uint32_t submit_retries = 256;
  /// An operation whose record is not written in this time is lost, and its queue sick.
  uint32_t record_milliseconds = 1000;
  /// The same for the NOOPs of open() and of a sick queue's tests.
  uint32_t probe_milliseconds = 200;
  /// Resumptions after page faults without progress before the CPU does it.
  uint32_t fault_retries = 3;
  /// Between two tests of a sick queue, and how many failed ones it has before it is given up.
  uint32_t sick_retest_milliseconds = 50;
  uint32_t sick_tests = 5;
};

struct OffloadOptions {
  std::string sysfs_root = kSysfsRoot;
  std::string device_root = kDeviceRoot;
  /// Nodes to use ("/dev/dsa/wq0.0"); empty: every usable queue.
  std::vector<std::string> nodes;
  OffloadLimits limits;
  DeviceCalls* calls = nullptr;  // null: kernel_calls()
  /// Of these ways only, for tests and comparisons; empty: all, in their order.
  std::vector<SubmitWay> ways;
  /// Two system calls for each submit(); OffloadTimes::submission_cpu is 0 without them.
  bool time_submission = true;
};

/// One step of opening a queue.
struct ProbeStep {
  /// "sysfs", "open", "map", "noop-portal", "batch-portal", "noop-write", "batch-write", "compare".
  std::string what;
  /// 0 or the errno; ETIMEDOUT where a record was not written.
  int error = 0;
  /// Status of the record where one was written, else 0.
  uint8_t status = 0;
};

/// All 64-bit counts are since open().
struct QueueCounters {
  /// Compare operations, in a batch or not, and batch descriptors.
  uint64_t descriptors = 0;
  uint64_t batches = 0;
  /// Of memory that the device was asked about (again after faults and splits).
  uint64_t bytes = 0;
  uint64_t pages_zero = 0;
  uint64_t pages_not_zero = 0;
  /// Left to the CPU.
  uint64_t pages_unknown = 0;
  uint64_t page_faults = 0;
  uint64_t batch_faults = 0;
  /// Portal stores and writes that were refused because the queue was full.
  uint64_t retries = 0;
  uint64_t short_writes = 0;
  /// Statuses that mean trouble, and records that were never written.
  uint64_t errors = 0;
  uint64_t lost = 0;
  uint64_t times_sick = 0;
};

struct QueueReport {
  QueueInfo info;
  SubmitWay way = SubmitWay::none;
  bool batches = false;
  /// Entries that we use of it.
  uint32_t depth = 0;
  uint32_t batch_pages = 0;
  uint64_t max_unit_bytes = 0;
  std::vector<ProbeStep> steps;
  /// Why it is not used, for a user ("" if it is), and what to do about it.
  std::string reason;
  std::string hint;
  bool sick = false;
  QueueCounters counters;
};

/// CPU time of the host's side, in nanoseconds.
struct OffloadTimes {
  /// Of the callers of submit().
  uint64_t submission_cpu = 0;
  /// Of the completion thread, all that it does.
  uint64_t completion_cpu = 0;
  /// Time that callers of wait() slept (elapsed, not CPU).
  uint64_t waiting = 0;
};

class Offload {
 public:
  struct Opened {
    /// Null where no queue can be used; `reason` says why then.
    std::unique_ptr<Offload> offload;
    std::vector<QueueReport> queues;
    std::string reason;
    std::string hint;
  };

  /// Finds, opens and tries the queues. Never fails hard: the reports say what happened to each.
  static Opened open(const OffloadOptions& options);

  /// Waits for what is in flight (within the limits), then closes the queues. Memory of lost operations is given back
  /// last.
  ~Offload();
  Offload(const Offload&) = delete;
  Offload& operator=(const Offload&) = delete;

  /// Starts the checks of all runs. After a fork (in the child) everything stays `unknown` at once.
  void submit(PageCheck& check);
  /// Until all pages of `check` have their final answer.
  void wait(PageCheck& check);
  /// submit() and wait() of one request; false if any page is `unknown`.
  bool check_now(PageCheck& check);

  /// Tells that the CPU found an answer wrong: the queue that gave it is not known, so all are set aside for good.
  void distrust();
  /// Whether any queue takes work or may do so again (sick); false once all are set aside for good.
  bool usable() const;

  std::vector<QueueReport> reports() const;
  OffloadTimes times() const;

 private:
  class Implementation;
  explicit Offload(std::unique_ptr<Implementation> implementation);
  std::unique_ptr<Implementation> implementation_;
};

}  // namespace vmsnap::dsa
