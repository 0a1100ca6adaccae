#include "duplicate_table.h"

#include <algorithm>

#include "../base/page_state.h"

namespace vmsnap {

namespace {

// An entry: the upper 28 bits of the hash, then the page's number plus one; 0 is empty.
constexpr unsigned kPageBits = 36;
constexpr uint64_t kPageMask = (uint64_t{1} << kPageBits) - 1;

constexpr size_t kPrefetchPages = 16;

}  // namespace

uint64_t DuplicateTable::find_or_put(uint64_t hash, uint64_t page) {
  uint64_t* set = set_of(hash);
  size_t way = 0;
  while (way < kDuplicateWays - 1 && (set[way] == 0 || ((set[way] ^ hash) & ~kPageMask) != 0)) ++way;
  const bool is_found = set[way] != 0 && ((set[way] ^ hash) & ~kPageMask) == 0;
  if (!is_found && page >= kPageMask) return kNoPage;
  const uint64_t entry = is_found ? set[way] : (hash & ~kPageMask) | (page + 1);
  // The first of a set is the one that was asked for last.
  std::copy_backward(set, set + way, set + way + 1);
  set[0] = entry;
  return is_found ? (entry & kPageMask) - 1 : kNoPage;
}

size_t propose_duplicates(DuplicateTable table, std::span<const uint8_t> states, std::span<const uint64_t> hashes,
                          uint64_t first_page, std::span<uint64_t> targets) {
  size_t found = 0;
  for (size_t page = 0; page < states.size(); ++page) {
    const size_t ahead = page + kPrefetchPages;
    if (ahead < states.size() && states[ahead] == kPageData) table.prefetch(hashes[ahead]);
    targets[page] = states[page] == kPageData ? table.find_or_put(hashes[page], first_page + page) : kNoPage;
    if (targets[page] != kNoPage) ++found;
  }
  return found;
}

}  // namespace vmsnap
