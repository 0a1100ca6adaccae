// The DSA devices that this process has open, by number: worker threads get the number in their job and find the device
// that the main thread opened.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "../dsa/ahead_checks.h"

namespace vmsnap::addon {

/// Null if there is no such device. Until they go, the device cannot be closed.
std::unique_ptr<dsa::AheadChecks> checks_on_device(uint32_t handle, size_t page_bytes, size_t slots);

}  // namespace vmsnap::addon
