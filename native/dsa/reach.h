// Puts pages into the page tables without touching them.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vmsnap::dsa {

/// Whether a device may now find all pages of the range. False where one of them cannot be had (beyond the end of its
/// file, not readable, not mapped) and on kernels without MADV_POPULATE_READ (before 5.14).
bool make_reachable(const uint8_t* address, size_t size_bytes);

}  // namespace vmsnap::dsa
