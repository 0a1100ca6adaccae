// One emulated device: engine threads that take operations from its queues, execute them, and write records when their
// time has come.
#pragma once

#include <pthread.h>

#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "device_memory.h"
#include "execute.h"
#include "queue.h"

namespace vmsnap::dsa {

class Device {
 public:
  Device(const EmulatedDevice& setup, const RandomFaults& random, const DeviceMemory& memory);
  /// Ends the engines; what has not been answered never is.
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  const EmulatedDevice& setup() const { return setup_; }
  DeviceSignals& signals() { return signals_; }
  const DeviceSignals& signals() const { return signals_; }
  size_t queue_count() const { return queues_.size(); }
  Queue& queue(size_t number) { return *queues_[number]; }

  /// Until everything that has arrived in this queue is done with (or lost with the device).
  void drain(const Queue& queue);
  void add_fault(const Fault& fault);

  uint64_t executed() const { return executed_.load(); }
  uint64_t engine_cpu_nanoseconds() const;

 private:
  struct Record {
    dsa_hw_desc descriptor;
    Outcome outcome;
    /// Its status is one that a plan asked for: written whatever it is.
    bool as_planned;
  };
  /// An operation between being taken and being done with.
  struct Job {
    Queue* queue = nullptr;
    Operation operation{};
    /// Members of a batch that could be read, and the numbers that their compares have.
    std::vector<dsa_hw_desc> members;
    uint64_t batch_number = 0;
    uint64_t first_compare = 0;
    /// What is written when its time has come, in this order.
    std::vector<Record> records;
    bool never_answered = false;
    uint64_t bytes_moved = 0;
    uint64_t late_milliseconds = 0;
  };
  /// How one descriptor, a member or not, ended.
  struct Ending {
    Outcome outcome;
    bool as_planned = false;
    bool never_answered = false;
    uint64_t late_milliseconds = 0;
  };

  void run_engine();
  // The lock is held.
  std::unique_ptr<Job> next_job();
  std::unique_ptr<Job> due_job(uint64_t now);
  std::unique_ptr<Job> ready_drain();
  void number(Job& job);

  void perform(std::unique_ptr<Job> job, Workspace& workspace);
  void execute_single(Job& job, Workspace& workspace);
  void execute_batch(Job& job, Workspace& workspace);
  Outcome execute_list(Job& job, Workspace& workspace);
  /// Members [from, to) of which none but the first has a fence. Whether all ended with success.
  bool execute_members(Job& job, size_t from, size_t to, Workspace& workspace);
  Ending execute_one(const Job& job, const dsa_hw_desc& descriptor, bool in_batch, uint64_t compare_number,
                     Workspace& workspace);
  void read_members(Job& job) const;
  void settle(std::unique_ptr<Job> job);
  void finish(std::unique_ptr<Job> job);
  /// False where the error register has what a record should have told.
  bool answer(const Job& job, const Record& record);

  const EmulatedDevice setup_;
  const DeviceMemory& memory_;
  const Executor executor_;
  DeviceSignals signals_;
  std::vector<std::unique_ptr<Queue>> queues_;

  mutable std::mutex mutex_;
  std::condition_variable done_;
  bool stopping_ = false;
  size_t next_queue_ = 0;
  /// Numbers of operations of each queue that are taken and not done with.
  std::vector<std::vector<uint64_t>> under_way_;
  std::multimap<uint64_t, std::unique_ptr<Job>> waiting_;
  std::vector<std::unique_ptr<Job>> drains_;
  uint64_t bandwidth_free_at_ = 0;

  std::atomic<uint64_t> executed_{0};
  std::vector<std::thread> engines_;
  std::vector<clockid_t> clocks_;
};

}  // namespace vmsnap::dsa
