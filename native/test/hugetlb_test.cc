// Writing through a mapping: on ordinary files, where the same code works, and on huge pages where there are any.
#include <cerrno>
#include <vector>

#include <sys/mman.h>

#include "../file/hugetlb_write.h"
#include "../file/mapping.h"
#include "../file/page_cache.h"
#include "../file/zero_range.h"
#include "../scan/segment_scanner.h"
#include "../segment/segment_writer.h"
#include "support/check.h"
#include "support/memory_image.h"
#include "support/model.h"
#include "support/temp_file.h"

namespace vmsnap::test {

TEST(hugetlb_write_puts_bytes_anywhere_within_the_file) {
  for (const std::string& folder : folders_to_try()) {
    const UniqueFd file = temp_file(folder);
    CHECK(!is_hugetlbfs(file.get()));
    std::vector<uint8_t> expected(100'000);
    CHECK_EQ(ftruncate(file.get(), 100'000), 0);
    for (const size_t position : {0U, 1U, 4095U, 4096U, 50'001U}) {
      for (const size_t size_bytes : {0U, 1U, 4096U, 4097U, 30'000U}) {
        const std::vector<uint8_t> bytes = Random(position + size_bytes).bytes(size_bytes);
        CHECK_EQ(write_hugetlb(file.get(), bytes.data(), bytes.size(), position), 0);
        std::copy(bytes.begin(), bytes.end(), expected.begin() + static_cast<ptrdiff_t>(position));
      }
    }
    CHECK_EQ(read_at(file.get(), expected.size() + 1, 0), expected);
    CHECK_EQ(write_hugetlb(file.get(), expected.data(), 2, 99'999), -EFBIG);
    CHECK_EQ(write_hugetlb(file.get(), expected.data(), 1, 100'001), -EFBIG);
  }
}

TEST(hugetlb_file_takes_a_segment_and_gives_it_back) {
  constexpr size_t kSizeBytes = size_t{4} << 20;
  const UniqueFd file(memfd_create("vmsnap-test", MFD_CLOEXEC | MFD_HUGETLB));
  if (!file.is_open() || ftruncate(file.get(), kSizeBytes) != 0 || allocate(file.get(), 0, kSizeBytes) != 0) {
    return skip("no huge pages to be had here");
  }
#ifndef __x86_64__
  // qemu-user maps at addresses that are aligned to its guest's pages only.
  if (Mapping(file.get(), 0, kSizeBytes, PROT_READ | PROT_WRITE).error() != 0) {
    return skip("huge pages cannot be mapped here, as under qemu-user");
  }
#endif
  CHECK(is_hugetlbfs(file.get()));
  Random random(22);
  const std::vector<uint8_t> memory = memory_image(random, kSizeBytes, 4096);
  const Scanned scanned = model_scan(memory, 4096);
  for (const ZeroMode mode : {ZeroMode::kSkip, ZeroMode::kWrite, ZeroMode::kPunch}) {
    uint64_t failed_at = 0;
    const SegmentView segment = {scanned.states, 4096, scanned.data.data(), scanned.words.data()};
    CHECK_EQ(write_segment(file.get(), 0, segment, mode, failed_at), 0);
    OutputArrays arrays(kSizeBytes, 4096);
    ScanReport report;
    const std::vector<Extent> extents = {{file.get(), 0, kSizeBytes}};
    CHECK_EQ(SegmentScanner(*find_kernel("auto"), 4096).scan_extents(extents, arrays.output(), report), 0);
    CHECK(arrays.taken(report) == scanned);
  }
  CHECK_EQ(zero_range(file.get(), 4096, 8192, false), 0);
  CHECK_EQ(read_at(file.get(), 8192, 4096), std::vector<uint8_t>(8192));
}

}  // namespace vmsnap::test
