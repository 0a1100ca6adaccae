// Segments in front of an emulated device: answers page by page, wherever the files join, and mappings that are kept.
#include <algorithm>
#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include "../dsa/ahead_checks.h"
#include "support/check.h"
#include "support/memory_image.h"
#include "support/open_emulated.h"
#include "support/temp_file.h"

namespace vmsnap::test {

namespace {

using dsa::AheadChecks;

bool is_zero(std::span<const uint8_t> bytes) {
  return std::all_of(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte == 0; });
}

/// How many answers are wrong; adds those that are missing to `unknown`.
size_t wrong_answers(std::span<const PageAnswer> answers, std::span<const uint8_t> memory, size_t page_bytes,
                     size_t& unknown) {
  size_t wrong = 0;
  for (size_t page = 0; page < answers.size(); ++page) {
    const bool zero = is_zero(memory.subspan(page * page_bytes, page_bytes));
    if (answers[page] == PageAnswer::unknown) {
      ++unknown;
    } else if ((answers[page] == PageAnswer::zero) != zero) {
      ++wrong;
    }
  }
  return wrong;
}

}  // namespace

TEST(dsa_ahead_checks_answer_every_page_of_a_dense_file_in_each_slot) {
  const auto device = open_emulated();
  if (device == nullptr) return;
  for (const size_t page_bytes : {size_t{4096}, size_t{65536}, size_t{2} << 20}) {
    Random random(page_bytes);
    const std::vector<uint8_t> memory = memory_image(random, 12 << 20, page_bytes);
    const UniqueFd file = temp_file("/dev/shm");
    write_at(file.get(), memory, 0);
    AheadChecks checks(device, page_bytes, 3);
    for (int round = 0; round < 2; ++round) {
      for (size_t slot = 0; slot < 3; ++slot) {
        const std::vector<Extent> extents = {{file.get(), slot << 22, 4 << 20}};
        checks.submit(slot, extents);
      }
      for (size_t slot = 0; slot < 3; ++slot) {
        CHECK(checks.is_submitted(slot));
        size_t unknown = 0;
        const std::span<const PageAnswer> answers = checks.wait(slot);
        CHECK_EQ(answers.size(), (size_t{4} << 20) / page_bytes);
        CHECK_EQ(wrong_answers(answers, std::span(memory).subspan(slot << 22, 4 << 20), page_bytes, unknown),
                 size_t{0});
        CHECK_EQ(unknown, size_t{0});
        CHECK(!checks.is_submitted(slot));
      }
    }
  }
}

TEST(dsa_ahead_checks_know_where_files_join) {
  const auto device = open_emulated();
  if (device == nullptr) return;
  for (uint64_t round = 0; round < 30; ++round) {
    Random random(700 + round);
    const size_t page_bytes = size_t{4096} << random.below(4);
    const std::vector<uint8_t> source = memory_image(random, 3 << 20, 4096);
    const UniqueFd file = temp_file("/dev/shm");
    write_at(file.get(), source, 0);
    std::vector<Extent> extents;
    std::vector<uint8_t> memory;
    size_t joins = 0;
    while (memory.size() < (2 << 20)) {
      const uint64_t size_bytes = std::min<uint64_t>(random.below(300'000), (2 << 20) - memory.size());
      const uint64_t offset = random.below(2 << 20);
      const bool hole = random.below(5) == 0;
      extents.push_back({hole ? -1 : file.get(), hole ? 0 : offset, size_bytes});
      const size_t before = memory.size();
      memory.resize(before + size_bytes);
      if (!hole)
        std::copy_n(source.begin() + static_cast<ptrdiff_t>(offset), size_bytes,
                    memory.begin() + static_cast<ptrdiff_t>(before));
      joins += hole ? size_bytes / page_bytes + 2 : 1;
    }
    AheadChecks checks(device, page_bytes, 1);
    checks.submit(0, extents);
    size_t unknown = 0;
    CHECK_EQ(wrong_answers(checks.wait(0), memory, page_bytes, unknown), size_t{0});
    CHECK(unknown <= joins);
  }
}

TEST(dsa_ahead_checks_leave_out_what_is_not_there_or_gone) {
  const auto device = open_emulated();
  if (device == nullptr) return;
  const UniqueFd file = temp_file("/dev/shm");
  CHECK_EQ(ftruncate(file.get(), 4 << 20), 0);
  write_at(file.get(), Random(1).bytes(4096), 1 << 20);
  AheadChecks checks(device, 4096, 2);
  const std::vector<Extent> extents = {{file.get(), 0, 4 << 20}};
  checks.submit(0, extents);
  std::span<const PageAnswer> answers = checks.wait(0);
  CHECK(answers[256] == PageAnswer::not_zero);
  CHECK_EQ(std::count(answers.begin(), answers.end(), PageAnswer::unknown), ptrdiff_t{1023});
  CHECK_EQ(ftruncate(file.get(), 4096), 0);
  checks.submit(0, extents);
  answers = checks.wait(0);
  CHECK_EQ(std::count(answers.begin(), answers.end(), PageAnswer::unknown), ptrdiff_t{1024});
  // What cannot be mapped, and a slot that was never submitted.
  int ends[2];
  CHECK_EQ(pipe(ends), 0);
  const std::vector<Extent> of_pipe = {{ends[0], 0, 8192}};
  checks.submit(1, of_pipe);
  CHECK_EQ(checks.wait(1).size(), size_t{2});
  CHECK(checks.wait(1).empty());
  close(ends[0]);
  close(ends[1]);
}

TEST(dsa_ahead_checks_ask_a_distrusted_device_no_more) {
  const auto device = open_emulated();
  if (device == nullptr) return;
  const UniqueFd file = temp_file("/dev/shm");
  write_at(file.get(), std::vector<uint8_t>(1 << 20), 0);
  const std::vector<Extent> extents = {{file.get(), 0, 1 << 20}};
  AheadChecks checks(device, 4096, 1);
  checks.submit(0, extents);
  CHECK(checks.wait(0)[0] == PageAnswer::zero);
  checks.distrust();
  checks.submit(0, extents);
  CHECK(checks.wait(0)[0] == PageAnswer::unknown);
}

TEST(dsa_open_device_keeps_a_mapping_until_the_file_changes_or_is_deleted) {
  const auto device = open_emulated(true);
  if (device == nullptr) return;
  const TempFolder folder("/dev/shm");
  const std::string path = folder.path("memory");
  const UniqueFd file = open_or_abort(path, O_RDWR | O_CREAT);
  write_at(file.get(), std::vector<uint8_t>(1 << 20), 0);
  int error = 0;
  CHECK(!device->keeps(file.get()));
  device->enter();
  CHECK(device->in_use());
  std::weak_ptr<dsa::SourceMapping> first = device->mapping_of(file.get(), error);
  CHECK(device->mapping_of(file.get(), error) == first.lock());
  device->leave();
  CHECK(!device->in_use());
  CHECK(!first.expired());
  CHECK(device->keeps(file.get()));

  CHECK_EQ(ftruncate(file.get(), 2 << 20), 0);
  CHECK(!device->keeps(file.get()));
  device->enter();
  std::weak_ptr<dsa::SourceMapping> second = device->mapping_of(file.get(), error);
  CHECK(first.expired());
  CHECK_EQ(second.lock()->size_bytes(), uint64_t{2} << 20);
  device->leave();

  CHECK_EQ(unlink(path.c_str()), 0);
  device->enter();
  device->leave();
  CHECK(second.expired());
}

TEST(dsa_open_device_drops_what_was_not_used_for_long) {
  const auto device = open_emulated();
  if (device == nullptr) return;
  const UniqueFd file = temp_file("/dev/shm");
  write_at(file.get(), std::vector<uint8_t>(4096), 0);
  int error = 0;
  device->enter();
  std::weak_ptr<dsa::SourceMapping> mapping = device->mapping_of(file.get(), error);
  int saves = 0;
  for (device->leave(); !mapping.expired() && saves < 1000; ++saves) {
    device->enter();
    device->leave();
  }
  CHECK(saves > 10 && saves < 1000);
}

TEST(dsa_ahead_checks_of_several_threads_on_one_device) {
  const auto device = open_emulated();
  if (device == nullptr) return;
  Random random(8);
  const std::vector<uint8_t> memory = memory_image(random, 8 << 20, 4096);
  const UniqueFd file = temp_file("/dev/shm");
  write_at(file.get(), memory, 0);
  std::atomic<size_t> wrong = 0;
  std::atomic<size_t> unknown_pages = 0;
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      AheadChecks checks(device, 4096, 2);
      const std::vector<Extent> extents = {{file.get(), t << 21, 2 << 20}};
      for (int round = 0; round < 10; ++round) {
        checks.submit(0, extents);
        checks.submit(1, extents);
        for (const size_t slot : {0U, 1U}) {
          size_t unknown = 0;
          wrong += wrong_answers(checks.wait(slot), std::span(memory).subspan(t << 21, 2 << 20), 4096, unknown);
          unknown_pages += unknown;
        }
      }
      checks.submit(0, extents);  // left to the destructor
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(wrong.load(), size_t{0});
  CHECK_EQ(unknown_pages.load(), size_t{0});
  CHECK(!device->in_use());
  CHECK(device->reachable_cpu() > 0);
}

}  // namespace vmsnap::test
