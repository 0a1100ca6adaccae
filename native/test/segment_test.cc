// Scan, write, read back and expand: the same memory again.
#include <algorithm>
#include <cerrno>
#include <csignal>
#include <vector>

#include <sys/resource.h>

#include "../file/zero_range.h"
#include "../segment/chunk_pages.h"
#include "../segment/segment_diff.h"
#include "../segment/segment_view.h"
#include "../segment/segment_writer.h"
#include "support/check.h"
#include "support/memory_image.h"
#include "support/model.h"
#include "support/temp_file.h"

namespace vmsnap::test {

namespace {

SegmentView view_of(const Scanned& scanned, size_t page_bytes) {
  return {scanned.states, page_bytes, scanned.data.data(), scanned.words.data()};
}

uint64_t allocated_bytes(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? static_cast<uint64_t>(status.st_blocks) * 512 : 0;
}

/// What match_pages says of all data pages of `base`, as one chunk.
std::vector<uint8_t> same_data_pages(const Scanned& own, const Scanned& base, size_t page_bytes) {
  std::vector<int32_t> targets;
  int32_t ordinal = 0;
  for (size_t page = 0; page < own.states.size(); ++page) {
    const bool is_data = own.states[page] == kPageData;
    if (base.states[page] == kPageData) targets.push_back(is_data ? ordinal : -1);
    ordinal += is_data ? 1 : 0;
  }
  std::vector<uint8_t> same(static_cast<size_t>(ordinal));
  CHECK(match_pages(targets, page_bytes, base.data.data(), own.data, same));
  return same;
}

}  // namespace

TEST(expand_gives_the_memory_again) {
  for (size_t page_bytes = kMinPageBytes; page_bytes <= kMaxPageBytes; page_bytes *= 2) {
    Random random(page_bytes + 1);
    const std::vector<uint8_t> memory = memory_image(random, 4 << 20, page_bytes);
    std::vector<uint8_t> out(memory.size(), 0xEE);
    expand_segment(view_of(model_scan(memory, page_bytes), page_bytes), out.data());
    CHECK_EQ(out, memory);
  }
}

TEST(count_pages_refuses_unknown_states) {
  const std::vector<uint8_t> good = {0, 1, 2, 6, 1, 1};
  CHECK(count_pages(good).states_are_known);
  CHECK_EQ(count_pages(good).data, size_t{3});
  CHECK_EQ(count_pages(good).uniform, size_t{1});
  CHECK(!count_pages(std::vector<uint8_t>{0, 3}).states_are_known);
  CHECK(!count_pages(std::vector<uint8_t>{5}).states_are_known);
  CHECK(!count_pages(std::vector<uint8_t>{7}).states_are_known);
  CHECK(!count_pages(std::vector<uint8_t>{255}).states_are_known);
}

TEST(mark_same_as_base_leaves_what_differs) {
  for (size_t page_bytes = kMinPageBytes; page_bytes <= kMaxPageBytes; page_bytes *= 8) {
    Random random(page_bytes + 3);
    const std::vector<uint8_t> base = memory_image(random, 4 << 20, page_bytes);
    const std::vector<uint8_t> other = memory_image(random, 4 << 20, page_bytes);
    std::vector<uint8_t> memory = base;
    const size_t pages = memory.size() / page_bytes;
    for (size_t page = 0; page < pages; ++page) {
      if (random.below(3) != 0) continue;
      std::copy_n(other.data() + page * page_bytes, page_bytes, memory.data() + page * page_bytes);
      // One byte more or less must not be missed.
      if (random.below(2) == 0) memory[page * page_bytes + random.below(page_bytes)] ^= 1;
    }
    const Scanned scanned_base = model_scan(base, page_bytes);
    const Scanned before = model_scan(memory, page_bytes);
    Scanned scanned = before;
    const SegmentView view = {before.states, page_bytes, scanned.data.data(), scanned.words.data()};
    const SegmentBuffers buffers = {scanned.states.data(), scanned.data.data(), scanned.words.data()};
    const std::vector<uint8_t> same_data = same_data_pages(before, scanned_base, page_bytes);
    const BaseView base_view = {scanned_base.states, scanned_base.words.data(), same_data.data()};
    const DiffCounts counts = mark_same_as_base(view, base_view, buffers);
    size_t data = 0;
    size_t words = 0;
    size_t same = 0;
    for (size_t page = 0; page < pages; ++page) {
      const uint8_t* own = memory.data() + page * page_bytes;
      const bool is_same = std::equal(own, own + page_bytes, base.data() + page * page_bytes);
      CHECK_EQ(scanned.states[page], is_same ? kPageSameAsBase : before.states[page]);
      same += is_same ? 1 : 0;
      if (is_same) continue;
      if (before.states[page] == kPageData) {
        CHECK(std::equal(own, own + page_bytes, scanned.data.data() + data++ * page_bytes));
      } else if (before.states[page] == kPageUniform) {
        CHECK(std::equal(own, own + sizeof(uint64_t), reinterpret_cast<const uint8_t*>(&scanned.words[words++])));
      }
    }
    CHECK_EQ(counts.data, data);
    CHECK_EQ(counts.uniform, words);
    CHECK_EQ(counts.same_as_base, same);
    CHECK_EQ(counts.zero, pages - data - words - same);
  }
}

TEST(an_absent_page_reads_as_zero_and_is_the_same_only_as_an_absent_one) {
  constexpr size_t kPage = 4096;
  std::vector<uint8_t> states = {kPageAbsent, kPageAbsent, kPageZero, kPageUniform, kPageAbsent};
  const std::vector<uint8_t> before = states;
  const std::vector<uint8_t> base_states = {kPageAbsent, kPageZero, kPageAbsent, kPageAbsent, kPageUniform};
  std::vector<uint64_t> words = {7};
  const SegmentView view = {before, kPage, nullptr, words.data()};
  std::vector<uint8_t> out(5 * kPage, 0xEE);
  expand_segment(view, out.data());
  CHECK(std::all_of(out.begin(), out.begin() + 3 * kPage, [](uint8_t byte) { return byte == 0; }));
  CHECK(std::all_of(out.begin() + 4 * kPage, out.end(), [](uint8_t byte) { return byte == 0; }));
  const std::vector<uint64_t> base_words = {7};
  const BaseView base = {base_states, base_words.data(), nullptr};
  const DiffCounts counts = mark_same_as_base(view, base, {states.data(), nullptr, words.data()});
  CHECK_EQ(states, (std::vector<uint8_t>{kPageSameAsBase, kPageAbsent, kPageZero, kPageUniform, kPageAbsent}));
  CHECK_EQ(counts.same_as_base, size_t{1});
  CHECK_EQ(counts.absent, size_t{2});
  CHECK_EQ(counts.zero, size_t{1});
  CHECK_EQ(counts.uniform, size_t{1});
}

TEST(scatter_pages_puts_each_page_where_it_belongs) {
  constexpr size_t kPage = 4096;
  Random random(21);
  const std::vector<uint8_t> pages = random.bytes(6 * kPage);
  const std::vector<uint8_t> old = random.bytes(9 * kPage);
  const std::vector<int32_t> targets = {-1, 3, 4, 8, -1, 0};
  std::vector<uint8_t> data = old;
  CHECK(scatter_pages(targets, kPage, pages.data(), data));
  std::vector<uint8_t> expected = old;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (targets[i] < 0) continue;
    std::copy_n(pages.data() + i * kPage, kPage, expected.data() + static_cast<size_t>(targets[i]) * kPage);
  }
  CHECK_EQ(data, expected);
}

TEST(pages_beyond_the_segment_are_refused) {
  constexpr size_t kPage = 4096;
  const std::vector<uint8_t> pages(2 * kPage);
  std::vector<uint8_t> data(3 * kPage);
  for (const std::vector<int32_t>& targets :
       {std::vector<int32_t>{0, 3}, {2, 3}, {INT32_MAX, 0}, {INT32_MAX, INT32_MIN}}) {
    std::vector<uint8_t> same(3);
    CHECK(!scatter_pages(targets, kPage, pages.data(), data));
    CHECK(!match_pages(targets, kPage, pages.data(), data, same));
  }
  std::vector<uint8_t> same(3);
  CHECK(match_pages(std::vector<int32_t>{2, -1}, kPage, pages.data(), data, same));
  CHECK_EQ(same, (std::vector<uint8_t>{0, 0, 1}));
  same.resize(2);
  CHECK(!match_pages(std::vector<int32_t>{2, -1}, kPage, pages.data(), data, same));
}

TEST(write_segment_gives_the_memory_again_in_every_zero_mode) {
  constexpr uint64_t kPosition = 8192;
  for (const std::string& folder : folders_to_try()) {
    for (size_t page_bytes = kMinPageBytes; page_bytes <= kMaxPageBytes; page_bytes *= 8) {
      for (const ZeroMode mode : {ZeroMode::kSkip, ZeroMode::kWrite, ZeroMode::kPunch}) {
        Random random(page_bytes + 2);
        const std::vector<uint8_t> memory = memory_image(random, 4 << 20, page_bytes);
        const Scanned scanned = model_scan(memory, page_bytes);
        const UniqueFd file = temp_file(folder);
        // Old contents everywhere but where zero pages are to be skipped.
        std::vector<uint8_t> old(memory.size() + 2 * kPosition, mode == ZeroMode::kSkip ? 0 : 0xEE);
        std::fill_n(old.begin(), kPosition, uint8_t{0xEE});
        std::fill_n(old.end() - kPosition, kPosition, uint8_t{0xEE});
        write_at(file.get(), old, 0);
        uint64_t failed_at = 0;
        CHECK_EQ(write_segment(file.get(), kPosition, view_of(scanned, page_bytes), mode, failed_at), 0);
        std::copy(memory.begin(), memory.end(), old.begin() + kPosition);
        CHECK_EQ(read_at(file.get(), old.size() + 1, 0), old);
      }
    }
  }
}

TEST(write_segment_of_many_words_uses_each_where_it_belongs) {
  constexpr size_t kPages = 700;
  std::vector<uint8_t> states;
  std::vector<uint64_t> words;
  Random random(15);
  for (size_t i = 0; i < kPages; ++i) {
    const bool zero = random.below(4) == 0;
    states.push_back(zero ? 0 : 2);
    if (!zero) words.push_back(random.below(3) == 0 && !words.empty() ? words.back() : random.next());
  }
  const SegmentView segment = {states, 4096, nullptr, words.data()};
  std::vector<uint8_t> expected(kPages * 4096);
  expand_segment(segment, expected.data());
  const UniqueFd file = temp_file();
  uint64_t failed_at = 0;
  CHECK_EQ(write_segment(file.get(), 0, segment, ZeroMode::kWrite, failed_at), 0);
  CHECK_EQ(read_at(file.get(), expected.size() + 1, 0), expected);
}

TEST(write_segment_says_where_it_failed) {
  const std::vector<uint8_t> states = {1, 2, 0, 1};
  const std::vector<uint8_t> data = Random(16).bytes(2 * 4096);
  const std::vector<uint64_t> words = {7};
  const SegmentView segment = {states, 4096, data.data(), words.data()};
  uint64_t failed_at = 0;
  const TempFolder folder;
  const UniqueFd read_only = open_or_abort(folder.path("r"), O_RDONLY | O_CREAT);
  CHECK_EQ(write_segment(read_only.get(), 4096, segment, ZeroMode::kSkip, failed_at), -EBADF);
  CHECK_EQ(failed_at, uint64_t{4096});

  // A file size limit lets the first bytes through.
  rlimit old_limit;
  CHECK_EQ(getrlimit(RLIMIT_FSIZE, &old_limit), 0);
  const auto old_handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limit = {.rlim_cur = 4096 + 5000, .rlim_max = old_limit.rlim_max};
  const UniqueFd file = temp_file();
  CHECK_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  const int status = write_segment(file.get(), 4096, segment, ZeroMode::kWrite, failed_at);
  setrlimit(RLIMIT_FSIZE, &old_limit);
  std::signal(SIGXFSZ, old_handler);
  CHECK_EQ(status, -EFBIG);
  CHECK_EQ(failed_at, uint64_t{4096 + 5000});
}

TEST(zero_range_punches_and_writes) {
  for (const std::string& folder : folders_to_try()) {
    for (const bool punch : {false, true}) {
      const UniqueFd file = temp_file(folder);
      std::vector<uint8_t> expected = Random(17).bytes(1 << 20);
      write_at(file.get(), expected, 0);
      CHECK_EQ(zero_range(file.get(), 5000, 900'001, punch), 0);
      std::fill_n(expected.begin() + 5000, 900'001, uint8_t{0});
      CHECK_EQ(read_at(file.get(), expected.size() + 1, 0), expected);
      if (punch) CHECK(allocated_bytes(file.get()) < (512 << 10));
      CHECK_EQ(zero_range(file.get(), 5000, 0, punch), 0);
    }
  }
}

TEST(zero_range_falls_back_to_writing_where_holes_cannot_be) {
  // A character device is the file at hand that fallocate refuses (ENODEV) and write() accepts.
  const UniqueFd null = open_or_abort("/dev/null", O_WRONLY);
  int status = 0;
  CHECK(!punch_hole(null.get(), 0, 4096, status));
  CHECK_EQ(zero_range(null.get(), 0, 1 << 20, true), 0);
  const UniqueFd full = open_or_abort("/dev/full", O_WRONLY);
  CHECK_EQ(zero_range(full.get(), 0, 1 << 20, true), -ENOSPC);
  CHECK_EQ(zero_range(full.get(), 0, 4096, false), -ENOSPC);
}

}  // namespace vmsnap::test
