// Two segments held against each other, and against the plainest account of what should come of it.
#include <algorithm>
#include <vector>

#include "../compare/segment_compare.h"
#include "support/check.h"
#include "support/memory_image.h"
#include "support/model.h"
#include "support/random.h"

namespace vmsnap::test {

namespace {

SegmentView view_of(const Scanned& scanned, size_t page_bytes) {
  return {scanned.states, page_bytes, scanned.data.data(), scanned.words.data()};
}

uint8_t model_change(std::span<const uint8_t> a, std::span<const uint8_t> b) {
  const auto is_zero = [](std::span<const uint8_t> page) {
    return std::all_of(page.begin(), page.end(), [](uint8_t byte) { return byte == 0; });
  };
  if (is_zero(a) && is_zero(b)) return kPageBothZero;
  if (is_zero(a)) return kPageWasZero;
  if (is_zero(b)) return kPageBecameZero;
  return std::equal(a.begin(), a.end(), b.begin()) ? kPageSame : kPageChanged;
}

void check_against_model(const SegmentView& a, const SegmentView& b, std::span<const uint8_t> memory_a,
                         std::span<const uint8_t> memory_b) {
  const size_t pages = a.states.size();
  std::vector<uint8_t> expected(pages);
  ChangeCounts expected_counts = {};
  for (size_t i = 0; i < pages; ++i) {
    const size_t at = i * a.page_bytes;
    expected[i] = model_change(memory_a.subspan(at, a.page_bytes), memory_b.subspan(at, a.page_bytes));
    ++expected_counts[expected[i]];
  }
  std::vector<uint8_t> changes(pages, 0xEE);
  CHECK(compare_segments(a, b, changes.data()) == expected_counts);
  CHECK_EQ(changes, expected);
}

/// Some pages of `memory` cleared, filled, or with one byte changed anywhere.
std::vector<uint8_t> worked_on(std::vector<uint8_t> memory, Random& random, size_t page_bytes) {
  for (size_t at = 0; at < memory.size(); at += page_bytes) {
    const auto page = memory.begin() + static_cast<ptrdiff_t>(at);
    const auto end = page + static_cast<ptrdiff_t>(page_bytes);
    switch (random.below(6)) {
      case 0:
        std::fill(page, end, uint8_t{0});
        break;
      case 1:
        std::fill(page, end, static_cast<uint8_t>(random.next()));
        break;
      case 2:
        page[static_cast<ptrdiff_t>(random.below(page_bytes))] ^= 0x40;
        break;
      default:
        break;
    }
  }
  return memory;
}

}  // namespace

TEST(compare_tells_what_became_of_each_page) {
  for (size_t page_bytes = kMinPageBytes; page_bytes <= kMaxPageBytes; page_bytes *= 4) {
    Random random(page_bytes + 3);
    for (int round = 0; round < 3; ++round) {
      const std::vector<uint8_t> a = memory_image(random, 4 << 20, page_bytes);
      const std::vector<uint8_t> b = worked_on(a, random, page_bytes);
      const Scanned scanned_a = model_scan(a, page_bytes);
      const Scanned scanned_b = model_scan(b, page_bytes);
      check_against_model(view_of(scanned_a, page_bytes), view_of(scanned_b, page_bytes), a, b);
    }
  }
}

TEST(compare_of_a_segment_with_itself_finds_nothing) {
  Random random(21);
  const std::vector<uint8_t> memory = memory_image(random, 4 << 20, 4096);
  const Scanned scanned = model_scan(memory, 4096);
  std::vector<uint8_t> changes(scanned.states.size());
  const ChangeCounts counts = compare_segments(view_of(scanned, 4096), view_of(scanned, 4096), changes.data());
  CHECK_EQ(counts[kPageBothZero] + counts[kPageSame], uint64_t{scanned.states.size()});
}

TEST(compare_looks_at_bytes_and_not_at_states) {
  // The same contents stored as data on one side: zero, uniform, and a page that differs in its last byte only.
  constexpr size_t kPage = 4096;
  std::vector<uint8_t> data(4 * kPage, 0);
  std::fill_n(data.begin() + kPage, 2 * kPage, uint8_t{0x11});
  data[3 * kPage - 1] = 0x12;
  data[4 * kPage - 1] = 1;
  const std::vector<uint8_t> all_data = {1, 1, 1, 1};
  const std::vector<uint8_t> bare = {0, 2, 2, 0};
  const std::vector<uint64_t> words = {0x1111111111111111, 0x1111111111111111};
  const SegmentView a = {all_data, kPage, data.data(), nullptr};
  const SegmentView b = {bare, kPage, nullptr, words.data()};
  std::vector<uint8_t> changes(4);
  compare_segments(a, b, changes.data());
  CHECK_EQ(changes, (std::vector<uint8_t>{kPageBothZero, kPageSame, kPageChanged, kPageBecameZero}));
  compare_segments(b, a, changes.data());
  CHECK_EQ(changes, (std::vector<uint8_t>{kPageBothZero, kPageSame, kPageChanged, kPageWasZero}));
}

TEST(compare_of_no_pages) {
  const SegmentView none = {{}, 4096, nullptr, nullptr};
  CHECK(compare_segments(none, none, nullptr) == ChangeCounts{});
}

}  // namespace vmsnap::test
