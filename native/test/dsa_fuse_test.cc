// The kernel's own system calls on a queue: a file whose write() goes through a real kernel to an emulated queue and
// comes back with what the queue answers.
#include <functional>
#include <thread>

#include "../dsa/clock.h"
#include "../dsa/device_calls.h"
#include "support/dsa_fuse.h"
#include "support/dsa_rig.h"
#include "support/emulated.h"
#include "support/random.h"

namespace vmsnap::test {

namespace {

using dsa::Fault;
using dsa::FaultKind;
using dsa::Offload;
using dsa::PageCheck;
using dsa::SubmitWay;

/// Calls of the driver's own probes, where batches pass: a NOOP, a batch of NOOPs, a batch of compares.
constexpr uint64_t kProbeCalls = 3;

/// Runs `body` in a thread with such a file system, or skips the test. The driver's options lead there.
void with_queue_files(const dsa::EmulatorConfig& config, const std::function<void(DriverRig&)>& body) {
  DriverRig rig(config);
  std::string missing;
  std::thread([&] {
    QueueFileSystem files(rig.emulator(), {"wq0.0", "wq0.1"});
    missing = files.mount_here();
    if (!missing.empty()) return;
    rig.options.calls = &dsa::kernel_calls();
    rig.options.device_root = files.path();
    body(rig);
    rig.opened = {};
  }).join();
  if (!missing.empty()) skip(missing);
}

bool mixed_pages_are_right(Offload& offload, uint64_t seed) {
  Random random(seed);
  Pages pages(500);
  pages.fill(0);
  for (size_t page = 0; page < 500; page += 1 + random.below(4)) pages.at(page * 4096)[random.below(4096)] = 1;
  return answers_rightly(offload, pages.at(), 500);
}

}  // namespace

TEST(dsa_fuse_a_driver_works_through_the_kernel) {
  with_queue_files(one_device({{}, dedicated_queue()}), [](DriverRig& rig) {
    Offload& offload = rig.open();
    for (const dsa::QueueReport& report : rig.opened.queues) CHECK(report.way == SubmitWay::write_batch);
    CHECK_EQ(rig.opened.queues.size(), size_t{2});
    CHECK(mixed_pages_are_right(offload, 1));
    for (const dsa::QueueReport& report : offload.reports()) {
      CHECK(report.counters.batches > 0);
      CHECK_EQ(report.counters.errors, uint64_t{0});
    }
  });
}

TEST(dsa_fuse_einval_for_a_batch_comes_through_the_kernel) {
  dsa::EmulatorConfig config = one_device({{}});
  config.faults = {{.kind = FaultKind::write_error, .first = 1, .count = 1, .value = EINVAL}};
  with_queue_files(config, [](DriverRig& rig) {
    Offload& offload = rig.open();
    CHECK(rig.report().way == SubmitWay::write_single);
    CHECK_EQ(rig.report().steps.back().error, 0);
    bool refused = false;
    for (const dsa::ProbeStep& step : rig.report().steps) {
      refused = refused || (step.what == "batch-write" && step.error == EINVAL);
    }
    CHECK(refused);
    CHECK(mixed_pages_are_right(offload, 2));
    CHECK_EQ(rig.report().counters.batches, uint64_t{0});
  });
}

// Batches that were taken and are refused later, as after an update of the kernel's mind.
TEST(dsa_fuse_einval_in_the_middle_comes_through_the_kernel) {
  with_queue_files(one_device({{}}), [](DriverRig& rig) {
    Offload& offload = rig.open({{.kind = FaultKind::write_error, .first = kProbeCalls, .count = 1, .value = EINVAL}});
    CHECK(mixed_pages_are_right(offload, 3));
    CHECK(rig.report().way == SubmitWay::write_single);
  });
}

TEST(dsa_fuse_a_short_write_comes_through_the_kernel) {
  dsa::EmulatedQueue single;
  single.write_refuses_batches = true;
  with_queue_files(one_device({single}), [](DriverRig& rig) {
    Offload& offload = rig.open({{.kind = FaultKind::short_write, .count = uint64_t{1} << 40, .value = 1}});
    CHECK(rig.report().way == SubmitWay::write_single);
    CHECK(mixed_pages_are_right(offload, 4));
    CHECK(rig.report().counters.short_writes > 0);
    CHECK_EQ(rig.report().counters.errors, uint64_t{0});
  });
}

TEST(dsa_fuse_a_full_queue_comes_through_the_kernel) {
  with_queue_files(one_device({{}}), [](DriverRig& rig) {
    Offload& offload = rig.open({{.kind = FaultKind::queue_full, .first = kProbeCalls, .count = 5}});
    CHECK(mixed_pages_are_right(offload, 5));
    CHECK_EQ(rig.report().counters.retries, uint64_t{5});
    CHECK_EQ(rig.report().counters.errors, uint64_t{0});
  });
}

TEST(dsa_fuse_a_lost_device_comes_through_the_kernel) {
  with_queue_files(one_device({{}}), [](DriverRig& rig) {
    rig.options.limits.record_milliseconds = 200;
    rig.options.limits.probe_milliseconds = 200;
    rig.options.limits.sick_retest_milliseconds = 5;
    Offload& offload = rig.open();
    CHECK(mixed_pages_are_right(offload, 6));
    rig.emulator().add_fault({.kind = FaultKind::device_lost});
    Pages pages(300);
    pages.fill(0);
    PageCheck check = check_of(pages.at(), 300);
    CHECK(!offload.check_now(check));
    CHECK(all_are(check, dsa::Answer::unknown));
    CHECK(rig.report().counters.errors > 0);
    CHECK(contains(rig.report().reason, std::strerror(ENXIO)));
    // Whoever opens it now hears of it at once.
    const Offload::Opened again = Offload::open(rig.options);
    CHECK(again.offload == nullptr);
    CHECK_EQ(again.queues.at(0).steps.back().error, ENXIO);
  });
}

TEST(dsa_fuse_what_open_refuses_comes_through_the_kernel) {
  for (const int error : {EACCES, EBUSY, ENXIO, EPERM}) {
    dsa::EmulatedQueue queue;
    queue.open_error = error;
    with_queue_files(one_device({queue}), [&](DriverRig& rig) {
      const Offload::Opened opened = Offload::open(rig.options);
      CHECK(opened.offload == nullptr);
      CHECK_EQ(opened.queues.at(0).steps.back().error, error);
    });
  }
}

TEST(dsa_fuse_the_software_error_is_polled_through_the_kernel) {
  with_queue_files(one_device({{}}), [](DriverRig& rig) {
    dsa::DeviceCalls& calls = dsa::kernel_calls();
    const int fd = calls.open((rig.options.device_root + "/wq0.0").c_str());
    CHECK(fd >= 0);
    CHECK_EQ(calls.poll_error(fd, 0), 0);
    // Of a descriptor that wants no record, nobody hears but through the register.
    const dsa_hw_desc wrong = descriptor_of(0x3f, nullptr);
    CHECK_EQ(calls.write(fd, &wrong, sizeof wrong), ssize_t{64});
    const int64_t give_up = dsa::now_nanoseconds() + int64_t{10} * 1'000'000'000;
    while (!rig.emulator().software_error(0).valid && dsa::now_nanoseconds() < give_up) std::this_thread::yield();
    CHECK_EQ(calls.poll_error(fd, 0), 1);
    CHECK_EQ(calls.close(fd), 0);
    CHECK_EQ(calls.write(fd, &wrong, sizeof wrong), ssize_t{-EBADF});
  });
}

}  // namespace vmsnap::test
