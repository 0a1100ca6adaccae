// What the completion thread costs while it waits, and how late it hears of an answer.
//
//   dsa_waiting idle SECONDS             nothing is in flight
//   dsa_waiting MICROSECONDS SECONDS     always some requests in flight, each answered after so long
//
// The device is a thread of this program that notes when it writes a record, so its own lateness does not matter.
// "Late" is the time from there until Offload::wait returns, the waking of whoever waits included. Prints one line for
// bench/dsa-host-cost.sh: CPU of the completion thread in percent of a core, real microseconds to the answer (mean),
// microseconds late (median, 95th percentile), number of requests.
#include <algorithm>
#include <array>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <sys/prctl.h>

#include "../dsa/clock.h"
#include "../dsa/emulator/emulator.h"
#include "../dsa/offload.h"
#include "support/emulated.h"
#include "support/ready_device.h"

namespace {

using namespace vmsnap;
using namespace vmsnap::test;

constexpr size_t kPageBytes = 4096;
constexpr size_t kPages = 128;
constexpr size_t kInFlight = 4;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "dsa_waiting: %s\n", what.c_str());
  std::exit(2);
}

void sleep_until(int64_t time) {
  const timespec until = {time / 1'000'000'000, time % 1'000'000'000};
  clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
}

/// Answers each operation after a time, in their order.
class SlowDevice final : public dsa::DeviceCalls {
 public:
  SlowDevice(dsa::DeviceCalls& nodes, int64_t delay_nanoseconds)
      : nodes_(nodes), delay_nanoseconds_(delay_nanoseconds), thread_([this] { run(); }) {}
  ~SlowDevice() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    arrived_.notify_one();
    thread_.join();
  }
  SlowDevice(const SlowDevice&) = delete;
  SlowDevice& operator=(const SlowDevice&) = delete;

  int open(const char* path) override { return nodes_.open(path); }
  int map_portal(int, void*&) override { return -EPERM; }
  int unmap_portal(void*) override { return -EINVAL; }
  int poll_error(int fd, int timeout_milliseconds) override { return nodes_.poll_error(fd, timeout_milliseconds); }
  int close(int fd) override { return nodes_.close(fd); }

  ssize_t write(int, const void* bytes, size_t size_bytes) override {
    const auto* descriptors = static_cast<const dsa::Descriptor*>(bytes);
    {
      const std::lock_guard lock(mutex_);
      for (size_t i = 0; i < size_bytes / dsa::kDescriptorBytes; ++i) {
        waiting_.push_back({descriptors[i], dsa::now_nanoseconds() + delay_nanoseconds_});
      }
    }
    arrived_.notify_one();
    return static_cast<ssize_t>(size_bytes);
  }

  /// When operation `number`, counted from 0, was about to be answered; it has been.
  int64_t answered(size_t number) const {
    const std::lock_guard lock(mutex_);
    return answered_[number];
  }
  size_t answers() const {
    const std::lock_guard lock(mutex_);
    return answered_.size();
  }

 private:
  struct Operation {
    dsa::Descriptor descriptor;
    int64_t due;
  };

  void run() {
    prctl(PR_SET_TIMERSLACK, 1UL);
    std::unique_lock lock(mutex_);
    for (;;) {
      arrived_.wait(lock, [this] { return stopping_ || !waiting_.empty(); });
      if (stopping_) return;
      const Operation next = waiting_.front();
      waiting_.pop_front();
      lock.unlock();
      sleep_until(next.due);
      lock.lock();
      answered_.push_back(dsa::now_nanoseconds());
      ReadyDevice::execute(next.descriptor.hw);
    }
  }

  dsa::DeviceCalls& nodes_;
  const int64_t delay_nanoseconds_;
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::deque<Operation> waiting_;
  std::vector<int64_t> answered_;
  bool stopping_ = false;
  std::thread thread_;
};

struct Account {
  std::vector<double> late_microseconds;
  double answer_microseconds = 0;
};

/// One batch each, so that requests and operations have the same numbers.
Account make_requests(dsa::Offload& offload, const SlowDevice& device, int64_t end) {
  Pages memory(kPages);
  memory.fill(0);
  std::array<dsa::PageCheck, kInFlight> checks;
  std::array<int64_t, kInFlight> submitted{};
  const size_t probes = device.answers();
  Account account;
  for (size_t number = 0; dsa::now_nanoseconds() < end; ++number) {
    dsa::PageCheck& check = checks[number % kInFlight];
    int64_t& since = submitted[number % kInFlight];
    if (number >= kInFlight) {
      offload.wait(check);
      const int64_t now = dsa::now_nanoseconds();
      const int64_t answered = device.answered(probes + number - kInFlight);
      account.late_microseconds.push_back(static_cast<double>(now - answered) / 1e3);
      account.answer_microseconds += static_cast<double>(answered - since) / 1e3;
    }
    check.reset(kPageBytes);
    check.add(memory.at(), kPages);
    since = dsa::now_nanoseconds();
    offload.submit(check);
  }
  for (dsa::PageCheck& check : checks) offload.wait(check);
  return account;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) fail("usage: idle|MICROSECONDS SECONDS");
  const bool idle = argv[1] == std::string("idle");
  std::string error;
  const auto emulator = dsa::Emulator::create({}, error);
  if (!emulator) fail(error);
  SlowDevice device(*emulator, idle ? 0 : std::atoll(argv[1]) * 1000);
  dsa::OffloadOptions options;
  options.sysfs_root = emulator->sysfs_root();
  options.device_root = emulator->device_root();
  options.calls = &device;
  options.time_submission = false;
  // A request is one batch.
  options.limits.max_unit_bytes = kPageBytes;
  const auto opened = dsa::Offload::open(options);
  if (!opened.offload) fail(opened.reason);

  const int64_t start = dsa::now_nanoseconds();
  const int64_t end = start + std::atoll(argv[2]) * 1'000'000'000;
  const uint64_t cpu_before = opened.offload->times().completion_cpu;
  Account account;
  if (idle) {
    sleep_until(end);
  } else {
    account = make_requests(*opened.offload, device, end);
  }
  const auto elapsed = static_cast<double>(dsa::now_nanoseconds() - start);
  const double cpu = static_cast<double>(opened.offload->times().completion_cpu - cpu_before) / elapsed;
  std::vector<double>& late = account.late_microseconds;
  std::sort(late.begin(), late.end());
  const size_t count = late.size();
  if (count == 0) {
    std::printf("%.3f - - - 0\n", 100 * cpu);
  } else {
    std::printf("%.3f %.0f %.0f %.0f %zu\n", 100 * cpu, account.answer_microseconds / static_cast<double>(count),
                late[count / 2], late[count * 95 / 100], count);
  }
  return 0;
}
