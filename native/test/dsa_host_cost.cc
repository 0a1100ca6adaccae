// CPU time of the host's side when a file is scanned with a DSA device, beside pread() and the CPU's kernel.
//
//   dsa_host_cost FILE MIB zero|half|mixed ROUNDS ready|emulator     FILE exists and is overwritten
//
//   zero    all zero
//   half    every other MiB random, the rest zero
//   mixed   every other page random: the densest change there is
//
// Everything is done as a save does it: segments of 4 MiB, the device some ahead, and what is not known to be zero read
// and hashed. Contenders take turns, round by round, and the median counts:
//
//   cpu     the scan without a device
//   fresh   with one, the file mapped anew
//   kept    with one, the file mapped and its page tables filled by an earlier pass
//
// CPU time is that of the whole process, in the kernel too, less what the emulated device uses: its engine threads, and
// the inside of write(), by which descriptors are handed over. So it is the host's side alone, with real hardware one
// system call more for each batch. The device "ready" has answered when write() returns: nobody waits. With "emulator"
// the completion thread waits for a device in software, which is a slow one. Elapsed times say nothing about a real
// one.
//
// Prints one line of numbers for bench/dsa-host-cost.sh: for each contender CPU and elapsed milliseconds for each GiB,
// then the parts of `fresh` and of `kept`: making reachable (and giving back), submission, completion.
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/mman.h>

#include "../dsa/ahead_checks.h"
#include "../dsa/clock.h"
#include "../scan/segment_scanner.h"
#include "support/model.h"
#include "support/random.h"
#include "support/ready_device.h"
#include "support/temp_file.h"

namespace {

using namespace vmsnap;
using namespace vmsnap::test;

constexpr size_t kPageBytes = 4096;
constexpr size_t kSegmentBytes = size_t{4} << 20;
constexpr size_t kSlots = 5;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "dsa_host_cost: %s\n", what.c_str());
  std::exit(2);
}

int64_t process_cpu_nanoseconds() { return dsa::read_clock(CLOCK_PROCESS_CPUTIME_ID); }

/// Keeps an account of the CPU time inside write().
class TimedCalls final : public dsa::DeviceCalls {
 public:
  explicit TimedCalls(dsa::DeviceCalls& calls) : calls_(calls) {}

  int open(const char* path) override { return calls_.open(path); }
  int map_portal(int fd, void*& portal) override { return calls_.map_portal(fd, portal); }
  int unmap_portal(void* portal) override { return calls_.unmap_portal(portal); }
  int poll_error(int fd, int timeout_milliseconds) override { return calls_.poll_error(fd, timeout_milliseconds); }
  int close(int fd) override { return calls_.close(fd); }

  ssize_t write(int fd, const void* bytes, size_t size_bytes) override {
    const int64_t before = dsa::thread_cpu_nanoseconds();
    const ssize_t written = calls_.write(fd, bytes, size_bytes);
    write_nanoseconds_.fetch_add(dsa::thread_cpu_nanoseconds() - before, std::memory_order_relaxed);
    return written;
  }

  int64_t write_nanoseconds() const { return write_nanoseconds_.load(std::memory_order_relaxed); }

 private:
  dsa::DeviceCalls& calls_;
  std::atomic<int64_t> write_nanoseconds_{0};
};

/// The emulated device and what it uses.
struct Device {
  std::unique_ptr<dsa::Emulator> emulator;
  std::unique_ptr<ReadyDevice> ready;
  std::unique_ptr<TimedCalls> calls;

  int64_t cpu_nanoseconds() const {
    return static_cast<int64_t>(emulator->engine_cpu_nanoseconds()) + calls->write_nanoseconds();
  }

  std::shared_ptr<dsa::OpenDevice> open(bool keep_mapped) const {
    dsa::OffloadOptions options;
    options.sysfs_root = emulator->sysfs_root();
    options.device_root = emulator->device_root();
    options.calls = calls.get();
    options.ways = {dsa::SubmitWay::write_batch};
    auto opened = dsa::Offload::open(options);
    if (!opened.offload) fail(opened.reason);
    return std::make_shared<dsa::OpenDevice>(nullptr, std::move(opened.offload), keep_mapped);
  }
};

Device make_device(bool ready) {
  dsa::EmulatorConfig config;
  config.devices.front().engines = 1;
  config.devices.front().queues.front().size = 64;
  std::string error;
  Device device;
  device.emulator = dsa::Emulator::create(config, error);
  if (!device.emulator) fail(error);
  device.ready = std::make_unique<ReadyDevice>(*device.emulator);
  dsa::DeviceCalls* const calls = ready ? static_cast<dsa::DeviceCalls*>(device.ready.get()) : device.emulator.get();
  device.calls = std::make_unique<TimedCalls>(*calls);
  return device;
}

struct Cost {
  double cpu = 0;
  double elapsed = 0;
  double reachable = 0;
  double submission = 0;
  double completion = 0;
};

class Scan {
 public:
  Scan(int fd, uint64_t size_bytes, uint64_t zero_pages) : fd_(fd), size_bytes_(size_bytes), zero_pages_(zero_pages) {}

  void by_cpu() {
    for (uint64_t at = 0; at < size_bytes_; at += kSegmentBytes) scan(at, {});
    check();
  }

  void by_device(const std::shared_ptr<dsa::OpenDevice>& device) {
    dsa::AheadChecks checks(device, kPageBytes, kSlots);
    const uint64_t segments = size_bytes_ / kSegmentBytes;
    uint64_t submitted = 0;
    for (uint64_t segment = 0; segment < segments; ++segment) {
      for (; submitted < std::min(segments, segment + kSlots); ++submitted) {
        checks.submit(submitted % kSlots, std::array{Extent{fd_, submitted * kSegmentBytes, kSegmentBytes}});
      }
      scan(segment * kSegmentBytes, checks.wait(segment % kSlots));
    }
    check();
  }

 private:
  void scan(uint64_t at, std::span<const PageAnswer> answers) {
    ScanReport report;
    const std::array extents = {Extent{fd_, at, kSegmentBytes}};
    const SegmentHints hints = {.first_page = at / kPageBytes, .answers = answers};
    if (scanner_.scan_extents(extents, arrays_.output(), report, hints) != 0) fail("the file cannot be read");
    found_ += report.zero_pages;
  }

  void check() {
    if (found_ != zero_pages_) fail("the scan is wrong");
    found_ = 0;
  }

  int fd_;
  uint64_t size_bytes_;
  uint64_t zero_pages_;
  uint64_t found_ = 0;
  SegmentScanner scanner_{*find_kernel("auto"), kPageBytes};
  OutputArrays arrays_{kSegmentBytes, kPageBytes};
};

template <class Pass>
Cost measure(const Device& device, const Pass& pass) {
  const int64_t device_before = device.cpu_nanoseconds();
  const int64_t cpu_before = process_cpu_nanoseconds();
  const int64_t before = dsa::now_nanoseconds();
  Cost cost;
  pass(cost);
  cost.elapsed = static_cast<double>(dsa::now_nanoseconds() - before);
  const int64_t cpu = process_cpu_nanoseconds() - cpu_before;
  cost.cpu = static_cast<double>(cpu - (device.cpu_nanoseconds() - device_before));
  return cost;
}

void add_parts(dsa::OpenDevice& opened, int64_t write_nanoseconds, double sign, Cost& cost) {
  const dsa::OffloadTimes times = opened.offload().times();
  cost.reachable += sign * static_cast<double>(opened.reachable_cpu());
  cost.submission += sign * (static_cast<double>(times.submission_cpu) - static_cast<double>(write_nanoseconds));
  cost.completion += sign * static_cast<double>(times.completion_cpu);
}

void scan_with_parts(Scan& scan, const Device& device, const std::shared_ptr<dsa::OpenDevice>& opened, Cost& cost) {
  add_parts(*opened, device.calls->write_nanoseconds(), -1, cost);
  scan.by_device(opened);
  add_parts(*opened, device.calls->write_nanoseconds(), 1, cost);
}

double median(std::vector<Cost>& costs, double Cost::*what) {
  std::sort(costs.begin(), costs.end(), [what](const Cost& a, const Cost& b) { return a.*what < b.*what; });
  return costs[costs.size() / 2].*what;
}

/// Through a mapping, which hugetlbfs needs. Returns the number of zero pages.
uint64_t fill(int fd, uint64_t size_bytes, const std::string& contents) {
  const uint64_t zero_run_pages = contents == "mixed" ? 1 : 256;
  if (ftruncate(fd, static_cast<off_t>(size_bytes)) != 0) fail("the file cannot be made as large");
  void* const mapped = mmap(nullptr, size_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (mapped == MAP_FAILED) fail("the file cannot be mapped");
  auto* const bytes = static_cast<uint8_t*>(mapped);
  const std::vector<uint8_t> data = Random(1).bytes(kPageBytes);
  uint64_t zero_pages = 0;
  for (uint64_t page = 0; page < size_bytes / kPageBytes; ++page) {
    uint8_t* const at = bytes + page * kPageBytes;
    const bool zero = contents == "zero" || page / zero_run_pages % 2 == 0;
    zero_pages += zero ? 1 : 0;
    if (zero) {
      std::memset(at, 0, kPageBytes);
    } else {
      std::memcpy(at, data.data(), kPageBytes);
      std::memcpy(at + 64, &page, sizeof page);
    }
  }
  munmap(mapped, size_bytes);
  fsync(fd);
  return zero_pages;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string contents = argc == 6 ? argv[3] : "";
  if (contents != "zero" && contents != "half" && contents != "mixed") {
    fail("usage: FILE MIB zero|half|mixed ROUNDS ready|emulator");
  }
  const uint64_t size_bytes = std::strtoull(argv[2], nullptr, 10) << 20;
  const int rounds = std::atoi(argv[4]);
  if (size_bytes < kSegmentBytes || rounds < 1) fail("a segment and a round at least");
  const UniqueFd file = open_or_abort(argv[1], O_RDWR);
  Scan scan(file.get(), size_bytes, fill(file.get(), size_bytes, contents));

  const Device device = make_device(argv[5] == std::string("ready"));
  const std::shared_ptr<dsa::OpenDevice> keeping = device.open(true);
  std::array<std::vector<Cost>, 3> costs;
  for (int round = -1; round < rounds; ++round) {
    const std::array<Cost, 3> now = {
        measure(device, [&](Cost&) { scan.by_cpu(); }),
        [&] {
          std::shared_ptr<dsa::OpenDevice> opened = device.open(false);
          return measure(device, [&](Cost& cost) {
            scan_with_parts(scan, device, opened, cost);
            opened.reset();
          });
        }(),
        measure(device, [&](Cost& cost) { scan_with_parts(scan, device, keeping, cost); }),
    };
    // The first round warms up, and fills what is kept.
    for (size_t i = 0; i < now.size() && round >= 0; ++i) costs[i].push_back(now[i]);
  }
  const double per_gib = static_cast<double>(uint64_t{1} << 30) / static_cast<double>(size_bytes) / 1e6;
  for (std::vector<Cost>& of : costs) {
    std::printf("%.2f %.2f ", median(of, &Cost::cpu) * per_gib, median(of, &Cost::elapsed) * per_gib);
  }
  for (size_t i = 1; i < costs.size(); ++i) {
    std::printf("%.2f %.2f %.2f ", median(costs[i], &Cost::reachable) * per_gib,
                median(costs[i], &Cost::submission) * per_gib, median(costs[i], &Cost::completion) * per_gib);
  }
  std::printf("\n");
  return 0;
}
