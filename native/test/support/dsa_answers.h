// What the CPU says about the same pages.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "../../dsa/offload.h"
#include "../../dsa/page_check.h"

namespace vmsnap::test {

inline dsa::Answer cpu_answer(const uint8_t* bytes, size_t size_bytes) {
  // Each byte is the one before it: a loop would take most of the time of these tests, more so under sanitizers.
  const bool is_zero = size_bytes == 0 || (bytes[0] == 0 && std::memcmp(bytes, bytes + 1, size_bytes - 1) == 0);
  return is_zero ? dsa::Answer::zero : dsa::Answer::not_zero;
}

struct Comparison {
  size_t right = 0;
  size_t wrong = 0;
  size_t unknown = 0;
};

/// Touches all pages, so it comes after the device.
inline Comparison compare_with_cpu(const dsa::PageCheck& check) {
  Comparison found;
  size_t page = 0;
  for (const dsa::PageRun& run : check.runs()) {
    for (size_t i = 0; i < run.pages; ++i, ++page) {
      const dsa::Answer answer = check.answers()[page];
      const bool is_right = answer == cpu_answer(run.address + i * check.page_bytes(), check.page_bytes());
      if (answer == dsa::Answer::unknown) {
        ++found.unknown;
      } else {
        ++(is_right ? found.right : found.wrong);
      }
    }
  }
  return found;
}

/// All pages have an answer, and the right one.
inline bool all_right(const dsa::PageCheck& check) { return compare_with_cpu(check).right == check.answers().size(); }

inline bool all_are(const dsa::PageCheck& check, dsa::Answer expected) {
  return std::all_of(check.answers().begin(), check.answers().end(),
                     [&](dsa::Answer answer) { return answer == expected; });
}

inline dsa::PageCheck check_of(const void* address, size_t pages, size_t page_bytes = 4096) {
  dsa::PageCheck check;
  check.reset(page_bytes);
  check.add(static_cast<const uint8_t*>(address), pages);
  return check;
}

/// Asks about pages that lie one after the other, and compares with the CPU.
inline bool answers_rightly(dsa::Offload& offload, const void* address, size_t pages, size_t page_bytes = 4096) {
  dsa::PageCheck check = check_of(address, pages, page_bytes);
  const bool known = offload.check_now(check);
  return all_right(check) && known;
}

/// Of all queues together.
inline dsa::QueueCounters sum_of_counters(const dsa::Offload& offload) {
  dsa::QueueCounters sum;
  for (const dsa::QueueReport& report : offload.reports()) {
    sum.descriptors += report.counters.descriptors;
    sum.batches += report.counters.batches;
    sum.bytes += report.counters.bytes;
    sum.pages_zero += report.counters.pages_zero;
    sum.pages_not_zero += report.counters.pages_not_zero;
    sum.pages_unknown += report.counters.pages_unknown;
    sum.page_faults += report.counters.page_faults;
    sum.batch_faults += report.counters.batch_faults;
    sum.retries += report.counters.retries;
    sum.short_writes += report.counters.short_writes;
    sum.errors += report.counters.errors;
    sum.lost += report.counters.lost;
    sum.times_sick += report.counters.times_sick;
  }
  return sum;
}

}  // namespace vmsnap::test
