// A queue in use: what it takes, what is in it, how it is doing.
//
//   good --(lost operation, hardware error, failing write)--> sick --(two good NOOPs)--> good
//                                                            sick --(sick_tests failures)--> set aside, for good
//   good --(refuses our compares, wrong answers)--> set aside
//
// Each operation that was handed over has an entry of the queue until its record is written, a lost one too: it may be
// in there still, and a dedicated queue drops what is too much for it without a word. Their entries are free again when
// the records come after all, or when a DRAIN, which follows the NOOPs then, says that nothing is under way any more.
//
// Everything but send() is called under the lock of Offload.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "flight.h"
#include "offload.h"
#include "queue_probe.h"
#include "settlement.h"

namespace vmsnap::dsa {

class WorkQueue {
 public:
  enum class State : uint8_t { good, sick, aside };

  /// `report` is what the probe told.
  WorkQueue(ProbedQueue probed, const QueueReport& report, const OffloadLimits& limits);
  ~WorkQueue() { close(); }
  WorkQueue(const WorkQueue&) = delete;
  WorkQueue& operator=(const WorkQueue&) = delete;

  State state() const { return state_; }
  int numa_node() const { return info_.numa_node; }
  /// Whether it may take compares of pages of this size.
  bool serves(size_t page_bytes) const { return state_ == State::good && page_bytes <= most_page_bytes_; }
  /// Entries that may be filled now; 0 while it refuses (until unblock()).
  uint32_t free_entries() const;
  uint32_t depth() const { return depth_; }

  /// A flight that is not in use, or null: memory is lacking.
  std::unique_ptr<Flight> take_flight();
  void give_flight(std::unique_ptr<Flight> flight);
  CutLimits cut_limits(size_t page_bytes) const;
  /// Decides on batch or single descriptors, and counts its entries.
  void begin(Flight& flight);

  /// Without the lock. `begin` was called.
  Sent send(const Flight& flight) {
    return probed_.handle->send(flight.first_descriptor(), flight.descriptor_count(), retries_);
  }

  /// What became of a submission: `flight` has been cut down to what was taken already.
  void submitted(Flight& flight, const Sent& sent);
  /// The records of `flight` are settled.
  void settled(Flight& flight, const Settlement& settlement);
  /// Keeps the memory of a lost flight, and becomes sick.
  void lose(std::unique_ptr<Flight> flight);

  /// May be tried again after a refusal; sick if it has refused everything for too long.
  void unblock(int64_t now);
  /// Takes back what lost operations hold and have no use for any more.
  void reclaim() {
    if (!lost_flights_.empty()) reclaim_answered();
  }

  /// Sick queues: starts tests that are due and looks at those under way.
  void test(int64_t now);
  /// When test() wants to be called next; 0: not at all.
  int64_t next_test(int64_t now) const;

  void distrust();

  /// Closes the file, which ends every operation; memory may be freed then.
  void close();

  /// Brings limits, state and counters up to date.
  void fill(QueueReport& report) const;

 private:
  void become_sick(const std::string& why);
  void set_aside(const std::string& why);
  void recover();
  void test_failed(int64_t now);
  void start_test(int64_t now);
  void test_ended(int64_t now, bool good);
  void reclaim_answered();
  void free_lost_entries();
  void refuse_unit(uint32_t unit_bytes);
  void refuse_batch(uint32_t members);
  void stop_batches();

  ProbedQueue probed_;
  const QueueInfo info_;
  const OffloadLimits limits_;
  SubmitWay way_;
  uint32_t retries_;

  State state_ = State::good;
  std::string reason_;
  QueueCounters counters_;

  bool batches_;
  uint32_t batch_members_;
  bool batch_halved_ = false;
  uint32_t depth_;
  /// Of single descriptors in one submission.
  uint32_t single_members_ = 1;
  uint32_t capacity_ = 1;
  uint64_t most_unit_bytes_;
  uint64_t most_page_bytes_;
  bool unit_halved_ = false;

  /// Of operations that are under way or lost, tests too.
  uint32_t entries_ = 0;
  bool blocked_ = false;
  /// In a row.
  uint32_t fruitless_flights_ = 0;
  /// Since when nothing was taken; 0: the last was taken.
  int64_t refused_since_ = 0;

  std::vector<std::unique_ptr<Flight>> free_flights_;
  std::vector<std::unique_ptr<Flight>> lost_flights_;

  std::unique_ptr<Flight> test_flight_;
  bool test_drains_ = false;
  int64_t test_deadline_ = 0;
  int64_t next_test_ = 0;
  uint32_t tests_failed_ = 0;
  uint32_t tests_passed_ = 0;
};

}  // namespace vmsnap::dsa
