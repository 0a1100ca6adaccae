// The table of stored pages, and what is taken out of a segment because an earlier page has the same bytes.
#include <algorithm>
#include <cerrno>
#include <map>
#include <vector>

#include "../duplicates/duplicate_table.h"
#include "../duplicates/take_out.h"
#include "../file/extent_cursor.h"
#include "support/check.h"
#include "support/random.h"
#include "support/temp_file.h"

namespace vmsnap::test {

namespace {

constexpr size_t kPage = kMinPageBytes;

uint64_t some_hash(uint64_t number) { return (number + 1) * 0x9E3779B97F4A7C15; }

/// Pages of a few different contents; `kinds` says which.
std::vector<uint8_t> pages_of(const std::vector<size_t>& kinds) {
  std::vector<uint8_t> pages;
  for (const size_t kind : kinds) {
    std::vector<uint8_t> page(kPage, static_cast<uint8_t>(kind));
    page[kind % kPage] ^= 0x80;
    pages.insert(pages.end(), page.begin(), page.end());
  }
  return pages;
}

}  // namespace

TEST(a_table_gives_the_page_that_was_first) {
  std::vector<uint64_t> entries(1024);
  DuplicateTable table(entries);
  CHECK_EQ(table.find_or_put(7, 100), kNoPage);
  CHECK_EQ(table.find_or_put(7, 200), uint64_t{100});
  CHECK_EQ(table.find_or_put(7, 300), uint64_t{100});
  // The same set, another hash.
  CHECK_EQ(table.find_or_put(7 | uint64_t{1} << 63, 400), kNoPage);
  CHECK_EQ(table.find_or_put(7, 500), uint64_t{100});
  // Page 0 and the hash 0 are like any other.
  CHECK_EQ(table.find_or_put(0, 0), kNoPage);
  CHECK_EQ(table.find_or_put(0, 1), uint64_t{0});
}

TEST(a_full_set_loses_what_was_not_asked_for_longest) {
  std::vector<uint64_t> entries(kDuplicateWays);
  DuplicateTable table(entries);
  const auto hash = [](uint64_t number) { return (number + 1) << 40; };
  for (uint64_t i = 0; i < kDuplicateWays; ++i) CHECK_EQ(table.find_or_put(hash(i), i), kNoPage);
  CHECK_EQ(table.find_or_put(hash(0), 99), uint64_t{0});
  CHECK_EQ(table.find_or_put(hash(50), 50), kNoPage);
  CHECK_EQ(table.find_or_put(hash(0), 99), uint64_t{0});
  CHECK_EQ(table.find_or_put(hash(1), 77), kNoPage);
}

TEST(pages_beyond_36_bits_are_not_put_in) {
  std::vector<uint64_t> entries(kDuplicateWays);
  DuplicateTable table(entries);
  const uint64_t last = (uint64_t{1} << 36) - 2;
  CHECK_EQ(table.find_or_put(1, last + 1), kNoPage);
  CHECK_EQ(table.find_or_put(1, last), kNoPage);
  CHECK_EQ(table.find_or_put(1, last + 1), last);
}

TEST(proposals_are_those_of_a_map_while_the_table_holds_all) {
  std::vector<uint64_t> entries(size_t{1} << 15);
  Random random(3);
  std::map<uint64_t, uint64_t> known;
  for (uint64_t first_page = 0; first_page < 2560; first_page += 256) {
    std::vector<uint8_t> states(256);
    std::vector<uint64_t> hashes(256);
    for (size_t i = 0; i < states.size(); ++i) {
      states[i] = static_cast<uint8_t>(random.below(3));
      hashes[i] = some_hash(random.below(400));
    }
    std::vector<uint64_t> targets(256, 1);
    const size_t found = propose_duplicates(DuplicateTable(entries), states, hashes, first_page, targets);
    CHECK_EQ(found, static_cast<size_t>(256 - std::count(targets.begin(), targets.end(), kNoPage)));
    for (size_t i = 0; i < states.size(); ++i) {
      const auto [at, is_new] =
          states[i] == kPageData ? known.try_emplace(hashes[i], first_page + i) : std::make_pair(known.end(), true);
      CHECK_EQ(targets[i], is_new ? kNoPage : at->second);
    }
  }
}

TEST(bytes_decide_what_is_taken_out) {
  // Segment 0 (pages 0 to 7) lies in the file; segment 1 is at hand. Two regions, the second elsewhere in the file.
  const std::vector<uint8_t> first = pages_of({10, 11, 12, 13, 14, 15, 16, 17});
  const UniqueFd file = temp_file();
  write_at(file.get(), first, 0);
  const std::vector<RegionFile> regions = {{0, 4, file.get(), 0}, {4, 4, file.get(), 4 * kPage}};
  DuplicateCheck check(regions, kPage);
  const std::vector<uint8_t> states = {1, 1, 1, 0, 1, 1, 1, 1};
  std::vector<uint8_t> data = pages_of({30, 12, 13, 14, 16, 99, 30});
  // The last but one is said to be page 6, whose bytes are others; the last is the segment's first again.
  std::vector<uint64_t> targets = {kNoPage, 2, 3, kNoPage, 4, 6, 6, 8};
  std::vector<uint8_t> out_states = states;
  const SegmentView view = {states, kPage, data.data(), nullptr};
  const SegmentBuffers out = {out_states.data(), data.data(), nullptr};
  TakeOutReport report;
  CHECK_EQ(check.take_out(view, 8, targets, out, report), 0);
  CHECK_EQ(report.references, size_t{5});
  CHECK_EQ(report.data, size_t{2});
  const std::vector<uint8_t> expected_states = {1, 3, 3, 0, 3, 3, 1, 3};
  CHECK_EQ(out_states, expected_states);
  const std::vector<uint64_t> expected_targets = {2, 3, 4, 6, 8};
  CHECK_EQ(std::vector<uint64_t>(targets.begin(), targets.begin() + 5), expected_targets);
  data.resize(2 * kPage);
  CHECK_EQ(data, pages_of({30, 99}));
}

TEST(targets_that_cannot_be_are_no_references) {
  const std::vector<uint8_t> states = {1, 1, 1};
  std::vector<uint8_t> data = pages_of({5, 5, 5});
  // Itself, a later page, and one that has become a reference: none of them stays before it.
  std::vector<uint64_t> targets = {8, 10, kNoPage};
  std::vector<uint8_t> out_states = states;
  TakeOutReport report;
  DuplicateCheck check({}, kPage);
  const SegmentView view = {states, kPage, data.data(), nullptr};
  CHECK_EQ(check.take_out(view, 8, targets, {out_states.data(), data.data(), nullptr}, report), 0);
  CHECK_EQ(report.references, size_t{0});
  CHECK_EQ(out_states, states);
}

TEST(a_source_that_cannot_be_read_again_is_told) {
  const UniqueFd file = temp_file();
  write_at(file.get(), pages_of({1, 2}), 0);
  const std::vector<RegionFile> regions = {{0, 8, file.get(), 0}};
  const std::vector<uint8_t> states = {1};
  std::vector<uint8_t> data = pages_of({1});
  std::vector<uint8_t> out_states = states;
  const SegmentView view = {states, kPage, data.data(), nullptr};
  TakeOutReport report;
  DuplicateCheck check(regions, kPage);
  std::vector<uint64_t> beyond_file = {5};
  CHECK_EQ(check.take_out(view, 8, beyond_file, {out_states.data(), data.data(), nullptr}, report), kScanTruncated);
  CHECK_EQ(report.failed_page, uint64_t{5});
  std::vector<uint64_t> beyond_regions = {9};
  CHECK_EQ(check.take_out(view, 16, beyond_regions, {out_states.data(), data.data(), nullptr}, report), -ERANGE);
}

}  // namespace vmsnap::test
