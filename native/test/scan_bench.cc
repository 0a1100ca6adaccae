// Speed of the kernels, the digests, the CRC, whole scans and pipes: the best of several runs, in GB/s (1e9 bytes).
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <thread>
#include <vector>

#include "../crc32c/crc32c.h"
#include "../digest/leaf_digester.h"
#include "../file/stream.h"
#include "../scan/segment_scanner.h"
#include "support/model.h"
#include "support/random.h"
#include "support/temp_file.h"

namespace {

using namespace vmsnap;
using namespace vmsnap::test;

constexpr size_t kPageBytes = 4096;
constexpr size_t kInCacheBytes = size_t{256} << 10;
constexpr size_t kOutOfCacheBytes = size_t{512} << 20;
constexpr size_t kSegmentBytes = size_t{4} << 20;

/// Keeps the compiler from dropping what is measured.
volatile uint64_t g_sink = 0;

double best_gb_per_second(size_t bytes, const std::function<void()>& run) {
  double best = 0;
  const auto start = std::chrono::steady_clock::now();
  for (int round = 0; round < 5 || std::chrono::steady_clock::now() - start < std::chrono::milliseconds(500); ++round) {
    const auto before = std::chrono::steady_clock::now();
    run();
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - before;
    best = std::max(best, static_cast<double>(bytes) / seconds.count() / 1e9);
  }
  return best;
}

/// Over a small buffer many times, so that a run is long enough for the clock.
double in_cache(const std::vector<uint8_t>& buffer, const std::function<void(const uint8_t*, size_t)>& pass) {
  constexpr int kPasses = 200;
  return best_gb_per_second(kInCacheBytes * kPasses, [&] {
    for (int i = 0; i < kPasses; ++i) pass(buffer.data(), kInCacheBytes);
  });
}

double out_of_cache(const std::vector<uint8_t>& buffer, const std::function<void(const uint8_t*, size_t)>& pass) {
  return best_gb_per_second(buffer.size(), [&] { pass(buffer.data(), buffer.size()); });
}

void bench_kernels(const std::vector<uint8_t>& zeros) {
  for (const Kernel& kernel : kernels()) {
    if (!kernel.available) continue;
    const auto pass = [&](const uint8_t* bytes, size_t size_bytes) {
      for (size_t at = 0; at < size_bytes; at += kPageBytes) {
        g_sink = g_sink + (kernel.repeats_first_word(bytes + at, kPageBytes) ? 1 : 0);
      }
    };
    std::printf("kernel %-8s zero pages  in L2 %6.1f  in memory %6.1f\n", std::string(kernel.name).c_str(),
                in_cache(zeros, pass), out_of_cache(zeros, pass));
  }
}

void bench_digests(const std::vector<uint8_t>& data) {
  const auto pass = [&](const uint8_t* bytes, size_t size_bytes) {
    std::vector<uint8_t> leaves(leaf_count(size_bytes) * kDigestBytes);
    LeafDigester digester(leaves.data());
    digester.add_data(bytes, size_bytes);
    digester.finish();
    g_sink = g_sink + leaves[0];
  };
  std::printf("leaf digests                 in L2 %6.1f  in memory %6.1f\n", in_cache(data, pass),
              out_of_cache(data, pass));
}

void bench_crc(const std::vector<uint8_t>& data) {
  for (const Crc32cImplementation& implementation : crc32c_implementations()) {
    if (!implementation.available) continue;
    const auto pass = [&](const uint8_t* bytes, size_t size_bytes) {
      g_sink = g_sink + implementation.update(0, bytes, size_bytes);
    };
    std::printf("crc32c %-8s              in L2 %6.1f  in memory %6.1f\n", std::string(implementation.name).c_str(),
                in_cache(data, pass), out_of_cache(data, pass));
  }
}

/// Every other page stays a hole if `page_step` is two pages.
void bench_scan(const char* what, const std::vector<uint8_t>& memory, size_t page_step = kPageBytes) {
  const UniqueFd file = temp_file();
  if (ftruncate(file.get(), static_cast<off_t>(memory.size())) != 0) std::abort();
  for (size_t at = 0; at < memory.size(); at += page_step) write_at(file.get(), {&memory[at], kPageBytes}, at);
  const SegmentScanner scanner(*find_kernel("auto"), kPageBytes);
  OutputArrays arrays(kSegmentBytes, kPageBytes);
  const double speed = best_gb_per_second(memory.size(), [&] {
    for (size_t at = 0; at < memory.size(); at += kSegmentBytes) {
      ScanReport report;
      const std::vector<Extent> extents = {{file.get(), at, kSegmentBytes}};
      g_sink = g_sink + static_cast<uint64_t>(scanner.scan_extents(extents, arrays.output(), report));
    }
  });
  std::printf("scan of a cached file, %-8s %6.1f\n", what, speed);
}

void bench_pipe(const std::vector<uint8_t>& data, size_t capacity_bytes, const char* what, PipeWay way) {
  const int32_t go_on = 0;
  const size_t size_bytes = size_t{256} << 20;
  const double speed = best_gb_per_second(size_bytes, [&] {
    PipeEnds ends;
    if (open_pipe(capacity_bytes, ends) != 0) return;
    const UniqueFd read_end(ends.read_fd);
    UniqueFd write_end(ends.write_fd);
    std::thread writer([&] {
      for (size_t at = 0; at < size_bytes; at += 4 << 20) {
        g_sink = g_sink + static_cast<uint64_t>(write_stream(write_end.get(), data.data() + at, 4 << 20, &go_on, way));
      }
    });
    std::vector<uint8_t> got(1 << 20);
    for (size_t at = 0; at < size_bytes; at += got.size()) {
      if (read_stream(read_end.get(), got.data(), got.size(), &go_on) <= 0) break;
    }
    writer.join();
  });
  std::printf("pipe of %4zu KiB, %-10s          %6.1f\n", capacity_bytes >> 10, what, speed);
}

}  // namespace

int main() {
  const std::vector<uint8_t> zeros(kOutOfCacheBytes);
  const std::vector<uint8_t> data = Random(1).bytes(kOutOfCacheBytes);
  bench_kernels(zeros);
  bench_digests(data);
  bench_crc(data);
  bench_scan("zero", zeros);
  bench_scan("data", data);
  std::vector<uint8_t> mixed = data;
  Random random(2);
  for (size_t at = 0; at < mixed.size(); at += kPageBytes) {
    if (random.below(2) == 0) std::fill_n(mixed.begin() + static_cast<ptrdiff_t>(at), kPageBytes, uint8_t{0});
  }
  bench_scan("mixed", mixed);
  bench_scan("holes", data, 2 * kPageBytes);
  for (const size_t capacity_bytes : {size_t{64} << 10, size_t{1} << 20}) {
    bench_pipe(data, capacity_bytes, "no wait", PipeWay::kNoWait);
    bench_pipe(data, capacity_bytes, "reopened", PipeWay::kReopened);
    bench_pipe(data, capacity_bytes, "small", PipeWay::kSmall);
  }
}
