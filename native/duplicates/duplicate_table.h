// A table of the data pages that an image holds already, by their hashes, for the search for duplicates.
//
// It lies in memory that all threads of a save share and is asked in the order of the segments, by one thread at a
// time, so that its answers follow from the memory alone. Its size is fixed: what it holds depends neither on the
// machine nor on the number of threads. Sets of 8 entries, a cache line each; the entry of a set that was asked for the
// longest time ago goes out. A hash only proposes: an entry keeps 28 bits of it beside those that choose the set, and
// bytes decide (take_out.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace vmsnap {

inline constexpr size_t kDuplicateWays = 8;
/// No page.
inline constexpr uint64_t kNoPage = UINT64_MAX;

class DuplicateTable {
 public:
  /// `entries` are 0 at first; their number is a power of two, at least kDuplicateWays.
  explicit DuplicateTable(std::span<uint64_t> entries) : entries_(entries) {}

  /// The page that was put in under this hash, or kNoPage: then `page` is from now on, if it is below 2^36 - 1.
  uint64_t find_or_put(uint64_t hash, uint64_t page);

  void prefetch(uint64_t hash) const { __builtin_prefetch(set_of(hash), 1); }

 private:
  uint64_t* set_of(uint64_t hash) const {
    const size_t sets = entries_.size() / kDuplicateWays;
    return entries_.data() + (hash & (sets - 1)) * kDuplicateWays;
  }

  std::span<uint64_t> entries_;
};

/// Asks for each data page of a segment whose first page has the number `first_page`, in order. `hashes` and `targets`
/// have one for each page; a target is the number of a page that may have the same bytes, kNoPage if there is none.
/// Returns how many targets there are.
size_t propose_duplicates(DuplicateTable table, std::span<const uint8_t> states, std::span<const uint64_t> hashes,
                          uint64_t first_page, std::span<uint64_t> targets);

}  // namespace vmsnap
