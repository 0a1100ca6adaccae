// Clocks, in nanoseconds.
#pragma once

#include <cstdint>
#include <ctime>

namespace vmsnap::dsa {

inline constexpr int64_t kNanosecondsPerMillisecond = 1'000'000;

inline int64_t read_clock(clockid_t clock) {
  timespec time{};
  clock_gettime(clock, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

/// Elapsed time; never 0.
inline int64_t now_nanoseconds() { return read_clock(CLOCK_MONOTONIC); }

/// CPU time of the calling thread; a system call.
inline int64_t thread_cpu_nanoseconds() { return read_clock(CLOCK_THREAD_CPUTIME_ID); }

}  // namespace vmsnap::dsa
