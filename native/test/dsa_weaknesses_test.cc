// What QEMU's DSA driver (series v9, never merged) does wrong, as far as it can be observed: each test is named after
// what goes wrong, says what QEMU's code would do, and passes only where it goes right.
#include <algorithm>
#include <thread>

#include <sys/mman.h>
#include <sys/stat.h>

#include "../dsa/ahead_checks.h"
#include "../dsa/clock.h"
#include "support/dsa_counting_calls.h"
#include "support/dsa_rig.h"
#include "support/emulated.h"
#include "support/random.h"
#include "support/temp_file.h"

namespace vmsnap::test {

namespace {

using dsa::Answer;
using dsa::Fault;
using dsa::FaultKind;
using dsa::FaultUnit;
using dsa::Offload;
using dsa::PageCheck;
using dsa::SubmitWay;

constexpr size_t kPageBytes = 4096;
constexpr uint64_t kForEver = uint64_t{1} << 60;
/// Compares and batches of the driver's own probes, which come before everything else in a queue that takes batches.
constexpr uint64_t kProbeCompares = 2;
constexpr uint64_t kProbeBatches = 2;

/// Every third page has one byte set, somewhere.
void fill_sparsely(Pages& pages, uint64_t seed) {
  Random random(seed);
  pages.fill(0);
  for (size_t at = 0; at < pages.size_bytes(); at += 3 * kPageBytes) pages.at(at)[random.below(kPageBytes)] = 1;
}

bool sparse_pages_are_right(Offload& offload, size_t count, uint64_t seed) {
  Pages pages(count);
  fill_sparsely(pages, seed);
  return answers_rightly(offload, pages.at(), count);
}

/// No page may be wrong; unknown ones are for the CPU.
bool nothing_is_wrong(Offload& offload, size_t count, uint64_t seed) {
  Pages pages(count);
  fill_sparsely(pages, seed);
  PageCheck check = check_of(pages.at(), count);
  offload.check_now(check);
  return compare_with_cpu(check).wrong == 0;
}

}  // namespace

// 1. QEMU knows only a mapped portal and ENQCMD: the first EPERM is the end.
TEST(dsa_weakness_no_way_but_a_mapped_portal) {
  dsa::EmulatedQueue dedicated = dedicated_queue();
  dsa::EmulatedQueue single = write_only_queue();
  single.write_refuses_batches = true;
  const struct {
    dsa::EmulatedQueue queue;
    SubmitWay way;
  } cases[] = {
#if defined(__x86_64__)
    {dedicated, SubmitWay::movdir64b},
#endif
    {write_only_queue(), SubmitWay::write_batch},
    {single, SubmitWay::write_single},
  };
  for (const auto& one : cases) {
    DriverRig rig(one_device({one.queue}));
    CHECK(sparse_pages_are_right(rig.open(), 300, 1));
    CHECK(rig.report().way == one.way);
  }
}

// 2. QEMU fails the migration where one device cannot be set up.
TEST(dsa_weakness_one_bad_queue_spoils_all) {
  dsa::EmulatedQueue not_permitted;
  not_permitted.open_error = EACCES;
  dsa::EmulatedQueue disabled;
  disabled.state = "disabled";
  DriverRig rig(one_device({not_permitted, disabled, {}}));
  CHECK(sparse_pages_are_right(rig.open(), 300, 2));
  CHECK_EQ(rig.opened.queues.size(), size_t{3});
  CHECK(!rig.report(0).reason.empty() && !rig.report(1).reason.empty());
  CHECK(rig.report(2).reason.empty());
}

// 2. With no device at all there is an answer with a reason, and the caller goes on with the CPU.
TEST(dsa_weakness_no_device_is_a_failure) {
  dsa::EmulatedQueue not_permitted;
  not_permitted.open_error = EACCES;
  DriverRig rig(one_device({not_permitted}));
  const Offload::Opened opened = Offload::open(rig.options);
  CHECK(opened.offload == nullptr);
  CHECK(contains(opened.reason, rig.node()));
  CHECK(!opened.hint.empty());
}

// 3. QEMU does not look at what its submit functions return, and waits for what was never taken.
TEST(dsa_weakness_waits_for_what_was_never_submitted) {
  const Fault refusals[] = {
      {.kind = FaultKind::queue_full, .count = kForEver},
      {.kind = FaultKind::write_error, .count = kForEver, .value = EIO},
      {.kind = FaultKind::write_error, .count = kForEver, .value = EINVAL},
      {.kind = FaultKind::write_error, .count = kForEver, .value = EPERM},
      {.kind = FaultKind::short_write, .count = kForEver, .value = 0},
      {.kind = FaultKind::device_halted},
      {.kind = FaultKind::device_lost},
  };
  for (const Fault& refusal : refusals) {
    for (const dsa::EmulatedQueue& queue : {dsa::EmulatedQueue{}, dedicated_queue(), write_only_queue()}) {
      DriverRig rig(one_device({queue}));
      rig.options.limits.record_milliseconds = 50;
      rig.options.limits.probe_milliseconds = 300;
      rig.options.limits.sick_retest_milliseconds = 5;
      Offload& offload = rig.open({refusal});
      const int64_t start = dsa::now_nanoseconds();
      CHECK(nothing_is_wrong(offload, 300, 3));
      CHECK((dsa::now_nanoseconds() - start) / dsa::kNanosecondsPerMillisecond < 20'000);
    }
  }
}

// 4. The completion thread of QEMU ends at the first status that it does not expect, and all who wait hang.
TEST(dsa_weakness_an_unexpected_status_ends_the_completion_thread) {
  for (const uint8_t status :
       std::initializer_list<uint8_t>{0x04, 0x07, 0x10, 0x11, 0x12, 0x13, 0x14, 0x19, 0x1a, 0x1c,
                                      0x1e, 0x1f, 0x20, 0x21, 0x22, 0x28, 0x2e, 0x3f, 0x84, 0x9f}) {
    DriverRig rig(one_device({{}, {}}));
    rig.options.limits.sick_retest_milliseconds = 5;
    Offload& offload =
        rig.open({{.kind = FaultKind::status, .first = kProbeCompares + 5, .count = 3, .value = status}});
    CHECK(nothing_is_wrong(offload, 300, status));
    CHECK(offload.usable());
    CHECK(sparse_pages_are_right(offload, 300, status));
  }
}

// 4. The same for the record of the batch itself, with which QEMU begins.
TEST(dsa_weakness_an_unexpected_status_of_a_batch_ends_the_completion_thread) {
  for (const uint8_t status :
       std::initializer_list<uint8_t>{0x03, 0x04, 0x10, 0x11, 0x14, 0x18, 0x1e, 0x20, 0x22, 0x3f, 0x86}) {
    DriverRig rig(one_device({{}, {}}));
    rig.options.limits.sick_retest_milliseconds = 5;
    // Descriptors of the probes: a NOOP, a batch of NOOPs, a batch of compares.
    Offload& offload =
        rig.open({{.kind = FaultKind::status, .first = 3, .count = 1, .value = status, .of = FaultUnit::descriptors}});
    CHECK(nothing_is_wrong(offload, 300, status));
    CHECK(offload.usable());
    CHECK(sparse_pages_are_right(offload, 300, status));
  }
}

// 4. An answer that never comes: QEMU gives up polling, and everybody hangs. Here its pages are for the CPU.
TEST(dsa_weakness_an_answer_that_never_comes_hangs_everything) {
  DriverRig rig(one_device({{}}));
  rig.options.limits.record_milliseconds = 100;
  rig.options.limits.sick_retest_milliseconds = 5;
  Offload& offload = rig.open({{.kind = FaultKind::never_written, .first = kProbeCompares, .count = 1}});
  Pages pages(128);
  fill_sparsely(pages, 4);
  PageCheck check = check_of(pages.at(), 128);
  CHECK(!offload.check_now(check));
  CHECK_EQ(compare_with_cpu(check).wrong, size_t{0});
  CHECK_EQ(rig.report().counters.lost, uint64_t{1});
  // NOOPs bring the queue back.
  const int64_t give_up = dsa::now_nanoseconds() + int64_t{10} * 1'000'000'000;
  while (rig.report().sick && dsa::now_nanoseconds() < give_up) std::this_thread::yield();
  CHECK(!rig.report().sick);
  CHECK(sparse_pages_are_right(offload, 300, 4));
}

// 5. QEMU looks at tasks in the order in which they came: a slow one keeps the answers of the others back. First, a
// slow device and a fast one.
TEST(dsa_weakness_a_slow_device_delays_a_fast_one) {
  dsa::EmulatorConfig config;
  config.devices = {{.number = 0, .latency_microseconds = 700'000}, {.number = 1}};
  DriverRig rig(config);
  Offload& offload = rig.open();
  Pages pages(128);
  pages.fill(0);
  PageCheck checks[] = {check_of(pages.at(), 128), check_of(pages.at(), 128)};
  for (PageCheck& check : checks) offload.submit(check);
  const bool first_is_slow = rig.report(0).counters.descriptors > kProbeCompares;
  CHECK(first_is_slow);
  offload.wait(checks[1]);
  CHECK_EQ(rig.report(0).counters.pages_zero, uint64_t{0});
  CHECK_EQ(rig.report(1).counters.pages_zero, uint64_t{128});
  offload.wait(checks[0]);
  for (const PageCheck& check : checks) CHECK(all_are(check, Answer::zero));
}

// 5. And two operations of one queue.
TEST(dsa_weakness_a_slow_operation_delays_those_after_it) {
  DriverRig rig(one_device({{}}));
  Offload& offload = rig.open({{.kind = FaultKind::late, .first = kProbeCompares, .count = 1, .value = 700}});
  Pages pages(128);
  pages.fill(0);
  PageCheck slow = check_of(pages.at(), 128);
  PageCheck fast = check_of(pages.at(), 100);
  offload.submit(slow);
  offload.submit(fast);
  offload.wait(fast);
  CHECK_EQ(rig.report().counters.pages_zero, uint64_t{100});
  offload.wait(slow);
  CHECK(all_are(slow, Answer::zero));
}

// 5. QEMU's completion thread spins while anything is under way: 3.4 to 3.6 seconds of CPU a migration. Counted in CPU
// time, not in elapsed time.
TEST(dsa_weakness_waiting_burns_a_core) {
  DriverRig rig(one_device({{}}));
  Offload& offload = rig.open();
  CHECK(sparse_pages_are_right(offload, 300, 5));
  const uint64_t before_idle = offload.times().completion_cpu;
  std::this_thread::sleep_for(std::chrono::milliseconds(300));
  const uint64_t idle = offload.times().completion_cpu - before_idle;
  CHECK(idle < 5 * uint64_t{dsa::kNanosecondsPerMillisecond});

  rig.emulator().add_fault({.kind = FaultKind::late, .count = kForEver, .value = 300});
  const uint64_t before_wait = offload.times().completion_cpu;
  CHECK(sparse_pages_are_right(offload, 100, 5));
  const uint64_t waiting = offload.times().completion_cpu - before_wait;
  CHECK(waiting < 150 * uint64_t{dsa::kNanosecondsPerMillisecond});
}

// 6. QEMU polls 12,800 times, which is less than a millisecond, and then gives up.
TEST(dsa_weakness_patience_of_less_than_a_millisecond) {
  DriverRig rig(one_device({{}}));
  rig.options.limits.record_milliseconds = 10'000;
  Offload& offload = rig.open({{.kind = FaultKind::late, .count = kForEver, .value = 60}});
  CHECK(sparse_pages_are_right(offload, 300, 6));
  CHECK_EQ(rig.report().counters.errors, uint64_t{0});
  CHECK_EQ(rig.report().counters.lost, uint64_t{0});
}

// 7. QEMU does not read the queue's limits: a batch that is too large for it ends with 14, and the thread with it.
TEST(dsa_weakness_limits_of_the_queue_are_not_read) {
  dsa::EmulatedQueue small;
  small.size = 4;
  small.max_batch = 32;
  small.max_transfer_bytes = 16384;
  dsa::EmulatedQueue smallest = small;
  smallest.size = 1;
  smallest.max_batch = 2;
  smallest.max_transfer_bytes = 4096;
  for (const dsa::EmulatedQueue& queue : {small, smallest}) {
    DriverRig rig(one_device({queue}));
    rig.options.limits.batch_pages = 1024;
    rig.options.limits.depth = 1000;
    Offload& offload = rig.open();
    CHECK_EQ(rig.report().batch_pages, queue.max_batch);
    CHECK_EQ(rig.report().max_unit_bytes, queue.max_transfer_bytes);
    CHECK_EQ(rig.report().depth, queue.size);
    CHECK(sparse_pages_are_right(offload, 1000, 7));
    Pages zeros(1000);
    zeros.fill(0);
    CHECK(answers_rightly(offload, zeros.at(), 1000));
    CHECK_EQ(rig.report().counters.errors, uint64_t{0});
  }
}

// 7. Nor does the driver believe them: a device may take less than its attributes tell.
TEST(dsa_weakness_limits_of_the_queue_are_believed) {
  dsa::EmulatorConfig config = one_device({{}});
  config.devices.front().max_batch = 64;
  config.devices.front().max_transfer_bytes = 65536;
  DriverRig rig(config);
  Offload& offload = rig.open();
  Pages zeros(2000);
  zeros.fill(0);
  for (int round = 0; round < 3; ++round) {
    CHECK(nothing_is_wrong(offload, 1000, 7));
    PageCheck check = check_of(zeros.at(), 2000);
    offload.check_now(check);
    CHECK_EQ(compare_with_cpu(check).wrong, size_t{0});
  }
}

// 8. QEMU compares the whole status byte: a fault of a write (83) is unknown to it.
TEST(dsa_weakness_the_write_bit_of_a_status_is_not_masked) {
  DriverRig rig(one_device({{}}));
  Offload& offload =
      rig.open({{.kind = FaultKind::write_fault, .first = kProbeCompares + 3, .count = 20, .value = 100}});
  CHECK(sparse_pages_are_right(offload, 300, 8));
  CHECK_EQ(rig.report().counters.errors, uint64_t{0});
  CHECK(rig.report().counters.page_faults > 0);
}

// 9. After a fault on the list (06) QEMU wants all members done: those that were never begun are an error.
TEST(dsa_weakness_members_that_were_never_begun_are_an_error) {
  for (const uint64_t members : {0, 1, 2, 63, 126, 127}) {
    DriverRig rig(one_device({{}}));
    Offload& offload =
        rig.open({{.kind = FaultKind::batch_list_fault, .first = kProbeBatches, .count = 2, .value = members}});
    // Enough that both are full batches, whichever thread is the faster.
    CHECK(sparse_pages_are_right(offload, 1024, members));
    CHECK_EQ(rig.report().counters.batch_faults, uint64_t{2});
    CHECK_EQ(rig.report().counters.errors, uint64_t{0});
  }
}

// 10. QEMU leaves `bytes completed` of the last use in a record. Here records that told a late difference are used
// again by compares that fault at once, and the other way round.
TEST(dsa_weakness_records_remember_their_last_use) {
  DriverRig rig(one_device({write_only_queue()}));
  rig.options.limits.depth = 1;
  rig.options.limits.fault_retries = 100;
  std::vector<Fault> faults;
  for (uint64_t first = kProbeCompares + 100; first < 4000; first += 200) {
    faults.push_back({.kind = FaultKind::page_fault, .first = first, .count = 60, .value = 0});
  }
  Offload& offload = rig.open(faults);
  for (uint64_t round = 0; round < 20; ++round) {
    Pages pages(128);
    pages.fill(0);
    for (size_t page = round % 3; page < 128; page += 2) pages.at(page * kPageBytes)[kPageBytes - 1] = 1;
    CHECK(answers_rightly(offload, pages.at(), 128));
  }
  CHECK(rig.report().counters.page_faults > 0);
}

// 11. QEMU binds a task to a device for ever.
TEST(dsa_weakness_one_request_uses_one_queue_only) {
  dsa::EmulatorConfig config;
  config.devices = {{.number = 0, .queues = {{}, {}}}, {.number = 1}};
  DriverRig rig(config);
  Offload& offload = rig.open();
  CHECK(sparse_pages_are_right(offload, 5000, 11));
  for (const dsa::QueueReport& report : offload.reports()) CHECK(report.counters.descriptors > 500);
}

// 11. Nor does it count what is in a queue: a dedicated one drops what is too much without a word, and a shared one
// refuses beyond its threshold.
TEST(dsa_weakness_more_in_flight_than_the_queue_has_entries) {
  dsa::EmulatedQueue dedicated = dedicated_queue();
  dedicated.size = 3;
  dsa::EmulatedQueue limited;
  limited.size = 16;
  limited.threshold = 2;
  for (const dsa::EmulatedQueue& queue : {dedicated, limited}) {
    dsa::EmulatorConfig config = one_device({queue});
    config.devices.front().latency_microseconds = 200;
    DriverRig rig(config);
    rig.options.limits.batch_pages = 8;
    Offload& offload = rig.open();
    CHECK_EQ(rig.report().depth, queue.threshold != 0 ? queue.threshold : queue.size);
    CHECK(sparse_pages_are_right(offload, 2000, 12));
    CHECK_EQ(rig.report().counters.retries, uint64_t{0});
    CHECK(!rig.emulator().software_error(0).valid);
  }
}

// 12. QEMU sends untouched pages to the device, each of which comes back as a page fault. Here what is not in memory
// is not even asked about, and stays a hole.
TEST(dsa_weakness_untouched_pages_go_to_the_device) {
  constexpr size_t kPages = 1024;
  constexpr size_t kHeld = 100;
  const UniqueFd file = temp_file("/dev/shm");
  CHECK_EQ(ftruncate(file.get(), kPages * kPageBytes), 0);
  write_at(file.get(), std::vector<uint8_t>(kHeld * kPageBytes, 0), 300 * kPageBytes);
  struct stat before;
  CHECK_EQ(fstat(file.get(), &before), 0);

  DriverRig rig(one_device({{}}));
  Offload* const offload = &rig.open();
  dsa::Emulator* const emulator = &rig.emulator();
  const auto device =
      std::make_shared<dsa::OpenDevice>(rig.take_emulator(), std::move(rig.opened.offload), /*keep_mapped=*/false);
  const uint64_t executed = emulator->executed();
  {
    dsa::AheadChecks checks(device, kPageBytes, 1);
    const Extent extents[] = {{file.get(), 0, kPages * kPageBytes}};
    checks.submit(0, extents);
    const std::span<const PageAnswer> answers = checks.wait(0);
    CHECK_EQ(answers.size(), kPages);
    for (size_t page = 0; page < answers.size(); ++page) {
      const bool is_held = page >= 300 && page < 300 + kHeld;
      CHECK(answers[page] == (is_held ? Answer::zero : Answer::unknown));
    }
  }
  const dsa::QueueCounters counters = sum_of_counters(*offload);
  CHECK_EQ(counters.page_faults, uint64_t{0});
  CHECK_EQ(counters.pages_zero, uint64_t{kHeld});
  CHECK(emulator->executed() - executed <= kHeld);
  struct stat after;
  CHECK_EQ(fstat(file.get(), &after), 0);
  CHECK_EQ(after.st_blocks, before.st_blocks);
}

// 13. QEMU pays 96 bytes of descriptor and record for every page. Memory that is zero throughout is compared in ever
// larger pieces, data in single pages.
TEST(dsa_weakness_one_descriptor_for_every_page) {
  for (const dsa::EmulatedQueue& queue : {dsa::EmulatedQueue{}, dedicated_queue(), write_only_queue()}) {
    DriverRig rig(one_device({queue}));
    Offload& offload = rig.open();
    Pages zeros(2048);
    zeros.fill(0);
    for (int round = 0; round < 8; ++round) CHECK(answers_rightly(offload, zeros.at(), 2048));
    const dsa::QueueCounters counters = sum_of_counters(offload);
    CHECK_EQ(counters.pages_zero, uint64_t{8 * 2048});
    CHECK(counters.descriptors < counters.pages_zero / 4);
    CHECK_EQ(counters.bytes, uint64_t{8 * 2048 * kPageBytes});
  }
}

// 13. And where batches are refused, from the beginning.
TEST(dsa_weakness_without_batches_every_page_is_a_submission) {
  dsa::EmulatedQueue single = write_only_queue();
  single.write_refuses_batches = true;
  DriverRig rig(one_device({single}));
  Offload& offload = rig.open();
  Pages zeros(2048);
  zeros.fill(0);
  CHECK(answers_rightly(offload, zeros.at(), 2048));
  CHECK(sum_of_counters(offload).descriptors <= 2048 / 16 + kProbeCompares);
}

// 14. QEMU leaks what it has mapped when it is set up twice or fails in the middle.
TEST(dsa_weakness_a_failed_set_up_leaks) {
  dsa::EmulatedQueue no_map = write_only_queue();
  dsa::EmulatedQueue no_open;
  no_open.open_error = ENXIO;
  DriverRig rig(one_device({{}, no_map, no_open, dedicated_queue(), {}}));
  CountingCalls calls(rig.emulator());
  rig.options.calls = &calls;
  for (int round = 0; round < 3; ++round) {
    rig.open();
    rig.opened = {};
    CHECK_EQ(calls.opened.load(), size_t{4} * static_cast<size_t>(round + 1));
    CHECK(calls.all_given_back());
  }
  // Nothing answers: every queue is opened, tried and given back.
  rig.emulator().add_fault({.kind = FaultKind::device_halted});
  rig.options.limits.probe_milliseconds = 20;
  const Offload::Opened opened = Offload::open(rig.options);
  CHECK(opened.offload == nullptr);
  CHECK(calls.all_given_back());
}

// 14. It loses the reason on its way, and passes over entries that it does not know.
TEST(dsa_weakness_the_reason_is_lost) {
  DriverRig rig(one_device({{}}));
  rig.options.nodes = {"dsa:" + rig.node(), "/dev/iax/wq1.0", rig.node(7, 7)};
  const Offload::Opened opened = Offload::open(rig.options);
  CHECK(opened.offload == nullptr);
  CHECK_EQ(opened.queues.size(), rig.options.nodes.size());
  for (size_t i = 0; i < opened.queues.size(); ++i) {
    CHECK_EQ(opened.queues[i].info.node, rig.options.nodes[i]);
    CHECK(contains(opened.queues[i].reason, rig.options.nodes[i]));
    CHECK(contains(opened.reason, rig.options.nodes[i]));
    CHECK(!opened.queues[i].hint.empty());
  }
}

// 15. QEMU counts zero and other pages, and nothing else.
TEST(dsa_weakness_nobody_can_tell_what_happened) {
  DriverRig rig(one_device({write_only_queue()}));
  rig.options.limits.record_milliseconds = 200;
  rig.options.limits.sick_retest_milliseconds = 5;
  rig.options.limits.depth = 4;
  Offload& offload = rig.open({
      {.kind = FaultKind::page_fault, .first = kProbeCompares + 10, .count = 7, .value = 64},
      {.kind = FaultKind::batch_list_fault, .first = kProbeBatches + 1, .count = 1, .value = 3},
      // Calls of the probes: a NOOP, a batch of NOOPs, a batch of compares.
      {.kind = FaultKind::queue_full, .first = 5, .count = 2},
      {.kind = FaultKind::status, .first = kProbeCompares + 600, .count = 1, .value = 0x20},
      {.kind = FaultKind::never_written, .first = kProbeCompares + 1500, .count = 1},
  });
  Pages pages(2000);
  fill_sparsely(pages, 15);
  PageCheck check = check_of(pages.at(), 2000);
  offload.check_now(check);
  const Comparison found = compare_with_cpu(check);
  CHECK_EQ(found.wrong, size_t{0});
  const dsa::QueueCounters counters = rig.report().counters;
  CHECK(counters.batches > 0);
  CHECK(counters.descriptors > counters.batches);
  CHECK(counters.bytes >= 2000 * kPageBytes / 2);
  CHECK(counters.page_faults >= 7);
  CHECK_EQ(counters.batch_faults, uint64_t{1});
  CHECK(counters.retries >= 2);
  CHECK(counters.errors >= 1);
  CHECK_EQ(counters.lost, uint64_t{1});
  CHECK_EQ(counters.times_sick, uint64_t{1});
  CHECK_EQ(counters.pages_zero + counters.pages_not_zero, uint64_t{found.right});
  CHECK(counters.pages_unknown > 0);
  const dsa::OffloadTimes times = offload.times();
  CHECK(times.submission_cpu > 0);
  CHECK(times.completion_cpu > 0);
  CHECK(times.waiting > 0);
}

// 16. QEMU asks CPUID for the instruction, and not whether the kernel gives the device its address space: without
// PASID, ENQCMD ends the process.
TEST(dsa_weakness_the_instruction_is_executed_without_pasid) {
  dsa::EmulatorConfig config = one_device({{}});
  config.devices.front().pasid_enabled = false;
  DriverRig rig(config);
  CountingCalls calls(rig.emulator());
  rig.options.calls = &calls;
  const Offload::Opened opened = Offload::open(rig.options);
  CHECK(opened.offload == nullptr);
  CHECK_EQ(calls.opened.load(), size_t{0});
  CHECK(contains(opened.reason, "PASID"));
  CHECK(contains(opened.hint, "intel_iommu=on,sm_on"));
}

}  // namespace vmsnap::test
