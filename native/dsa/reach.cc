#include "reach.h"

#include <cerrno>

#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

namespace vmsnap::dsa {

bool make_reachable(const uint8_t* address, size_t size_bytes) {
  static const auto page_bytes = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto start = reinterpret_cast<uintptr_t>(address);
  const uintptr_t first = start / page_bytes * page_bytes;
  const uintptr_t end = (start + size_bytes + page_bytes - 1) / page_bytes * page_bytes;
  int status = 0;
  do {
    status = madvise(reinterpret_cast<void*>(first), end - first, MADV_POPULATE_READ);
  } while (status != 0 && errno == EINTR);
  return status == 0;
}

}  // namespace vmsnap::dsa
