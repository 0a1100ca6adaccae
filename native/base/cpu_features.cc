#include "cpu_features.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace vmsnap {

CpuFeatures cpu_features() {
#if defined(__x86_64__)
  unsigned eax = 0;
  unsigned ebx = 0;
  unsigned ecx = 0;
  unsigned edx = 0;
  if (__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) == 0) ecx = 0;
  return {.architecture = "x86-64",
          .avx2 = __builtin_cpu_supports("avx2") != 0,
          .avx512 = __builtin_cpu_supports("avx512f") != 0,
          .neon = false,
          .waitpkg = ((ecx >> 5) & 1) != 0,
          .movdir64b = ((ecx >> 28) & 1) != 0,
          .enqcmd = ((ecx >> 29) & 1) != 0};
#elif defined(__aarch64__)
  return {.architecture = "aarch64",
          .avx2 = false,
          .avx512 = false,
          .neon = true,
          .waitpkg = false,
          .movdir64b = false,
          .enqcmd = false};
#else
  return {.architecture = "other",
          .avx2 = false,
          .avx512 = false,
          .neon = false,
          .waitpkg = false,
          .movdir64b = false,
          .enqcmd = false};
#endif
}

}  // namespace vmsnap
