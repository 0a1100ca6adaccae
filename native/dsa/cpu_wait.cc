#include "cpu_wait.h"

#include <algorithm>
#include <ctime>

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <x86intrin.h>
#endif

namespace vmsnap::dsa {

namespace {

constexpr long kFirstSleepNanoseconds = 20'000;
constexpr uint32_t kSleepDoublings = 3;
/// In ticks of the time stamp counter, some 10 microseconds: other records than the watched one may be written too.
constexpr uint64_t kUmwaitTicks = 20'000;

#if defined(__x86_64__)
void wait_for_store(const CompletionRecord& record) {
  asm volatile(".byte 0xf3, 0x0f, 0xae, 0xf0" : : "a"(&record) : "memory");  // umonitor rax
  if (status_of(record) != DSA_COMP_NONE) return;
  const uint64_t deadline = __rdtsc() + kUmwaitTicks;
  const uint32_t light_sleep = 1;
  asm volatile(".byte 0xf2, 0x0f, 0xae, 0xf1"  // umwait ecx
               :
               : "c"(light_sleep), "a"(static_cast<uint32_t>(deadline)), "d"(static_cast<uint32_t>(deadline >> 32))
               : "memory", "cc");
}
#endif

}  // namespace

void relax_core() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#endif
}

bool cpu_has_waitpkg() {
#if defined(__x86_64__)
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && ((ecx >> 5) & 1) != 0;
#else
  return false;
#endif
}

void CpuWait::wait(const CompletionRecord& record) {
  if (!is_short()) {
    sleep();
    return;
  }
  ++waits_;
#if defined(__x86_64__)
  if (has_waitpkg_) {
    wait_for_store(record);
    return;
  }
#endif
  (void)record;
  (void)has_waitpkg_;
  for (int i = 0; i < 8; ++i) relax_core();
}

void CpuWait::sleep() {
  const uint32_t sleeps = waits_ > kShortWaits ? waits_ - kShortWaits : 0;
  const timespec duration = {0, kFirstSleepNanoseconds << std::min(sleeps, kSleepDoublings)};
  clock_nanosleep(CLOCK_MONOTONIC, 0, &duration, nullptr);
  waits_ = std::max(waits_, kShortWaits) + 1;
}

}  // namespace vmsnap::dsa
