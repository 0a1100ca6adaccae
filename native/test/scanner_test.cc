// The scanner against the plain model: holes, extents that join anywhere, files that end early.
#include <algorithm>
#include <cerrno>
#include <numeric>
#include <vector>

#include "../scan/segment_scanner.h"
#include "support/check.h"
#include "support/memory_image.h"
#include "support/model.h"
#include "support/temp_file.h"

namespace vmsnap::test {

namespace {

constexpr size_t kSegmentBytes = size_t{4} << 20;

const Kernel& best_kernel() { return *find_kernel("auto"); }

struct ScanAnswer {
  int status;
  ScanReport report;
  Scanned scanned;
};

ScanAnswer scan(const std::vector<Extent>& extents, size_t page_bytes, const Kernel& kernel = best_kernel(),
                const ScanSettings& settings = {}, const SegmentHints& hints = {}) {
  uint64_t size_bytes = 0;
  for (const Extent& extent : extents) size_bytes += extent.size_bytes;
  OutputArrays arrays(size_bytes, page_bytes);
  ScanAnswer answer;
  answer.status =
      SegmentScanner(kernel, page_bytes, settings).scan_extents(extents, arrays.output(), answer.report, hints);
  answer.scanned = arrays.taken(answer.report);
  return answer;
}

void check_whole(const ScanAnswer& answer, std::span<const uint8_t> memory, size_t page_bytes) {
  CHECK_EQ(answer.status, 0);
  CHECK(answer.scanned == model_scan(memory, page_bytes));
  CHECK_EQ(answer.report.data_pages + answer.report.uniform_pages + answer.report.zero_pages,
           memory.size() / page_bytes);
  CHECK_EQ(answer.report.hole_bytes + answer.report.read_bytes, memory.size());
}

/// What a device would say, each answer left out with a chance of one in `missing`.
std::vector<PageAnswer> answers_for(Random& random, std::span<const uint8_t> memory, size_t page_bytes,
                                    uint64_t missing) {
  std::vector<PageAnswer> answers;
  for (size_t at = 0; at < memory.size(); at += page_bytes) {
    const auto page = memory.subspan(at, page_bytes);
    const bool is_zero = std::all_of(page.begin(), page.end(), [](uint8_t byte) { return byte == 0; });
    const PageAnswer answer = is_zero ? PageAnswer::zero : PageAnswer::not_zero;
    answers.push_back(random.below(missing) == 0 ? PageAnswer::unknown : answer);
  }
  return answers;
}

uint64_t count_of(const std::vector<PageAnswer>& answers, PageAnswer answer) {
  return static_cast<uint64_t>(std::count(answers.begin(), answers.end(), answer));
}

/// Writes only the blocks that are not zero, so that the file has holes.
UniqueFd sparse_file(const std::string& folder, std::span<const uint8_t> memory) {
  UniqueFd file = temp_file(folder);
  if (ftruncate(file.get(), static_cast<off_t>(memory.size())) != 0) std::abort();
  for (size_t at = 0; at < memory.size(); at += 4096) {
    const auto block = memory.subspan(at, std::min<size_t>(4096, memory.size() - at));
    if (std::accumulate(block.begin(), block.end(), 0U) != 0) write_at(file.get(), block, at);
  }
  return file;
}

}  // namespace

TEST(scan_of_a_dense_file_follows_the_model_for_every_page_size_and_kernel) {
  for (const Kernel& kernel : kernels()) {
    if (!kernel.available) continue;
    for (size_t page_bytes = kMinPageBytes; page_bytes <= kMaxPageBytes; page_bytes *= 2) {
      Random random(page_bytes);
      const std::vector<uint8_t> memory = memory_image(random, kSegmentBytes, page_bytes);
      const UniqueFd file = temp_file();
      write_at(file.get(), memory, 0);
      const ScanAnswer answer = scan({{file.get(), 0, kSegmentBytes}}, page_bytes, kernel);
      check_whole(answer, memory, page_bytes);
      CHECK_EQ(answer.report.read_bytes, kSegmentBytes);
    }
  }
}

TEST(scan_does_not_read_holes) {
  for (const std::string& folder : folders_to_try()) {
    Random random(9);
    std::vector<uint8_t> memory(kSegmentBytes);
    const std::vector<uint8_t> data = random.bytes(3 * 4096);
    std::copy(data.begin(), data.end(), memory.begin() + (1 << 20));
    const UniqueFd file = sparse_file(folder, memory);
    const ScanAnswer answer = scan({{file.get(), 0, kSegmentBytes}}, 4096);
    check_whole(answer, memory, 4096);
    CHECK_EQ(answer.report.data_pages, uint64_t{3});
    CHECK(answer.report.read_bytes <= 256 << 10);  // data is read in steps of that size
  }
}

TEST(scan_of_nothing_but_hole_and_of_hole_extents) {
  const UniqueFd file = temp_file();
  CHECK_EQ(ftruncate(file.get(), kSegmentBytes), 0);
  const std::vector<uint8_t> zeros(kSegmentBytes);
  const ScanAnswer answer = scan({{file.get(), 0, kSegmentBytes}}, 4096);
  check_whole(answer, zeros, 4096);
  CHECK_EQ(answer.report.hole_bytes, kSegmentBytes);
  const ScanAnswer no_file = scan({{-1, 12345, kSegmentBytes}}, 1 << 20);
  check_whole(no_file, zeros, 1 << 20);
  CHECK_EQ(no_file.report.hole_bytes, kSegmentBytes);
  const ScanAnswer nothing = scan({}, 4096);
  CHECK_EQ(nothing.status, 0);
  CHECK_EQ(nothing.report.zero_pages, uint64_t{0});
}

TEST(scan_with_answers_gives_the_same_and_reads_no_page_that_is_answered_zero) {
  for (const std::string& folder : folders_to_try()) {
    for (size_t page_bytes = kMinPageBytes; page_bytes <= (size_t{256} << 10); page_bytes *= 4) {
      for (const uint64_t missing : {uint64_t{1}, uint64_t{3}, uint64_t{1000}}) {
        Random random(page_bytes + missing);
        const std::vector<uint8_t> memory = memory_image(random, kSegmentBytes, page_bytes);
        const UniqueFd file = temp_file(folder);
        write_at(file.get(), memory, 0);
        const std::vector<PageAnswer> answers = answers_for(random, memory, page_bytes, missing);
        const ScanAnswer answer = scan({{file.get(), 0, kSegmentBytes}}, page_bytes, best_kernel(), {},
                                       {.first_page = 7, .answers = answers});
        CHECK_EQ(answer.status, 0);
        CHECK(answer.scanned == model_scan(memory, page_bytes));
        CHECK_EQ(answer.report.answered_bytes, count_of(answers, PageAnswer::zero) * page_bytes);
        CHECK_EQ(answer.report.unanswered_pages, count_of(answers, PageAnswer::unknown));
        CHECK_EQ(answer.report.read_bytes + answer.report.answered_bytes, kSegmentBytes);
        CHECK_EQ(answer.report.checked_answers, uint64_t{0});
      }
    }
  }
}

TEST(scan_with_answers_takes_extents_that_join_anywhere_and_holes) {
  for (uint64_t round = 0; round < 40; ++round) {
    Random random(500 + round);
    const size_t page_bytes = size_t{4096} << random.below(4);
    const std::vector<uint8_t> source = memory_image(random, 3 << 20, 4096);
    const UniqueFd file = sparse_file("/dev/shm", source);
    std::vector<Extent> extents;
    std::vector<uint8_t> memory;
    while (memory.size() < (2 << 20)) {
      uint64_t size_bytes = std::min<uint64_t>(random.below(300'000), (2 << 20) - memory.size());
      const uint64_t offset = random.below(2 << 20);
      if (random.below(4) == 0) {
        extents.push_back({-1, 0, size_bytes});
        memory.resize(memory.size() + size_bytes);
      } else {
        extents.push_back({file.get(), offset, size_bytes});
        const auto from = source.begin() + static_cast<ptrdiff_t>(offset);
        memory.insert(memory.end(), from, from + static_cast<ptrdiff_t>(size_bytes));
      }
    }
    std::vector<PageAnswer> answers = answers_for(random, memory, page_bytes, 4);
    answers.resize(random.below(answers.size() + 1));
    const ScanAnswer answer = scan(extents, page_bytes, best_kernel(), {}, {.first_page = 0, .answers = answers});
    CHECK_EQ(answer.status, 0);
    CHECK(answer.scanned == model_scan(memory, page_bytes));
    CHECK_EQ(answer.report.hole_bytes + answer.report.read_bytes + answer.report.answered_bytes, memory.size());
  }
}

TEST(scan_with_self_check_finds_every_wrong_answer_and_believes_the_cpu) {
  for (uint64_t round = 0; round < 10; ++round) {
    Random random(600 + round);
    const std::vector<uint8_t> memory = memory_image(random, 1 << 20, 4096);
    const UniqueFd file = temp_file();
    write_at(file.get(), memory, 0);
    std::vector<PageAnswer> answers = answers_for(random, memory, 4096, 5);
    uint64_t wrong = 0;
    for (PageAnswer& answer : answers) {
      if (answer == PageAnswer::unknown || random.below(8) != 0) continue;
      answer = answer == PageAnswer::zero ? PageAnswer::not_zero : PageAnswer::zero;
      ++wrong;
    }
    const ScanAnswer answer =
        scan({{file.get(), 0, memory.size()}}, 4096, best_kernel(), {.self_check = true, .normal_page_percent = 0},
             {.first_page = 0, .answers = answers});
    CHECK_EQ(answer.status, 0);
    CHECK(answer.scanned == model_scan(memory, 4096));
    CHECK_EQ(answer.report.wrong_answers, wrong);
    CHECK_EQ(answer.report.checked_answers, answers.size() - count_of(answers, PageAnswer::unknown));
    CHECK_EQ(answer.report.read_bytes, memory.size());
  }
}

TEST(scan_with_a_normal_page_ratio_stores_that_share_of_the_zero_pages_whoever_finds_them) {
  constexpr size_t kPages = 1000;
  const std::vector<uint8_t> zeros(kPages * 4096);
  const UniqueFd dense = temp_file();
  write_at(dense.get(), zeros, 0);
  const UniqueFd sparse = sparse_file("/dev/shm", zeros);
  const std::vector<PageAnswer> answers(kPages, PageAnswer::zero);
  for (const uint32_t percent : {0U, 1U, 10U, 33U, 50U, 99U, 100U}) {
    const ScanSettings settings = {.self_check = false, .normal_page_percent = percent};
    const ScanAnswer read =
        scan({{dense.get(), 0, zeros.size()}}, 4096, best_kernel(), settings, {.first_page = 100, .answers = {}});
    CHECK_EQ(read.report.data_pages, uint64_t{percent} * kPages / 100);
    CHECK_EQ(read.report.zero_pages + read.report.data_pages, kPages);
    CHECK(read.scanned.leaves == model_leaves(zeros));
    CHECK(read.scanned.data == std::vector<uint8_t>(read.report.data_pages * 4096));
    const ScanAnswer answered =
        scan({{dense.get(), 0, zeros.size()}}, 4096, best_kernel(), settings, {.first_page = 100, .answers = answers});
    CHECK(answered.scanned == read.scanned);
    CHECK_EQ(answered.report.read_bytes, uint64_t{0});
    const ScanAnswer hole =
        scan({{sparse.get(), 0, zeros.size()}}, 4096, best_kernel(), settings, {.first_page = 100, .answers = {}});
    CHECK(hole.scanned == read.scanned);
    OutputArrays arrays(zeros.size(), 4096);
    ScanReport report;
    SegmentScanner(best_kernel(), 4096, settings)
        .scan_memory(zeros, arrays.output(), report, {.first_page = 100, .answers = {}});
    CHECK(arrays.taken(report) == read.scanned);
    // In two segments: the page's number in the region decides.
    const ScanAnswer second =
        scan({{dense.get(), 0, 512 * 4096}}, 4096, best_kernel(), settings, {.first_page = 100 + 300, .answers = {}});
    CHECK(std::equal(second.scanned.states.begin(), second.scanned.states.end(), read.scanned.states.begin() + 300));
  }
}

TEST(scan_of_a_segment_that_ends_within_a_leaf) {
  Random random(10);
  const std::vector<uint8_t> memory = memory_image(random, (1 << 20) + 5 * 4096, 4096);
  const UniqueFd file = sparse_file(temp_root(), memory);
  check_whole(scan({{file.get(), 0, memory.size()}}, 4096), memory, 4096);
}

TEST(scan_gathers_extents_that_join_at_any_byte) {
  for (const std::string& folder : folders_to_try()) {
    for (uint64_t round = 0; round < 40; ++round) {
      Random random(100 + round);
      const size_t page_bytes = size_t{4096} << random.below(6);
      const std::vector<uint8_t> source = memory_image(random, 4 << 20, 4096);
      const UniqueFd files[2] = {sparse_file(folder, source), sparse_file(folder, source)};
      std::vector<Extent> extents;
      std::vector<uint8_t> memory;
      const uint64_t total = page_bytes * (1 + random.below((2 << 20) / page_bytes));
      while (memory.size() < total) {
        const bool odd = random.below(2) == 0;
        uint64_t size_bytes = random.below(4) == 0 ? random.below(300) : random.below(600'000);
        uint64_t offset = random.below(3 << 20);
        if (!odd) {
          size_bytes -= size_bytes % 4096;
          offset -= offset % 4096;
        }
        size_bytes = std::min(size_bytes, total - memory.size());
        if (random.below(5) == 0) {
          extents.push_back({-1, 0, size_bytes});
          memory.resize(memory.size() + size_bytes);
        } else {
          extents.push_back({files[random.below(2)].get(), offset, size_bytes});
          const auto from = source.begin() + static_cast<ptrdiff_t>(offset);
          memory.insert(memory.end(), from, from + static_cast<ptrdiff_t>(size_bytes));
        }
      }
      check_whole(scan(extents, page_bytes), memory, page_bytes);
    }
  }
}

TEST(scan_of_memory_equals_scan_of_a_file) {
  for (uint64_t round = 0; round < 20; ++round) {
    Random random(200 + round);
    const size_t page_bytes = size_t{4096} << random.below(10);
    const std::vector<uint8_t> memory = memory_image(random, (2 << 20) + page_bytes, page_bytes);
    const UniqueFd file = temp_file();
    write_at(file.get(), memory, 0);
    const ScanAnswer from_file = scan({{file.get(), 0, memory.size()}}, page_bytes);
    OutputArrays arrays(memory.size(), page_bytes);
    ScanReport report;
    SegmentScanner(best_kernel(), page_bytes).scan_memory(memory, arrays.output(), report);
    CHECK(arrays.taken(report) == from_file.scanned);
    CHECK_EQ(report.read_bytes, memory.size());

    // In place: the input is the array that takes the data.
    OutputArrays in_place(memory.size(), page_bytes);
    std::copy(memory.begin(), memory.end(), in_place.output().data);
    SegmentScanner(best_kernel(), page_bytes)
        .scan_memory({in_place.output().data, memory.size()}, in_place.output(), report);
    CHECK(in_place.taken(report) == from_file.scanned);
  }
}

TEST(scan_tells_a_file_that_ends_early) {
  for (const std::string& folder : folders_to_try()) {
    for (const uint64_t file_bytes : {uint64_t{0}, uint64_t{1}, uint64_t{4096}, uint64_t{300'000}, kSegmentBytes - 1}) {
      for (const bool sparse : {false, true}) {
        Random random(11);
        const std::vector<uint8_t> memory = sparse ? std::vector<uint8_t>(file_bytes) : random.bytes(file_bytes);
        const UniqueFd file = sparse_file(folder, memory);
        const ScanAnswer answer = scan({{-1, 0, 4096}, {file.get(), 0, kSegmentBytes}}, 4096);
        CHECK_EQ(answer.status, kScanTruncated);
        CHECK_EQ(answer.report.failed_extent, uint64_t{1});
        CHECK_EQ(answer.report.failed_offset, file_bytes);
      }
    }
    // Data, then a hole that should be longer than the file.
    const UniqueFd file = temp_file(folder);
    write_at(file.get(), Random(12).bytes(65536), 0);
    CHECK_EQ(ftruncate(file.get(), 200'000), 0);
    const ScanAnswer answer = scan({{file.get(), 0, 204'800}}, 4096);
    CHECK_EQ(answer.status, kScanTruncated);
    CHECK_EQ(answer.report.failed_offset, uint64_t{200'000});
    const ScanAnswer beyond = scan({{file.get(), 1 << 20, 4096}}, 4096);
    CHECK_EQ(beyond.status, kScanTruncated);
    CHECK_EQ(beyond.report.failed_offset, uint64_t{1 << 20});
  }
}

TEST(scan_names_the_extent_that_cannot_be_read) {
  const UniqueFd file = temp_file();
  write_at(file.get(), Random(13).bytes(8192), 0);
  const TempFolder folder;
  const UniqueFd write_only = open_or_abort(folder.path("w"), O_WRONLY | O_CREAT);
  CHECK_EQ(ftruncate(write_only.get(), 4096), 0);
  write_at(write_only.get(), Random(13).bytes(4096), 0);
  const ScanAnswer answer = scan({{file.get(), 0, 8192}, {write_only.get(), 0, 4096}}, 4096);
  CHECK_EQ(answer.status, -EBADF);
  CHECK_EQ(answer.report.failed_extent, uint64_t{1});
  CHECK_EQ(answer.report.data_pages, uint64_t{2});
  int ends[2];
  CHECK_EQ(pipe(ends), 0);
  CHECK_EQ(scan({{ends[0], 0, 4096}}, 4096).status, -ESPIPE);
  close(ends[0]);
  close(ends[1]);
  CHECK_EQ(scan({{ends[0], 0, 4096}}, 4096).status, -EBADF);
}

TEST(scan_of_a_device_that_does_not_seek) {
  const UniqueFd zero = open_or_abort("/dev/zero", O_RDONLY);
  const ScanAnswer answer = scan({{zero.get(), 1 << 20, kSegmentBytes}}, 4096);
  check_whole(answer, std::vector<uint8_t>(kSegmentBytes), 4096);
  CHECK_EQ(answer.report.read_bytes, kSegmentBytes);
  const UniqueFd null = open_or_abort("/dev/null", O_RDONLY);
  CHECK_EQ(scan({{null.get(), 0, 4096}}, 4096).status, kScanTruncated);
}

}  // namespace vmsnap::test
