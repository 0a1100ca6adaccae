// Devices and queues as administrators leave them, and as they fail: nothing hangs, ends the process or answers
// wrongly, and each has its reason.
#include <thread>

#include <sys/mman.h>
#include <sys/wait.h>

#include "../dsa/ahead_checks.h"
#include "../dsa/clock.h"
#include "../dsa/flight.h"
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
using dsa::Offload;
using dsa::PageCheck;
using dsa::SubmitWay;

constexpr size_t kPageBytes = 4096;
constexpr uint64_t kForEver = uint64_t{1} << 60;

/// Nothing can be opened; why not, and at which step.
void check_refused(const dsa::OffloadOptions& options, const char* step, int error, const char* reason,
                   const char* hint) {
  const Offload::Opened opened = Offload::open(options);
  CHECK(opened.offload == nullptr);
  CHECK_EQ(opened.queues.size(), size_t{1});
  CHECK_EQ(opened.queues.at(0).steps.back().what, std::string(step));
  CHECK_EQ(opened.queues.at(0).steps.back().error, error);
  CHECK(contains(opened.queues.at(0).reason, reason));
  CHECK(contains(opened.reason, reason));
  CHECK(contains(opened.hint, hint));
}

void short_limits(DriverRig& rig) {
  rig.options.limits.record_milliseconds = 100;
  rig.options.limits.probe_milliseconds = 100;
  rig.options.limits.sick_retest_milliseconds = 5;
}

/// Zero pages but for every fifth.
void fill_fifths(Pages& pages) {
  pages.fill(0);
  for (size_t at = 0; at < pages.size_bytes(); at += 5 * kPageBytes) pages.at(at)[at / kPageBytes] = 1;
}

bool fifths_are_right(Offload& offload, size_t count) {
  Pages pages(count);
  fill_fifths(pages);
  return answers_rightly(offload, pages.at(), count);
}

}  // namespace

TEST(dsa_devices_none_at_all) {
  dsa::EmulatorConfig config;
  config.devices.clear();
  DriverRig rig(config);
  const Offload::Opened opened = Offload::open(rig.options);
  CHECK(opened.offload == nullptr);
  CHECK(opened.queues.empty());
  CHECK_EQ(opened.reason, std::string("there is no DSA work queue"));
  CHECK(contains(opened.hint, "accel-config"));
}

TEST(dsa_devices_no_driver) {
  dsa::OffloadOptions options;
  options.sysfs_root = "/nonexistent/bus/dsa/devices";
  const Offload::Opened opened = Offload::open(options);
  CHECK(opened.offload == nullptr);
  CHECK(contains(opened.reason, "no DSA device"));
  CHECK(contains(opened.hint, "modprobe idxd"));
}

TEST(dsa_devices_without_queues) {
  DriverRig rig(one_device({}));
  const Offload::Opened opened = Offload::open(rig.options);
  CHECK(opened.offload == nullptr);
  CHECK(!opened.reason.empty() && !opened.hint.empty());
}

TEST(dsa_devices_queue_disabled) {
  dsa::EmulatedQueue queue;
  queue.state = "disabled";
  DriverRig rig(one_device({queue}));
  check_refused(rig.options, "sysfs", ENXIO, "the queue is disabled", "accel-config enable-wq dsa0/wq0.0");
}

TEST(dsa_devices_queue_of_the_wrong_type) {
  dsa::EmulatedQueue queue;
  queue.type = "kernel";
  DriverRig rig(one_device({queue}));
  check_refused(rig.options, "sysfs", EINVAL, "type kernel, not user", "-y user");
}

TEST(dsa_devices_pasid_off) {
  dsa::EmulatorConfig config = one_device({{}});
  config.devices.front().pasid_enabled = false;
  DriverRig rig(config);
  check_refused(rig.options, "sysfs", EOPNOTSUPP, "no PASID support", "intel_iommu=on,sm_on");
}

TEST(dsa_devices_without_the_operation) {
  dsa::EmulatorConfig config = one_device({{}});
  config.devices.front().operations[0] = 1U << DSA_OPCODE_NOOP | 1U << DSA_OPCODE_BATCH | 1U << DSA_OPCODE_MEMMOVE;
  DriverRig rig(config);
  check_refused(rig.options, "sysfs", EOPNOTSUPP, "compare pattern", "op-config");
}

TEST(dsa_devices_what_open_answers) {
  const struct {
    int error;
    const char* reason;
    const char* hint;
  } cases[] = {
      {EACCES, "may not be opened by this user", "chmod 0660"},
      {EPERM, "may not be opened by this user", "chmod 0660"},
      {EBUSY, "in use by another process", "fuser -v"},
      {ENXIO, "not in working order", "accel-config enable-wq dsa0/wq0.0"},
      {EOPNOTSUPP, "PASID", "intel_iommu=on,sm_on"},
      {ENOENT, "does not exist", "accel-config enable-wq dsa0/wq0.0"},
      {EMFILE, "cannot be opened", "dmesg"},
  };
  for (const auto& one : cases) {
    dsa::EmulatedQueue queue;
    queue.open_error = one.error;
    DriverRig rig(one_device({queue}));
    check_refused(rig.options, "open", one.error, one.reason, one.hint);
  }
}

TEST(dsa_devices_dedicated_queue_in_use) {
  DriverRig rig(one_device({dedicated_queue()}));
  Offload& offload = rig.open();
  check_refused(rig.options, "open", EBUSY, "in use by another process", "shared");
  CHECK(fifths_are_right(offload, 100));
}

TEST(dsa_devices_mapping_not_permitted) {
  DriverRig rig(one_device({write_only_queue()}));
#if defined(__x86_64__)
  rig.options.ways = {SubmitWay::enqcmd};
  const Offload::Opened opened = Offload::open(rig.options);
  CHECK(opened.offload == nullptr);
  CHECK_EQ(opened.queues.at(0).steps.back().error, EPERM);
  CHECK(contains(opened.reason, "CAP_SYS_RAWIO"));
  CHECK(contains(opened.hint, "write()"));
#endif
  rig.options.ways = {};
  CHECK(fifths_are_right(rig.open(), 100));
  CHECK(rig.report().reason.empty());
}

TEST(dsa_devices_paths_that_are_no_queues) {
  DriverRig rig(one_device({{}}));
  const TempFolder folder;
  const std::string file = folder.path("file");
  open_or_abort(file, O_RDWR | O_CREAT);
  for (const std::string& path : {file, folder.path(""), std::string("/dev/null"), std::string("wq0.0")}) {
    rig.options.nodes = {path};
    const Offload::Opened opened = Offload::open(rig.options);
    CHECK(opened.offload == nullptr);
    CHECK(contains(opened.reason, path));
    CHECK(!opened.hint.empty());
  }
  // And beside one that is: that one is used.
  rig.options.nodes = {file, rig.node()};
  CHECK(fifths_are_right(rig.open(), 100));
  CHECK_EQ(rig.opened.queues.size(), size_t{2});
  CHECK_EQ(rig.opened.queues[0].steps.back().error, ENOTTY);
}

TEST(dsa_devices_limits_smaller_than_asked) {
  dsa::EmulatedQueue queue;
  queue.size = 2;
  queue.max_batch = 16;
  queue.max_transfer_bytes = 8192;
  DriverRig rig(one_device({queue}));
  rig.options.limits.batch_pages = 1024;
  rig.options.limits.depth = 64;
  Offload& offload = rig.open();
  CHECK_EQ(rig.report().batch_pages, 16U);
  CHECK_EQ(rig.report().depth, 2U);
  CHECK_EQ(rig.report().max_unit_bytes, uint64_t{8192});
  CHECK(fifths_are_right(offload, 1000));
  // A page that is larger than what the queue takes is for the CPU.
  Pages pages(8);
  pages.fill(0);
  PageCheck check = check_of(pages.at(), 2, 16384);
  CHECK(!offload.check_now(check));
  CHECK(all_are(check, Answer::unknown));
  CHECK_EQ(rig.report().counters.errors, uint64_t{0});
}

// The smallest there is: one entry, which drops what comes while it is taken.
TEST(dsa_devices_dedicated_queue_of_one_entry) {
  for (const uint32_t batch : {1U, 1024U}) {
    dsa::EmulatedQueue queue = dedicated_queue();
    queue.size = 1;
    queue.max_batch = batch;
    for (const int map_error : {0, EPERM}) {
      queue.map_error = map_error;
      queue.write_refuses_batches = batch == 1;
      DriverRig rig(one_device({queue}));
      CHECK(fifths_are_right(rig.open(), 200));
      CHECK(!rig.emulator().software_error(0).valid);
    }
  }
}

TEST(dsa_devices_halted_from_the_beginning) {
  dsa::EmulatorConfig config = one_device({{}});
  config.devices.front().state = "halted";
  DriverRig rig(config);
  short_limits(rig);
  const Offload::Opened opened = Offload::open(rig.options);
  CHECK(opened.offload == nullptr);
  CHECK(contains(opened.reason, "takes nothing"));
  CHECK(!opened.hint.empty());
}

TEST(dsa_devices_that_answer_wrongly_are_not_used) {
  dsa::EmulatorConfig config = one_device({{}});
  config.faults = {{.kind = FaultKind::wrong_answer, .count = kForEver}};
  DriverRig rig(config);
  check_refused(rig.options, "compare", EIO, "wrong answers", "do not use this device");
}

TEST(dsa_devices_that_never_answer_are_not_used) {
  dsa::EmulatorConfig config = one_device({{}});
  config.faults = {{.kind = FaultKind::never_written, .count = kForEver}};
  DriverRig rig(config);
  short_limits(rig);
  check_refused(rig.options, "compare", ETIMEDOUT, "no answer in time", "dmesg");
}

// In the middle of much work, from several threads: what has no answer is for the CPU.
TEST(dsa_devices_lost_in_the_middle) {
  for (const FaultKind kind : {FaultKind::device_lost, FaultKind::device_halted}) {
    for (const dsa::EmulatedQueue& queue : {dsa::EmulatedQueue{}, dedicated_queue(), write_only_queue()}) {
      dsa::EmulatorConfig config = one_device({queue});
      config.devices.front().latency_microseconds = 1000;
      DriverRig rig(config);
      short_limits(rig);
      rig.options.limits.batch_pages = 32;
      Offload& offload = rig.open({{.kind = kind, .first = 20}});
      Pages pages(2000);
      fill_fifths(pages);
      PageCheck checks[3];
      std::vector<std::thread> threads;
      for (PageCheck& check : checks) {
        threads.emplace_back([&] {
          check = check_of(pages.at(), 2000);
          offload.check_now(check);
        });
      }
      for (std::thread& thread : threads) thread.join();
      size_t unknown = 0;
      for (const PageCheck& check : checks) {
        const Comparison found = compare_with_cpu(check);
        CHECK_EQ(found.wrong, size_t{0});
        unknown += found.unknown;
      }
      CHECK(unknown > 0);
      // It does not come back: given up after some tests, and then nobody waits for it.
      const int64_t give_up = dsa::now_nanoseconds() + int64_t{30} * 1'000'000'000;
      while (offload.usable() && dsa::now_nanoseconds() < give_up) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
      }
      CHECK(!offload.usable());
      CHECK(rig.report().sick);
      CHECK(!rig.report().reason.empty());
    }
  }
}

// The other device does the work.
TEST(dsa_devices_one_of_two_lost) {
  dsa::EmulatorConfig config;
  config.devices = {{.number = 0}, {.number = 1}};
  DriverRig rig(config);
  short_limits(rig);
  // Only the lost one may be slow to answer.
  rig.options.limits.record_milliseconds = 1000;
  Offload& offload = rig.open({{.kind = FaultKind::device_lost, .device = 0}});
  Pages pages(3000);
  fill_fifths(pages);
  PageCheck check = check_of(pages.at(), 3000);
  offload.check_now(check);
  CHECK_EQ(compare_with_cpu(check).wrong, size_t{0});
  CHECK(fifths_are_right(offload, 3000));
  CHECK(offload.usable());
  CHECK(!rig.report(1).sick);
  CHECK_EQ(rig.report(0).counters.pages_zero, uint64_t{0});
}

TEST(dsa_devices_that_come_back_are_used_again) {
  DriverRig rig(one_device({{}}));
  short_limits(rig);
  rig.options.limits.sick_tests = 1000;
  Offload& offload = rig.open({{.kind = FaultKind::device_lost}});
  Pages pages(100);
  fill_fifths(pages);
  PageCheck check = check_of(pages.at(), 100);
  CHECK(!offload.check_now(check));
  rig.emulator().add_fault({.kind = FaultKind::device_back});
  const int64_t give_up = dsa::now_nanoseconds() + int64_t{30} * 1'000'000'000;
  while (rig.report().sick && dsa::now_nanoseconds() < give_up) {
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  CHECK(!rig.report().sick);
  CHECK(fifths_are_right(offload, 300));
}

// Whatever the device says again and again that means trouble: nothing is believed, and the queue is set aside.
TEST(dsa_devices_in_trouble_all_the_time_are_set_aside) {
  for (const dsa::EmulatedQueue& queue : {dsa::EmulatedQueue{}, dedicated_queue(), write_only_queue()}) {
    for (const uint64_t status : {0x1f, 0x20, 0x21, 0x22}) {
      DriverRig rig(one_device({queue}));
      Offload& offload = rig.open({{.kind = FaultKind::status, .count = 400, .value = status}});
      Pages pages(2000);
      fill_fifths(pages);
      PageCheck check = check_of(pages.at(), 2000);
      offload.check_now(check);
      CHECK_EQ(compare_with_cpu(check).wrong, size_t{0});
      CHECK(rig.report().counters.times_sick > 0);
      CHECK(rig.report().counters.errors > 0);
    }
  }
}

// A record that is written after all hope was lost, into memory that was kept for it.
TEST(dsa_devices_that_answer_much_too_late_harm_nothing) {
  DriverRig rig(one_device({{}}));
  short_limits(rig);
  rig.options.limits.sick_tests = 1000;
  Offload& offload = rig.open({{.kind = FaultKind::late, .count = 2000, .value = 250}});
  for (int round = 0; round < 6; ++round) {
    Pages pages(100);
    fill_fifths(pages);
    PageCheck check = check_of(pages.at(), 100);
    offload.check_now(check);
    CHECK_EQ(compare_with_cpu(check).wrong, size_t{0});
    std::this_thread::sleep_for(std::chrono::milliseconds(30));
  }
  CHECK(rig.report().counters.lost > 0);
}

// What was lost may still have its place in the queue, and a dedicated queue drops what is too much without a word:
// those places are not given away before they are free.
TEST(dsa_devices_places_of_lost_operations_are_kept) {
  dsa::EmulatedQueue queue = dedicated_queue();
  queue.size = 4;
  queue.max_batch = 1;
  dsa::EmulatorConfig config = one_device({queue});
  config.devices.front().latency_microseconds = 1000;
  DriverRig rig(config);
  short_limits(rig);
  rig.options.limits.sick_tests = 1000;
  rig.options.limits.record_milliseconds = 300;
  // The probes take two compares. These two come when the queue has been in use again for a while.
  Offload& offload = rig.open({{.kind = FaultKind::late, .first = 2, .count = 2, .value = 1500}});
  Pages pages(400);
  fill_fifths(pages);
  const int64_t give_up = dsa::now_nanoseconds() + int64_t{30} * 1000 * dsa::kNanosecondsPerMillisecond;
  uint64_t answered = 0;
  while (answered < 3 && dsa::now_nanoseconds() < give_up) {
    PageCheck check = check_of(pages.at(), 400);
    answered += offload.check_now(check) ? 1 : 0;
    CHECK_EQ(compare_with_cpu(check).wrong, size_t{0});
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  CHECK_EQ(answered, uint64_t{3});
  CHECK(rig.report().counters.lost >= 2);
  CHECK(!rig.emulator().software_error(0).valid);
}

// An operation that is never answered leaves the queue all the same, which a DRAIN tells: more may be lost than there
// are places.
TEST(dsa_devices_places_of_what_is_never_answered_come_back) {
  constexpr uint64_t kLost = 6;
  dsa::EmulatedQueue queue = dedicated_queue();
  queue.size = 2;
  queue.max_batch = 1;
  DriverRig rig(one_device({queue}));
  rig.options.limits.record_milliseconds = 200;
  rig.options.limits.sick_retest_milliseconds = 5;
  std::vector<Fault> faults;
  for (uint64_t i = 0; i < kLost; ++i) {
    faults.push_back({.kind = FaultKind::never_written, .first = 5 + 20 * i, .count = 1});
  }
  Offload& offload = rig.open(faults);
  const int64_t give_up = dsa::now_nanoseconds() + int64_t{60} * 1000 * dsa::kNanosecondsPerMillisecond;
  while (rig.report().counters.lost < kLost && offload.usable() && dsa::now_nanoseconds() < give_up) {
    Pages pages(100);
    fill_fifths(pages);
    PageCheck check = check_of(pages.at(), 100);
    offload.check_now(check);
    CHECK_EQ(compare_with_cpu(check).wrong, size_t{0});
  }
  CHECK(rig.report().counters.lost >= kLost);
  while (rig.report().sick && dsa::now_nanoseconds() < give_up) std::this_thread::yield();
  CHECK(fifths_are_right(offload, 100));
}

// Where no record can tell it, the device's error register does.
TEST(dsa_devices_that_lose_work_and_report_an_error) {
  class CallsWithError final : public CountingCalls {
   public:
    using CountingCalls::CountingCalls;
    int poll_error(int, int timeout_milliseconds) override {
      CHECK_EQ(timeout_milliseconds, 0);
      return error;
    }
    std::atomic<int> error = 0;
  };
  for (const int error : {0, 1, -ENXIO}) {
    DriverRig rig(one_device({{}}));
    CallsWithError calls(rig.emulator());
    calls.error = error;
    rig.options.calls = &calls;
    rig.options.limits.record_milliseconds = 100;
    rig.options.limits.sick_tests = 0;
    Offload& offload = rig.open({{.kind = FaultKind::never_written, .count = kForEver}});
    Pages pages(10);
    pages.fill(0);
    PageCheck check = check_of(pages.at(), 10);
    CHECK(!offload.check_now(check));
    CHECK(contains(rig.report().reason, "not answered in time"));
    CHECK_EQ(contains(rig.report().reason, "dsa0/errors"), error == 1);
    rig.opened = {};
  }
}

// Closing waits for what is under way, within its limits, and all requests are settled then.
TEST(dsa_devices_closed_with_work_under_way) {
  for (const FaultKind kind : {FaultKind::late, FaultKind::never_written, FaultKind::device_lost}) {
    DriverRig rig(one_device({{}}));
    short_limits(rig);
    Offload& offload = rig.open({{.kind = kind, .count = kForEver, .value = 50}});
    Pages pages(2000);
    fill_fifths(pages);
    PageCheck check = check_of(pages.at(), 2000);
    offload.submit(check);
    rig.opened = {};
    CHECK_EQ(compare_with_cpu(check).wrong, size_t{0});
  }
}

// The mapping is there, the pages are not any more: the device cannot read them, and nothing touches them.
TEST(dsa_devices_source_cut_short_under_the_device) {
  for (const dsa::EmulatedQueue& queue : {dsa::EmulatedQueue{}, write_only_queue()}) {
    const UniqueFd file = temp_file("/dev/shm");
    constexpr size_t kPages = 512;
    write_at(file.get(), std::vector<uint8_t>(kPages * kPageBytes, 0), 0);
    DriverRig rig(one_device({queue}));
    Offload& offload = rig.open();
    int error = 0;
    const auto mapping = dsa::SourceMapping::map(file.get(), error);
    CHECK_EQ(error, 0);
    std::vector<dsa::ReachableRun> runs;
    CHECK_EQ(mapping->make_reachable(0, kPages * kPageBytes, runs), 0);
    PageCheck check = check_of(mapping->at(0), kPages);
    CHECK(offload.check_now(check));
    CHECK(all_are(check, Answer::zero));
    CHECK_EQ(ftruncate(file.get(), 200 * kPageBytes), 0);
    CHECK(!offload.check_now(check));
    for (size_t page = 0; page < kPages; ++page) {
      CHECK(check.answers()[page] == Answer::unknown || (page < 200 && check.answers()[page] == Answer::zero));
    }
    CHECK(check.answers()[0] == Answer::zero);
    CHECK(check.answers()[199] == Answer::zero);
    CHECK(sum_of_counters(offload).page_faults > 0);
    CHECK(fifths_are_right(offload, 100));
  }
}

// The kernel refuses a child its parent's queue, whose addresses mean something else there.
TEST(dsa_devices_are_not_used_after_a_fork) {
  DriverRig rig(one_device({{}}));
  Offload& offload = rig.open();
  Pages pages(10);
  pages.fill(0);
  const pid_t child = fork();
  if (child == 0) {
    PageCheck check = check_of(pages.at(), 10);
    const bool known = offload.check_now(check);
    _exit(!known && all_are(check, Answer::unknown) && !offload.usable() ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK_EQ(WEXITSTATUS(status), 0);
  CHECK(answers_rightly(offload, pages.at(), 10));
}

// What a child shares with its parent is read-only for both until one of them writes: a device that stores a record
// would meet a page fault.
TEST(dsa_devices_memory_of_submissions_is_not_a_childs) {
  const std::unique_ptr<dsa::Flight> flight = dsa::Flight::create(100);
  const std::unique_ptr<dsa::Flight> large = dsa::Flight::create(1024);
  const pid_t child = fork();
  if (child == 0) {
    const auto is_mapped = [](const void* address) {
      unsigned char residence = 0;
      const auto page = reinterpret_cast<uintptr_t>(address) / kPageBytes * kPageBytes;
      return mincore(reinterpret_cast<void*>(page), kPageBytes, &residence) == 0;
    };
    const bool any = is_mapped(flight->records()) || is_mapped(&flight->batch_record()) ||
                     is_mapped(large->first_descriptor()) || is_mapped(large->records() + 1023);
    _exit(any ? 1 : 0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK_EQ(WEXITSTATUS(status), 0);
}

}  // namespace vmsnap::test
