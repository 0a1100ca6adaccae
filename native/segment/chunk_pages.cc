#include "chunk_pages.h"

#include <algorithm>
#include <cstring>

namespace vmsnap {

bool scatter_pages(std::span<const int32_t> targets, size_t page_bytes, const uint8_t* pages, std::span<uint8_t> data) {
  const size_t room = data.size() / page_bytes;
  for (size_t first = 0; first < targets.size();) {
    const int32_t number = targets[first];
    size_t end = first + 1;
    if (number >= 0) {
      const auto target = static_cast<size_t>(number);
      while (end < targets.size() && int64_t{targets[end]} == int64_t{number} + static_cast<int64_t>(end - first))
        ++end;
      const size_t count = end - first;
      if (target >= room || count > room - target) return false;
      std::memcpy(data.data() + target * page_bytes, pages + first * page_bytes, count * page_bytes);
    }
    first = end;
  }
  return true;
}

bool match_pages(std::span<const int32_t> targets, size_t page_bytes, const uint8_t* pages,
                 std::span<const uint8_t> data, std::span<uint8_t> same) {
  const size_t room = std::min(data.size() / page_bytes, same.size());
  for (size_t i = 0; i < targets.size(); ++i) {
    const int32_t number = targets[i];
    if (number < 0) continue;
    const auto target = static_cast<size_t>(number);
    if (target >= room) return false;
    if (std::memcmp(pages + i * page_bytes, data.data() + target * page_bytes, page_bytes) == 0) same[target] = 1;
  }
  return true;
}

}  // namespace vmsnap
