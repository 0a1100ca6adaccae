// A mapping that is kept is not walked again at the next save; what has changed under it is found all the same.
#include <array>
#include <memory>
#include <vector>

#include <fcntl.h>

#include "../dsa/ahead_checks.h"
#include "support/check.h"
#include "support/open_emulated.h"
#include "support/temp_file.h"

namespace vmsnap::test {

namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kSegmentBytes = size_t{4} << 20;
constexpr size_t kPages = kSegmentBytes / kPageBytes;

std::vector<PageAnswer> check_segment(const std::shared_ptr<dsa::OpenDevice>& device, int fd) {
  dsa::AheadChecks checks(device, kPageBytes, 1);
  checks.submit(0, std::array{Extent{fd, 0, kSegmentBytes}});
  const std::span<const PageAnswer> answers = checks.wait(0);
  return {answers.begin(), answers.end()};
}

}  // namespace

TEST(dsa_kept_mapping_finds_pages_that_were_taken_away_and_written_again) {
  const auto device = open_emulated(true);
  if (device == nullptr) return;
  const UniqueFd file = temp_file("/dev/shm");
  write_at(file.get(), std::vector<uint8_t>(kSegmentBytes), 0);
  std::vector<PageAnswer> expected(kPages, PageAnswer::zero);
  CHECK(check_segment(device, file.get()) == expected);
  CHECK(check_segment(device, file.get()) == expected);

  // A new page in the place of an old one: in no page table yet.
  constexpr size_t kChanged = 700;
  const auto at = static_cast<off_t>(kChanged * kPageBytes);
  CHECK_EQ(fallocate(file.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, 16 * kPageBytes), 0);
  write_at(file.get(), std::vector<uint8_t>(kPageBytes, 7), kChanged * kPageBytes);
  write_at(file.get(), std::vector<uint8_t>(kPageBytes), (kChanged + 1) * kPageBytes);
  const uint64_t faults_before = device->offload().reports().front().counters.page_faults;
  expected[kChanged] = PageAnswer::not_zero;
  for (size_t hole = kChanged + 2; hole < kChanged + 16; ++hole) expected[hole] = PageAnswer::unknown;
  CHECK(check_segment(device, file.get()) == expected);
  CHECK(device->offload().reports().front().counters.page_faults > faults_before);
  // A hole that nobody wrote to stays one.
  CHECK_EQ(lseek(file.get(), at + 2 * 4096, SEEK_DATA), at + 16 * 4096);
}

}  // namespace vmsnap::test
