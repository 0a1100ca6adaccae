// Which kernels this CPU can run.
#include <array>

#include "kernel.h"

namespace vmsnap {

namespace {

Kernel probe_avx2() {
#if defined(__x86_64__)
  // Asks CPUID and also whether the operating system saves the registers.
  const bool available = __builtin_cpu_supports("avx2") != 0;
  return {"avx2", available, available ? "the CPU has AVX2" : "the CPU (or the hypervisor) offers no AVX2",
          repeats_first_word_avx2};
#else
  return {"avx2", false, "AVX2 is a unit of x86-64 CPUs; this build is for another", nullptr};
#endif
}

Kernel probe_neon() {
#if defined(__aarch64__)
  return {"neon", true, "every aarch64 CPU has NEON", repeats_first_word_neon};
#else
  return {"neon", false, "NEON is a unit of ARM CPUs; this build is for another", nullptr};
#endif
}

}  // namespace

std::span<const Kernel> kernels() {
  static const std::array<Kernel, 3> all = {
      probe_avx2(), probe_neon(), Kernel{"scalar", true, "plain C++ runs everywhere", repeats_first_word_scalar}};
  return all;
}

const Kernel* find_kernel(std::string_view name) {
  for (const Kernel& kernel : kernels()) {
    if (name == kernel.name || (name == "auto" && kernel.available)) return &kernel;
  }
  return nullptr;
}

}  // namespace vmsnap
