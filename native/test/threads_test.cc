// Several threads that scan, write and digest at once: the thread sanitizer looks for what they share.
#include <thread>
#include <vector>

#include "../crc32c/crc32c.h"
#include "../segment/segment_view.h"
#include "support/check.h"
#include "support/memory_image.h"
#include "support/model.h"
#include "support/temp_file.h"

namespace vmsnap::test {

TEST(threads_scan_one_file_at_once) {
  constexpr size_t kSegments = 8;
  constexpr size_t kSegmentBytes = size_t{1} << 20;
  constexpr size_t kPageBytes = 4096;
  Random random(14);
  const std::vector<uint8_t> memory = memory_image(random, kSegments * kSegmentBytes, kPageBytes);
  const UniqueFd file = temp_file();
  write_at(file.get(), memory, 0);
  const SegmentScanner scanner(*find_kernel("auto"), kPageBytes);
  std::vector<std::thread> threads;
  std::vector<int> good(8);
  for (size_t t = 0; t < good.size(); ++t) {
    threads.emplace_back([&, t] {
      for (size_t round = 0; round < 2 * kSegments; ++round) {
        const size_t segment = (t + round) % kSegments;
        OutputArrays arrays(kSegmentBytes, kPageBytes);
        ScanReport report;
        const std::vector<Extent> extents = {{file.get(), segment * kSegmentBytes, kSegmentBytes}};
        if (scanner.scan_extents(extents, arrays.output(), report) != 0) return;
        const Scanned scanned = arrays.taken(report);
        std::vector<uint8_t> again(kSegmentBytes);
        expand_segment({scanned.states, kPageBytes, scanned.data.data(), scanned.words.data()}, again.data());
        const uint8_t* original = memory.data() + segment * kSegmentBytes;
        if (!std::equal(again.begin(), again.end(), original)) return;
        if (crc32c(again.data(), again.size(), 0) != crc32c(original, kSegmentBytes, 0)) return;
      }
      good[t] = 1;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const int ok : good) CHECK_EQ(ok, 1);
}

}  // namespace vmsnap::test
