// Tells a process from its parent at the price of one load.
//
// A queue serves the address space that opened it: in a child its answers would be about the parent's memory. The mark
// lies in a page that the kernel gives to children wiped.
#pragma once

#include <cstdint>

#include <sys/types.h>

namespace vmsnap::dsa {

class ForkGuard {
 public:
  ForkGuard();
  ~ForkGuard();
  ForkGuard(const ForkGuard&) = delete;
  ForkGuard& operator=(const ForkGuard&) = delete;

  bool in_child() const;

 private:
  const uint32_t* mark_ = nullptr;
  // Where the kernel has no such pages.
  pid_t owner_ = 0;
};

}  // namespace vmsnap::dsa
