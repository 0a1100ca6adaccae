// Queues: how they fill, what they refuse and drop, the calls, time, drain and close.
#include <algorithm>
#include <array>
#include <cerrno>
#include <thread>
#include <vector>

#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "support/emulated.h"

namespace vmsnap::test {

using namespace dsa;

namespace {

uint64_t milliseconds_now() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000 + static_cast<uint64_t>(now.tv_nsec) / 1'000'000;
}

constexpr uint32_t kSlow = 100'000;  // microseconds

EmulatorConfig slow(QueueMode mode, uint32_t size, uint32_t threshold = 0) {
  return {
      .devices = {{.latency_microseconds = kSlow, .queues = {{.mode = mode, .size = size, .threshold = threshold}}}}};
}

/// As many NOOPs, each with its record.
class Noops {
 public:
  explicit Noops(size_t count) : records_(std::make_shared<std::vector<CompletionRecord>>(count)), descriptors_(count) {
    for (size_t i = 0; i < count; ++i) descriptors_[i] = descriptor_of(DSA_OPCODE_NOOP, &(*records_)[i]);
  }
  ~Noops() {
    if (answered() < records_->size()) keep_for_ever(records_);
  }
  Noops(const Noops&) = delete;
  Noops& operator=(const Noops&) = delete;

  const dsa_hw_desc& operator[](size_t i) const { return descriptors_[i]; }
  const dsa_hw_desc* data() const { return descriptors_.data(); }
  uint8_t wait(size_t i, unsigned milliseconds = 5000) const { return await_record((*records_)[i], milliseconds); }
  size_t answered() const {
    return static_cast<size_t>(std::count_if(records_->begin(), records_->end(), [](const CompletionRecord& record) {
      return await_record(record, 0) != 0;
    }));
  }

 private:
  std::shared_ptr<std::vector<CompletionRecord>> records_;
  std::vector<dsa_hw_desc> descriptors_;
};

}  // namespace

TEST(dsa_emulator_refuses_a_write_to_a_full_queue) {
  for (const uint32_t threshold : {0U, 3U}) {
    Rig rig(slow(QueueMode::shared, 4, threshold));
    if (!rig.ready()) return;
    const size_t entries = threshold != 0 ? threshold : 4;
    const Noops noops(10);
    // All that is left over of a descriptor is ignored.
    CHECK_EQ(rig.emulator().write(rig.fd(), noops.data(), 63), ssize_t{0});
    CHECK_EQ(rig.emulator().write(rig.fd(), noops.data(), 64 + 63), ssize_t{64});
    CHECK_EQ(rig.write(&noops[1], 9), static_cast<ssize_t>((entries - 1) * 64));
    CHECK_EQ(rig.write(&noops[entries], 1), ssize_t{-EAGAIN});
    for (size_t i = 0; i < entries; ++i) CHECK_EQ(noops.wait(i), DSA_COMP_SUCCESS);
    // Whoever sees a record may submit again.
    CHECK_EQ(rig.write(&noops[entries], 1), ssize_t{64});
    CHECK_EQ(noops.wait(entries), DSA_COMP_SUCCESS);
    CHECK(!rig.emulator().software_error(0).valid);
  }
}

TEST(dsa_emulator_drops_what_a_dedicated_queue_cannot_hold) {
  Rig rig(slow(QueueMode::dedicated, 4));
  if (!rig.ready()) return;
  const Noops noops(6);
  CHECK_EQ(rig.emulator().poll_error(rig.fd(), 0), 0);
  CHECK_EQ(rig.write(noops.data(), 6), ssize_t{6 * 64});
  CHECK_EQ(rig.emulator().poll_error(rig.fd(), 0), 1);
  const SoftwareError error = rig.emulator().software_error(0);
  CHECK(error.valid && error.overflow);
  CHECK_EQ(error.error, 0x53);
  CHECK_EQ(noops.wait(3), DSA_COMP_SUCCESS);
  CHECK_EQ(noops.wait(5, 150), DSA_COMP_NONE);
  CHECK_EQ(noops.answered(), size_t{4});
}

TEST(dsa_emulator_wakes_who_polls_for_an_error) {
  Rig rig(slow(QueueMode::dedicated, 1));
  if (!rig.ready()) return;
  int answer = 0;
  std::thread poller([&] { answer = rig.emulator().poll_error(rig.fd(), -1); });
  const Noops noops(2);
  CHECK_EQ(rig.write(noops.data(), 2), ssize_t{128});
  poller.join();
  CHECK_EQ(answer, 1);
  rig.emulator().clear_software_error(0);
  const uint64_t before = milliseconds_now();
  CHECK_EQ(rig.emulator().poll_error(rig.fd(), 30), 0);
  CHECK(milliseconds_now() - before >= 29);
}

TEST(dsa_emulator_counts_a_batch_as_one_entry) {
  Rig rig(slow(QueueMode::shared, 2));
  if (!rig.ready()) return;
  struct alignas(64) List {
    std::array<dsa_hw_desc, 16> descriptors;
  };
  auto list = std::make_unique<List>();
  for (dsa_hw_desc& member : list->descriptors) member = descriptor_of(DSA_OPCODE_NOOP, nullptr);
  const Noops noops(2);
  CompletionRecord record{};
  const dsa_hw_desc batch = batch_of(list.get(), 16, &record);
  CHECK_EQ(rig.write(&batch), ssize_t{64});
  CHECK_EQ(rig.write(&noops[0], 2), ssize_t{64});
  CHECK_EQ(await_record(record), DSA_COMP_SUCCESS);
  CHECK_EQ(noops.wait(0), DSA_COMP_SUCCESS);
}

#if defined(__x86_64__)
TEST(dsa_emulator_answers_retry_at_the_threshold) {
  for (const uint32_t threshold : {0U, 2U}) {
    Rig rig(slow(QueueMode::shared, 4, threshold));
    if (!rig.ready()) return;
    const size_t entries = threshold != 0 ? threshold : 4;
    const Noops noops(5);
    for (size_t i = 0; i < entries; ++i) CHECK(!enqcmd(rig.portal(), noops[i]).zero_flag);
    for (int tries = 0; tries < 10; ++tries) {
      const StoreAnswer answer = enqcmd(rig.portal(), noops[entries]);
      CHECK(answer.zero_flag);
      CHECK_EQ(answer.ecx, 1U);
    }
    CHECK_EQ(noops.wait(0), DSA_COMP_SUCCESS);
    CHECK(!enqcmd(rig.portal(), noops[entries]).zero_flag);
    CHECK_EQ(noops.wait(entries), DSA_COMP_SUCCESS);
  }
}

TEST(dsa_emulator_drops_stores_to_a_full_dedicated_queue) {
  Rig rig(slow(QueueMode::dedicated, 2));
  if (!rig.ready()) return;
  const Noops noops(3);
  for (size_t i = 0; i < 3; ++i) movdir64b(rig.portal(), noops[i]);
  CHECK_EQ(noops.wait(1), DSA_COMP_SUCCESS);
  CHECK_EQ(noops.wait(2, 150), DSA_COMP_NONE);
  CHECK_EQ(rig.emulator().software_error(0).error, 0x53);
}

TEST(dsa_emulator_takes_only_the_instruction_of_the_queue) {
  const Noops noops(2);
  Rig dedicated({.devices = {{.queues = {{.mode = QueueMode::dedicated}}}}});
  if (!dedicated.ready()) return;
  for (int tries = 0; tries < 20; ++tries) CHECK(enqcmd(dedicated.portal(), noops[0]).zero_flag);
  Rig shared;
  movdir64b(shared.portal(), noops[1]);
  CHECK_EQ(noops.wait(1, 50), DSA_COMP_NONE);
  CHECK_EQ(noops.answered(), size_t{0});
}

TEST(dsa_emulator_knows_the_privilege_of_a_dedicated_portal) {
  Rig rig({.devices = {{.queues = {{.mode = QueueMode::dedicated}}}}});
  if (!rig.ready()) return;
  CompletionRecord record{};
  dsa_hw_desc noop = descriptor_of(DSA_OPCODE_NOOP, &record);
  noop.priv = 1;
  movdir64b(rig.portal(), noop);
  CHECK_EQ(rig.emulator().poll_error(rig.fd(), 5000), 1);
  CHECK_EQ(rig.emulator().software_error(0).error, 0x1d);
  rig.emulator().clear_software_error(0);
  noop.priv = 0;
  noop.completion_addr += 16;
  movdir64b(rig.portal(), noop);
  CHECK_EQ(rig.emulator().poll_error(rig.fd(), 5000), 1);
  CHECK_EQ(rig.emulator().software_error(0).error, 0x1b);
  CHECK_EQ(await_record(record, 0), DSA_COMP_NONE);
  // ENQCMD puts the processor's own PASID and privilege there.
  Rig shared;
  noop = descriptor_of(DSA_OPCODE_NOOP, &record);
  noop.priv = 1;
  noop.rsvd = 5;
  CHECK(!enqcmd(shared.portal(), noop).zero_flag);
  CHECK_EQ(await_record(record), DSA_COMP_SUCCESS);
}

TEST(dsa_emulator_takes_stores_from_many_threads) {
  Rig rig({.devices = {{.engines = 3, .queues = {{.size = 8}}}}});
  if (!rig.ready()) return;
  void* portal = rig.portal();
  constexpr size_t kEach = 300;
  std::vector<std::thread> threads;
  std::array<size_t, 4> answered{};
  for (size_t& count : answered) {
    threads.emplace_back([&count, portal] {
      const Noops noops(kEach);
      for (size_t i = 0; i < kEach; ++i) {
        while (enqcmd(portal, noops[i]).zero_flag) std::this_thread::yield();
      }
      for (size_t i = 0; i < kEach; ++i) count += noops.wait(i) == DSA_COMP_SUCCESS ? 1 : 0;
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const size_t count : answered) CHECK_EQ(count, kEach);
  CHECK_EQ(rig.emulator().executed(), uint64_t{4 * kEach});
}
#endif

TEST(dsa_emulator_drains_what_came_before) {
  Rig rig({.devices = {{.engines = 1}},
           .faults = {{.kind = FaultKind::late, .first = 1, .value = 60, .of = FaultUnit::descriptors}}});
  if (!rig.ready()) return;
  const Noops noops(4);
  CompletionRecord record{};
  CHECK_EQ(rig.write(&noops[0], 2), ssize_t{128});
  const dsa_hw_desc drain = descriptor_of(DSA_OPCODE_DRAIN, &record);
  CHECK_EQ(rig.write(&drain), ssize_t{64});
  CHECK_EQ(rig.write(&noops[2]), ssize_t{64});
  CHECK_EQ(noops.wait(2), DSA_COMP_SUCCESS);  // which came after it
  CHECK_EQ(await_record(record), DSA_COMP_SUCCESS);
  CHECK_EQ(noops.wait(0, 0), DSA_COMP_SUCCESS);
  CHECK_EQ(noops.wait(1, 0), DSA_COMP_SUCCESS);
}

TEST(dsa_emulator_drains_at_close) {
  for (const QueueMode mode : {QueueMode::shared, QueueMode::dedicated}) {
    Rig rig(slow(mode, 8));
    if (!rig.ready()) return;
    const int fd = rig.emulator().open(rig.node().c_str());
    CHECK_EQ(fd, mode == QueueMode::dedicated ? -EBUSY : fd);
    const Noops noops(8);
    CHECK_EQ(rig.write(noops.data(), 8), ssize_t{8 * 64});
    CHECK_EQ(noops.answered(), size_t{0});
    CHECK_EQ(rig.emulator().close(fd >= 0 ? fd : rig.fd()), 0);
    CHECK_EQ(noops.answered(), size_t{8});
    if (mode == QueueMode::shared) continue;
    // Closed: somebody else may have it.
    const int again = rig.emulator().open(rig.node().c_str());
    CHECK(again >= 0);
    CHECK_EQ(rig.emulator().close(again), 0);
    CHECK_EQ(rig.emulator().close(again), -EBADF);
  }
}

TEST(dsa_emulator_answers_calls_as_the_kernel_does) {
  Rig rig({.devices = {{.queues = {{.map_error = EPERM, .write_refuses_batches = true},
                                   {.open_error = EACCES},
                                   {.state = "disabled"},
                                   {.type = "kernel"},
                                   {}}}}});
  if (!rig.ready()) return;
  Emulator& emulator = rig.emulator();
  CHECK_EQ(emulator.open(rig.node(1).c_str()), -EACCES);
  CHECK_EQ(emulator.open(rig.node(2).c_str()), -ENOENT);
  CHECK_EQ(emulator.open(rig.node(3).c_str()), -ENOENT);
  CHECK_EQ(emulator.open(rig.node(5).c_str()), -ENOENT);
  CHECK_EQ(emulator.open("/dev/null"), -ENOENT);
  void* portal = nullptr;
  CHECK_EQ(emulator.map_portal(rig.fd(), portal), -EPERM);
  CHECK_EQ(emulator.map_portal(-1, portal), -EBADF);
  CHECK_EQ(emulator.unmap_portal(&portal), -EINVAL);
  CHECK_EQ(emulator.write(-1, &portal, 64), ssize_t{-EBADF});
  CHECK_EQ(emulator.poll_error(-1, 0), -EBADF);
  CHECK_EQ(emulator.close(-1), -EBADF);
  CHECK_EQ(emulator.write(rig.fd(), nullptr, 64), ssize_t{-EFAULT});

  const Noops noops(3);
  std::array<dsa_hw_desc, 3> mixed = {noops[0], batch_of(&portal, 2, nullptr), noops[2]};
  CHECK_EQ(rig.write(&mixed[1]), ssize_t{-EINVAL});
  CHECK_EQ(rig.write(mixed.data(), 3), ssize_t{64});  // up to the batch
  CHECK_EQ(noops.wait(0), DSA_COMP_SUCCESS);
  mixed[1] = noops[1];
  mixed[1].completion_addr += 8;
  CHECK_EQ(rig.write(&mixed[1]), ssize_t{-EINVAL});
  CHECK_EQ(noops.answered(), size_t{1});
}

TEST(dsa_emulator_has_several_devices_and_queues) {
  Rig rig({.devices = {{.queues = {{}, {.mode = QueueMode::dedicated}}}, {.number = 3, .numa_node = 1}}});
  if (!rig.ready()) return;
  Emulator& emulator = rig.emulator();
  for (const char* name : {"/wq0.1", "/wq3.0"}) {
    const int fd = emulator.open((emulator.device_root() + name).c_str());
    CHECK(fd >= 0);
    const Noops noops(1);
    CHECK_EQ(emulator.write(fd, noops.data(), 64), ssize_t{64});
    CHECK_EQ(noops.wait(0), DSA_COMP_SUCCESS);
    CHECK_EQ(emulator.close(fd), 0);
  }
}

TEST(dsa_emulator_takes_the_time_that_is_set) {
  Pages pages(1024);
  pages.fill(0);
  // 4 MiB at 40 MB/s; several at once have to share it.
  Rig rig({.devices = {{.bytes_per_second = 40'000'000}}});
  if (!rig.ready()) return;
  std::array<CompletionRecord, 2> records{};
  const uint64_t before = milliseconds_now();
  for (CompletionRecord& record : records) {
    const dsa_hw_desc descriptor = compval_of(pages.at(), 4 << 20, 0, &record);
    CHECK_EQ(rig.write(&descriptor), ssize_t{64});
  }
  CHECK_EQ(await_record(records[0]), DSA_COMP_SUCCESS);
  CHECK(milliseconds_now() - before >= 100);
  CHECK_EQ(await_record(records[1]), DSA_COMP_SUCCESS);
  CHECK(milliseconds_now() - before >= 200);
  // Latency is shared by all that is under way.
  Rig late(slow(QueueMode::shared, 64));
  const Noops noops(64);
  const uint64_t start = milliseconds_now();
  CHECK_EQ(late.write(noops.data(), 64), ssize_t{64 * 64});
  CHECK_EQ(noops.wait(63), DSA_COMP_SUCCESS);
  CHECK(milliseconds_now() - start >= 99);
  CHECK(milliseconds_now() - start < 64 * 100);
}

TEST(dsa_emulator_sleeps_when_idle) {
  Rig rig;
  if (!rig.ready()) return;
  const Noops noops(1);
  CHECK_EQ(rig.write(noops.data(), 1), ssize_t{64});
  CHECK_EQ(noops.wait(0), DSA_COMP_SUCCESS);
  const timespec nap = {0, 100'000'000};
  nanosleep(&nap, nullptr);
  const uint64_t before = rig.emulator().engine_cpu_nanoseconds();
  CHECK(before > 0);
  nanosleep(&nap, nullptr);
  CHECK(rig.emulator().engine_cpu_nanoseconds() - before < 5'000'000);
}

TEST(dsa_emulator_is_not_for_the_child_of_a_fork) {
  Rig rig;
  if (!rig.ready()) return;
  const pid_t child = fork();
  if (child == 0) {
    const Noops noops(1);
    void* portal = nullptr;
    bool right = rig.write(noops.data(), 1) == -EPERM;
    right = right && rig.emulator().open(rig.node().c_str()) == -EPERM;
    right = right && rig.emulator().map_portal(rig.fd(), portal) == -EPERM;
    right = right && rig.emulator().poll_error(rig.fd(), 0) == -EPERM;
    right = right && rig.emulator().close(rig.fd()) == -EPERM;
    _exit(right ? 0 : 1);
  }
  int status = 0;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK_EQ(access(rig.node().c_str(), F_OK), 0);
  const Noops noops(1);
  CHECK_EQ(rig.write(noops.data()), ssize_t{64});
  CHECK_EQ(noops.wait(0), DSA_COMP_SUCCESS);
}

TEST(dsa_emulator_can_be_there_twice_and_again) {
  for (int round = 0; round < 5; ++round) {
    Rig first;
    Rig second({.devices = {{.queues = {{.mode = QueueMode::dedicated}}}}});
    if (!first.ready() || !second.ready()) return;
    const Noops noops(2);
#if defined(__x86_64__)
    CHECK(!enqcmd(first.portal(), noops[0]).zero_flag);
    movdir64b(second.portal(), noops[1]);
#else
    CHECK_EQ(first.write(&noops[0]), ssize_t{64});
    CHECK_EQ(second.write(&noops[1]), ssize_t{64});
#endif
    CHECK_EQ(noops.wait(0), DSA_COMP_SUCCESS);
    CHECK_EQ(noops.wait(1), DSA_COMP_SUCCESS);
    CHECK_EQ(first.emulator().executed(), uint64_t{1});
    CHECK_EQ(second.emulator().executed(), uint64_t{1});
  }
}

}  // namespace vmsnap::test
