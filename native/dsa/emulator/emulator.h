// A DSA device in software, for machines without one: its answers are right, its speed means nothing.
//
// Descriptors arrive as they would at hardware: by ENQCMD and MOVDIR64B instructions on a portal page that is mapped
// without access (the fault handler hands the 64 bytes over), or by write() on a queue's file through DeviceCalls.
// Engine threads execute them as the specification says, down to reserved bits and partial completion, and write the
// completion record last. A plan of faults lets tests make it misbehave.
//
// What a store to a portal asks of the thread that executes it: the emulator handles it inside the signal, on that
// thread, under a spin lock of its own. So it may come from any code of the driver, whatever locks the driver holds,
// but not from inside the emulator's calls, and the portal must not be unmapped meanwhile. The handler allocates
// nothing. It answers an ENQCMD in ZF and in ecx too (0 taken, 1 retry): under valgrind the flags that a handler sets
// are lost. Code that executes ENQCMD loads ecx with 2 before: hardware leaves it so, and then ZF counts.
//
// Whether a page is present (what a device learns from the page tables) is asked of /proc/self/pagemap, and bytes are
// moved by process_vm_readv and process_vm_writev: no address makes the emulator crash.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "../device_calls.h"
#include "../discovery.h"

namespace vmsnap::dsa {

struct EmulatedQueue {
  QueueMode mode = QueueMode::shared;
  uint32_t size = 16;
  /// Entries that an ENQCMD may use (shared queues). 0: the size.
  uint32_t threshold = 0;
  uint32_t max_batch = 1024;
  uint64_t max_transfer_bytes = uint64_t{1} << 31;
  bool block_on_fault = false;
  /// Page requests: a fault on a completion record or batch list waits for the page. Without, it is status 1a or 06.
  bool page_requests = true;
  /// "enabled" or "disabled"; "user" or "kernel".
  std::string state = "enabled";
  std::string type = "user";
  /// What the calls answer: 0 or an errno.
  int open_error = 0;
  int map_error = 0;
  /// BATCH by write() answers EINVAL, as kernels since 6.9.1 do for DSA 1.0. op_cap in sysfs lacks BATCH then.
  bool write_refuses_batches = false;
};

struct EmulatedDevice {
  unsigned number = 0;
  int numa_node = 0;
  uint32_t version = 0x100;
  /// Without it no queue of type user can be enabled: sysfs says so, and open() answers ENOENT.
  bool pasid_enabled = true;
  /// "enabled", "disabled" (no nodes) or "halted" (opens, but takes nothing).
  std::string state = "enabled";
  uint32_t engines = 2;
  /// Opcodes that it executes; the others end with status 10. All zero: all that the emulator knows.
  OperationCapability operations{};
  /// As sysfs gives it. Heeded: bit 0 block on fault, 1 overlapping copies, 12 fault information, 52 batches of one.
  uint64_t general_capability = 0x40915f010f;
  /// Limits of the device; a queue's own count where they are smaller.
  uint32_t max_batch = 1024;
  uint64_t max_transfer_bytes = uint64_t{1} << 31;
  /// A compare with a pattern tells a difference at an address rounded down to a multiple of this (a power of two),
  /// but not before its source. 1: exactly.
  uint32_t difference_granularity_bytes = 32;
  /// Members of a batch between two fences are executed last to first, as hardware may.
  bool reverse_members = false;
  /// Time that an operation takes besides the work itself; many may be under way at once.
  uint32_t latency_microseconds = 0;
  /// 0: as fast as it goes.
  uint64_t bytes_per_second = 0;
  std::vector<EmulatedQueue> queues = {EmulatedQueue{}};
};

enum class FaultKind : uint8_t {
  // Of an operation, counted as `of` says.
  page_fault,     // a compare ends with status 03 after `value` bytes, whatever the memory (less if it has fewer)
  write_fault,    // the same with status 83
  status,         // ends with status `value`, nothing done
  never_written,  // taken, never answered; neither is the batch that it is a member of
  late,           // answered `value` milliseconds late
  wrong_answer,   // a compare's result bit inverted, bytes completed 0
  // Of a batch, counted over the batches of the queue.
  batch_list_fault,  // ends with 06 after `value` members
  // Of a submission, counted over the queue's portal stores and write() calls together, also those that are refused.
  queue_full,     // the store or write() is refused (retry, EAGAIN) or, in a dedicated queue, dropped
  device_lost,    // from here on nothing is answered any more and every call but close() fails with ENXIO
  device_halted,  // from here on nothing is answered and nothing is taken
  device_back,    // ends both; what was under way before stays lost
  // Of a call, counted over the write() calls of the queue.
  short_write,  // write() takes `value` descriptors only
  write_error,  // write() fails with errno `value`
};

/// What is counted for faults of an operation: each COMPARE and COMPVAL, in a batch or not; or each descriptor that is
/// not in a batch, of any kind (a batch is one).
enum class FaultUnit : uint8_t { compares, descriptors };

/// Applies to numbers `first` to `first + count - 1`, counted from 0 for each queue. Numbers are given in the order in
/// which descriptors arrive (members in the order of their list, also those that a fence abandons), whatever engine
/// executes them. Only descriptors that were taken are counted, so a plan that has one submitting thread is
/// deterministic. The first fault that fits a number is the only one. `count` means nothing to device_lost,
/// device_halted and device_back, which take effect at once if `first` has passed when they are added.
struct Fault {
  FaultKind kind;
  unsigned device = 0;
  unsigned queue = 0;
  uint64_t first = 0;
  uint64_t count = 1;
  uint64_t value = 0;
  FaultUnit of = FaultUnit::compares;
};

/// The register in which a device keeps the first error that no completion record can tell.
struct SoftwareError {
  bool valid = false;
  /// Another came after it.
  bool overflow = false;
  /// A status (1a, 1b, 1d; any other of a descriptor without a record), or 53: a full dedicated queue.
  uint8_t error = 0;
  uint8_t operation = 0;
  unsigned queue = 0;
  uint64_t address = 0;
};

struct EmulatorConfig {
  std::vector<EmulatedDevice> devices = {EmulatedDevice{}};
  std::vector<Fault> faults{};
  /// Seed and share (in 1/1000) of compares (batches, submissions, write() calls, by kind) that have a random fault of
  /// `random_kinds`, which may be any kind that does not concern the device. The same numbers have the same faults.
  uint64_t random_seed = 0;
  uint32_t random_permille = 0;
  std::vector<FaultKind> random_kinds{};
};

class Emulator : public DeviceCalls {
 public:
  /// Makes the sysfs folder (0700, under the folder for temporary files), starts the engines, and takes SIGILL and
  /// SIGSEGV (once for the process; what does not concern a portal goes to whoever had them before). Null with `error`
  /// in words.
  static std::unique_ptr<Emulator> create(const EmulatorConfig& config, std::string& error);

  virtual const std::string& sysfs_root() const = 0;
  virtual const std::string& device_root() const = 0;
  /// Removes the folder, so that a process that dies leaves none behind. What is open stays open; nothing is found any
  /// more.
  virtual void remove_sysfs() = 0;

  virtual void add_fault(const Fault& fault) = 0;
  /// Operations executed, members of batches each and batches not, and CPU time of the engine threads, to be kept out
  /// of the host's account.
  virtual uint64_t executed() const = 0;
  virtual uint64_t engine_cpu_nanoseconds() const = 0;

  /// Sticky until cleared; poll_error() answers 1 while it is valid, for each queue of the device.
  virtual SoftwareError software_error(unsigned device) const = 0;
  virtual void clear_software_error(unsigned device) = 0;
};

}  // namespace vmsnap::dsa
