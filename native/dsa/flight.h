// What one submission needs in memory that the device reads and writes, made once and used again and again.
//
// Descriptors and records are linked when the flight is made; for each compare only its source, its size and the
// record's status are stored later. All of it lies in pages of its own, because an operation that was lost may write
// its record at any time until the queue is closed; and no child of a fork gets these pages, because the kernel would
// make them read-only for as long as both have them, and the device's next store a page fault.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "descriptor.h"
#include "line.h"

namespace vmsnap::dsa {

class WorkQueue;

class Flight {
 public:
  /// Room for `capacity` compares (at least 1). Null where memory is lacking.
  static std::unique_ptr<Flight> create(uint32_t capacity);
  ~Flight();
  Flight(const Flight&) = delete;
  Flight& operator=(const Flight&) = delete;

  uint32_t capacity() const { return capacity_; }

  /// To be filled from the line: compares in the order of their descriptors. `members` is their number.
  std::vector<Piece> pieces;
  uint32_t members = 0;
  /// Whether the members go as one batch, or each on its own.
  bool as_batch = false;
  /// Of the queue, while in flight: 1 for a batch, else as many as there are members.
  uint32_t entries = 0;
  WorkQueue* queue = nullptr;
  /// When it counts as lost; 0: not yet decided.
  int64_t deadline_nanoseconds = 0;
  /// In the list of those that were submitted just now.
  Flight* next = nullptr;

  /// Writes the descriptors of all pieces and clears their records. `as_batch` is decided.
  void fill();
  /// Takes members from `kept` on out of the flight and gives them to `line`.
  void put_back(uint32_t kept, Line& line);

  /// What is to be submitted: the batch descriptor, or so many single ones.
  const Descriptor* first_descriptor() const { return as_batch ? batch_ : descriptors_; }
  uint32_t descriptor_count() const { return as_batch ? 1 : members; }

  /// Whether all records that are waited for are written. Mostly not: then it is one look at one of them.
  bool is_done() { return status_of(*awaited_) != DSA_COMP_NONE && (as_batch || all_written()); }
  /// A record that will be written before the flight is done.
  const CompletionRecord& awaited() const { return *awaited_; }

  const CompletionRecord& batch_record() const { return *batch_record_; }
  const CompletionRecord* records() const { return records_; }

  /// Only for what stands alone: NOOPs of tests in place of compares. Fills and clears `count` of them.
  void fill_noops(uint32_t count, bool batch);
  /// The same: one DRAIN, which ends when all that the queue has taken before has ended.
  void fill_drain();

 private:
  Flight() = default;
  void await_first();
  /// Of single members, the first of which is.
  bool all_written() {
    const CompletionRecord* const last = records_ + members - 1;
    while (awaited_ != last) {
      ++awaited_;
      if (status_of(*awaited_) == DSA_COMP_NONE) return false;
    }
    return true;
  }

  void* memory_ = nullptr;
  size_t memory_bytes_ = 0;
  uint32_t capacity_ = 0;
  Descriptor* batch_ = nullptr;
  CompletionRecord* batch_record_ = nullptr;
  Descriptor* descriptors_ = nullptr;
  CompletionRecord* records_ = nullptr;
  /// That of the batch, or of the first single member whose record is not known to be written.
  const CompletionRecord* awaited_ = nullptr;
};

}  // namespace vmsnap::dsa
