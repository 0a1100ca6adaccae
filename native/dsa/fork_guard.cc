#include "fork_guard.h"

#include <sys/mman.h>
#include <unistd.h>

namespace vmsnap::dsa {

namespace {

constexpr size_t kGuardBytes = 4096;
constexpr uint32_t kMark = 0x0d5a0d5a;

}  // namespace

ForkGuard::ForkGuard() : owner_(getpid()) {
  void* const page = mmap(nullptr, kGuardBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (page == MAP_FAILED) return;
  if (madvise(page, kGuardBytes, MADV_WIPEONFORK) != 0) {
    munmap(page, kGuardBytes);
    return;
  }
  *static_cast<uint32_t*>(page) = kMark;
  mark_ = static_cast<const uint32_t*>(page);
}

ForkGuard::~ForkGuard() {
  if (mark_ != nullptr) munmap(const_cast<uint32_t*>(mark_), kGuardBytes);
}

bool ForkGuard::in_child() const {
  if (mark_ != nullptr) return *static_cast<const volatile uint32_t*>(mark_) != kMark;
  return getpid() != owner_;
}

}  // namespace vmsnap::dsa
