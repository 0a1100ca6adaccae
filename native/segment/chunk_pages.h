// The pages of a decompressed chunk, and the data pages of a segment that they belong to.
//
// A chunk is looked at right after it was decompressed, while it is in the cache. Targets come from outside: each is
// read once and checked before it is used.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace vmsnap {

/// Copies each page whose target is not negative to that data page of `data`, neighbours at once. `pages` holds as many
/// pages as there are targets. False, with some pages copied, if a target lies beyond `data`.
bool scatter_pages(std::span<const int32_t> targets, size_t page_bytes, const uint8_t* pages, std::span<uint8_t> data);

/// Sets `same[target]` to 1 for each page that is byte for byte that data page of `data`; leaves it else. False if a
/// target lies beyond `data` or `same`.
bool match_pages(std::span<const int32_t> targets, size_t page_bytes, const uint8_t* pages,
                 std::span<const uint8_t> data, std::span<uint8_t> same);

}  // namespace vmsnap
