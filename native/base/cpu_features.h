// What this CPU offers, for a report: whether a kernel or driver may use something is asked where it is used.
#pragma once

namespace vmsnap {

struct CpuFeatures {
  /// "x86-64", "aarch64", or "other".
  const char* architecture;
  bool avx2;
  bool avx512;
  bool neon;
  /// UMWAIT, TPAUSE.
  bool waitpkg;
  bool movdir64b;
  bool enqcmd;
};

CpuFeatures cpu_features();

}  // namespace vmsnap
