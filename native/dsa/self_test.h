// Zero checks on pages whose contents are known: does a device answer rightly, before anybody relies on it?
#pragma once

#include <cstddef>
#include <vector>

#include "offload.h"

namespace vmsnap::dsa {

struct SelfTestResult {
  /// "zero", "first-byte", "middle-byte", "last-byte" (one page that differs there), "mixed" (many pages at once).
  const char* name;
  size_t pages = 0;
  size_t right = 0;
  size_t wrong = 0;
  /// Left to the CPU: no answer is no harm to an image, but here it means that something does not work.
  size_t unknown = 0;

  bool passed() const { return right == pages; }
};

/// Waits for the device within the limits of `offload`. Empty where no memory can be had.
std::vector<SelfTestResult> run_self_test(Offload& offload);

}  // namespace vmsnap::dsa
