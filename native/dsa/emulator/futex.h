// Sleeping and waking without memory allocation or locks, so that a signal handler may wake.
#pragma once

#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>

namespace vmsnap::dsa {

inline uint64_t now_nanoseconds() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

inline constexpr uint64_t kNever = UINT64_MAX;

/// Counts rings. Who waits says which count he has seen, so that no ring between looking and sleeping is missed.
class Doorbell {
 public:
  uint32_t rings() const { return rings_.load(); }

  void ring(int sleepers_to_wake) {
    rings_.fetch_add(1);
    if (sleepers_.load() == 0) return;
    syscall(SYS_futex, &rings_, FUTEX_WAKE_PRIVATE, sleepers_to_wake, nullptr, nullptr, 0);
  }

  /// Until a ring after `seen`, or `deadline` (CLOCK_MONOTONIC); may return early.
  void wait(uint32_t seen, uint64_t deadline_nanoseconds) {
    timespec deadline = {static_cast<time_t>(deadline_nanoseconds / 1'000'000'000),
                         static_cast<long>(deadline_nanoseconds % 1'000'000'000)};
    sleepers_.fetch_add(1);
    syscall(SYS_futex, &rings_, FUTEX_WAIT_BITSET_PRIVATE, seen, deadline_nanoseconds == kNever ? nullptr : &deadline,
            nullptr, FUTEX_BITSET_MATCH_ANY);
    sleepers_.fetch_sub(1);
  }

 private:
  std::atomic<uint32_t> rings_{0};
  std::atomic<uint32_t> sleepers_{0};
};

/// For a few instructions at a time, also in a signal handler. Never held where a portal store can happen.
class SpinLock {
 public:
  void lock() {
    for (unsigned tries = 0; held_.test_and_set(std::memory_order_acquire); ++tries) {
      if (tries % 64 == 63) syscall(SYS_sched_yield);
    }
  }
  void unlock() { held_.clear(std::memory_order_release); }

 private:
  std::atomic_flag held_;
};

}  // namespace vmsnap::dsa
