// What a device has said about a page before the CPU looks at it.
#pragma once

#include <cstdint>

namespace vmsnap {

/// An answer is right or missing, never a guess: `unknown` means that the CPU has to look, for whatever reason.
enum class PageAnswer : uint8_t { unknown = 0, zero = 1, not_zero = 2 };

}  // namespace vmsnap
