#include "portal.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace vmsnap::dsa {

namespace {

constexpr uint32_t kSlots = kPortalBytes / kDescriptorBytes;

#if defined(__x86_64__)
bool leaf_7_ecx_has(unsigned bit) {
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) != 0 && ((ecx >> bit) & 1) != 0;
}
#endif

}  // namespace

uint8_t* Portal::next_slot() {
  return address_ + size_t{slot_.fetch_add(1, std::memory_order_relaxed) % kSlots} * kDescriptorBytes;
}

#if defined(__x86_64__)

bool cpu_has_enqcmd() { return leaf_7_ecx_has(29); }
bool cpu_has_movdir64b() { return leaf_7_ecx_has(28); }

void Portal::order_stores() { _mm_sfence(); }

bool Portal::enqueue(const Descriptor& descriptor) {
  // The zero flag says that the queue refused. A handler that emulates the instruction cannot set flags under valgrind;
  // it gives its answer in ecx too (0 taken, 1 refused). Hardware leaves the 2 there.
  uint32_t emulated_answer = 2;
  uint8_t refused = 0;
  asm volatile(
      ".byte 0xf2, 0x0f, 0x38, 0xf8, 0x02\n\t"  // enqcmd rax, [rdx]
      "setz %0"
      : "=&q"(refused), "+c"(emulated_answer)
      : "a"(next_slot()), "d"(&descriptor)
      : "memory", "cc");
  return emulated_answer == 2 ? refused == 0 : emulated_answer == 0;
}

void Portal::store(const Descriptor& descriptor) {
  asm volatile(".byte 0x66, 0x0f, 0x38, 0xf8, 0x02"  // movdir64b rax, [rdx]
               :
               : "a"(next_slot()), "d"(&descriptor)
               : "memory");
}

#else

bool cpu_has_enqcmd() { return false; }
bool cpu_has_movdir64b() { return false; }

void Portal::order_stores() { std::atomic_thread_fence(std::memory_order_seq_cst); }
bool Portal::enqueue(const Descriptor&) { return false; }
void Portal::store(const Descriptor&) {}

#endif

}  // namespace vmsnap::dsa
