// What each status of a completion record means for the one who waits (Intel DSA specification, table of status codes).
#pragma once

#include <cstdint>

namespace vmsnap::dsa {

enum class StatusClass : uint8_t {
  pending,         // 00: not written yet
  done,            // 01, 02: executed to its end; after 01 the result byte holds the answer
  resume,          // 03: a page fault; what comes before `bytes completed` is settled
  unreadable,      // 04: the page request was refused; never touch that address
  look_inside,     // 05: a batch with members that need a look at their own records
  resume_batch,    // 06: a page fault on the list; go on after the members that are done
  caller_error,    // 07 to 19, 1b to 1e: a wrong descriptor or a limit smaller than told; the same again gives the same
  device_trouble,  // 1a, 1f to 22: hardware or translation; once more, then the queue is sick
  foreign,         // everything else: nothing that a zero check can end with
};

/// `status` as the device wrote it: bit 7 (write fault) and bit 6 are ignored.
StatusClass classify(uint8_t status);

/// In words for a log: "page fault (03)".
const char* describe(uint8_t status);

}  // namespace vmsnap::dsa
