// Turns the completion records of a flight into answers, and says what has to be asked again and what the records tell
// about the queue.
//
// What each status means for a compare over pages that begin at 0 and of which k lie wholly before `bytes completed`:
//
//   done, equal            all are zero
//   done, different        one page: it is not zero. More: k are zero, the others are asked again, one by one
//   page fault             k are zero; the others are made reachable and asked again; unknown after some faults
//                          without progress
//   page request refused   page k is unknown, what lies before and after it is asked again, within the same bounds
//   not written            in a batch that ended without it: asked again, with a bound. Of a lost flight: unknown
//   device trouble         asked again, once; then unknown, and the queue is sick
//   caller's error         size out of range: asked again, with the limit that the queue then has. Others: unknown,
//                          and the queue is set aside
//   anything else          unknown, and the queue is sick (success with false predicate, for which we did not ask:
//                          unknown)
//
// `Bytes completed` that are not less than what was asked for are not believed.
//
// Most flights end with all pages zero, or with a clear word for each single page: those ways are short.
#pragma once

#include <cstdint>
#include <vector>

#include "flight.h"

namespace vmsnap::dsa {

struct SettleRules {
  uint32_t fault_retries = 0;
  /// The time for it has run out: what is not written is lost.
  bool lost = false;
  /// Without it nothing is believed: all is unknown.
  bool trusted = true;
};

struct Settlement {
  uint64_t pages_zero = 0;
  uint64_t pages_not_zero = 0;
  uint64_t pages_unknown = 0;
  uint64_t page_faults = 0;
  uint64_t batch_faults = 0;
  uint64_t errors = 0;
  uint64_t lost = 0;

  /// What the queue has to hear. The largest compare whose size was refused, 0 if none was; the same for batches.
  uint32_t refused_unit_bytes = 0;
  uint32_t refused_batch_members = 0;
  /// It does not know batches as we make them.
  bool batch_refused = false;
  /// It refuses the compares themselves: set it aside.
  bool compare_refused = false;
  /// It may recover: sick.
  bool trouble = false;
  /// The last status that was trouble, for the report.
  uint8_t last_error = 0;

  std::vector<Span> again;
  bool saw_difference = false;

  void clear();
  bool all_zero() const { return again.empty() && pages_not_zero == 0 && pages_unknown == 0; }
};

/// `flight` is done, or lost. Writes the answers that are final; `settlement` is cleared before.
void settle(const Flight& flight, const SettleRules& rules, Settlement& settlement);

}  // namespace vmsnap::dsa
