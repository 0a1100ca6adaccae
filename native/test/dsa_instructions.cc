// The host's instructions for a page of zero memory: submission and completion on the one side, the AVX2 check of that
// page on the other. To be run by callgrind (bench/dsa-instructions.sh), which counts; this program only says what.
//
//   caller      Offload::submit and Offload::wait of requests of 4 MiB, as a save makes them
//   completion  the completion thread, all of it but its pauses and sleeps (CpuWait)
//
// Counted is what runs on the host with real hardware too. Not counted: the signal handler and the queue behind it that
// stand for the ENQCMD or MOVDIR64B instruction (callgrind begins a handler with counting off), the inside of write(),
// which is the kernel's, and the threads of the emulator. Kernel instructions never are.
//
// Two devices: "ready" answers before the store or the write() returns, so that every look at a record finds it written
// and what is counted is the work itself, the same in every run. "emulator" is the emulated device, which takes its
// time: the looks at records that are not written yet come on top.
//
//   dsa_instructions avx2
//   dsa_instructions batch|unit portal|movdir64b|write PAGES ready|emulator
#include <cstdio>
#include <cstdlib>
#include <string>

#include <valgrind/callgrind.h>

#include "../dsa/offload.h"
#include "../scan/kernel.h"
#include "support/emulated.h"
#include "support/ready_device.h"

namespace {

using namespace vmsnap;
using namespace vmsnap::test;

constexpr size_t kPageBytes = 4096;
constexpr size_t kRequestPages = 1024;
constexpr int kRounds = 64;
/// Enough for the unit of the compares to have grown to its limit.
constexpr int kWarmUpRounds = 16;

[[noreturn]] void fail(const std::string& what) {
  std::fprintf(stderr, "dsa_instructions: %s\n", what.c_str());
  std::exit(2);
}

struct Job {
  bool batches;
  std::string way;
  size_t pages;
  bool ready;
};

dsa::EmulatorConfig device_of(const Job& job) {
  dsa::EmulatedQueue queue;
  // A request fits, so that all of it is submitted by the caller.
  queue.size = kRequestPages;
  queue.mode = job.way == "movdir64b" ? dsa::QueueMode::dedicated : dsa::QueueMode::shared;
  if (!job.batches) queue.max_batch = 1;
  queue.write_refuses_batches = !job.batches;
  dsa::EmulatorConfig config;
  config.devices.front().queues = {queue};
  return config;
}

void run_requests(dsa::Offload& offload, const Pages& memory) {
  dsa::PageCheck check;
  check.reset(kPageBytes);
  check.add(memory.at(), kRequestPages);
  for (int round = -kWarmUpRounds; round < kRounds; ++round) {
    if (round == 0) CALLGRIND_ZERO_STATS;
    CALLGRIND_TOGGLE_COLLECT;
    offload.submit(check);
    offload.wait(check);
    CALLGRIND_TOGGLE_COLLECT;
    for (const dsa::Answer answer : check.answers()) {
      if (answer != dsa::Answer::zero) fail("a zero page was not called zero");
    }
  }
  CALLGRIND_DUMP_STATS;
}

void count_device(const Job& job) {
  std::string error;
  const auto emulator = dsa::Emulator::create(device_of(job), error);
  if (!emulator) fail(error);
  ReadyDevice ready(*emulator);
  dsa::OffloadOptions options;
  options.sysfs_root = emulator->sysfs_root();
  options.device_root = emulator->device_root();
  options.calls = job.ready ? static_cast<dsa::DeviceCalls*>(&ready) : emulator.get();
  options.ways = {dsa::SubmitWay::write_batch, dsa::SubmitWay::write_single};
  if (job.way != "write") options.ways = {dsa::SubmitWay::enqcmd, dsa::SubmitWay::movdir64b};
  options.limits.batch_pages = job.batches ? static_cast<uint32_t>(job.pages) : 1;
  options.limits.max_unit_bytes = job.batches ? kPageBytes : job.pages * kPageBytes;
  // Everything takes longer here.
  options.limits.record_milliseconds = 60'000;
  options.limits.probe_milliseconds = 60'000;
  options.time_submission = false;
  const auto opened = dsa::Offload::open(options);
  if (!opened.offload) fail(opened.reason);
  Pages memory(kRequestPages);
  memory.fill(0);
  run_requests(*opened.offload, memory);
  const dsa::QueueCounters counters = opened.offload->reports().front().counters;
  if (counters.pages_zero != uint64_t{kRequestPages} * (kRounds + kWarmUpRounds)) fail("pages were left out");
  std::printf("pages %zu way %s descriptors %llu batches %llu\n", kRequestPages * kRounds,
              dsa::name_of(opened.offload->reports().front().way),
              static_cast<unsigned long long>(counters.descriptors), static_cast<unsigned long long>(counters.batches));
}

void count_avx2() {
  const Kernel* const kernel = find_kernel("avx2");
  if (kernel == nullptr || !kernel->available) fail("this CPU has no AVX2");
  Pages memory(kRequestPages);
  memory.fill(0);
  CALLGRIND_ZERO_STATS;
  for (int round = 0; round < kRounds; ++round) {
    CALLGRIND_TOGGLE_COLLECT;
    bool all = true;
    for (size_t page = 0; page < kRequestPages; ++page) {
      all = kernel->repeats_first_word(memory.at(page * kPageBytes), kPageBytes) && all;
    }
    CALLGRIND_TOGGLE_COLLECT;
    if (!all) fail("a zero page was not called zero");
  }
  CALLGRIND_DUMP_STATS;
  std::printf("pages %zu\n", kRequestPages * kRounds);
}

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 1 ? argv[1] : "";
  if (what == "avx2") {
    count_avx2();
    return 0;
  }
  if (argc != 5) fail("usage: avx2 | batch|unit portal|movdir64b|write PAGES ready|emulator");
  count_device({what == "batch", argv[2], std::strtoul(argv[3], nullptr, 10), std::string(argv[4]) == "ready"});
  return 0;
}
