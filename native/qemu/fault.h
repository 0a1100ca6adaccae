// What is wrong with a stream, and where.
#pragma once

#include <cstdint>
#include <string>

namespace vmsnap::qemu {

enum class FaultKind : uint8_t {
  kNone,
  /// Against the format: `what` says what was found and what was expected.
  kCorrupt,
  /// Sound as far as can be told, but of a kind that cannot be read; `hint` says what to switch off.
  kUnsupported,
  /// `error` is a negative errno (-ECANCELED: stopped by the abort word); `of_table`: of the page table's file.
  kSystem,
};

struct Fault {
  FaultKind kind = FaultKind::kNone;
  uint64_t offset = 0;
  std::string what;
  std::string hint;
  int error = 0;
  bool of_table = false;
};

}  // namespace vmsnap::qemu
