// Portal pages of emulated queues: executing MOVDIR64B or ENQCMD on one faults, and the fault handler hands the 64
// bytes to the queue.
//
// A CPU without these instructions raises SIGILL, one that has them SIGSEGV, as the page is mapped without access. The
// handlers are taken when the first page is mapped and given back with the last, unless somebody else has put his own
// over them since. A fault that does not concern a portal goes to whoever had the signal before, as if we were not
// there.
#pragma once

#include <cstdint>

namespace vmsnap::dsa {

class PortalSink {
 public:
  enum class Answer : uint8_t { taken, retry };

  virtual ~PortalSink() = default;
  /// Called inside a signal handler: no allocation, no lock that the interrupted code may hold.
  virtual Answer store(const uint8_t* descriptor, bool by_enqcmd) = 0;
};

/// Maps a portal page (not inherited by fork), into `portal`. 0, -ENOMEM, or -EOPNOTSUPP where the processor has no
/// such instructions. `sink` stays until unmap_portal_page() has returned.
int map_portal_page(PortalSink& sink, void*& portal);

/// 0, or -EINVAL where that is no portal. No thread may be storing to it.
int unmap_portal_page(void* portal);

}  // namespace vmsnap::dsa
