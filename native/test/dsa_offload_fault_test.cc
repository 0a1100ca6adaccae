// A device that misbehaves by plan. Whatever it does: no answer is wrong, nothing hangs, and what a fault did not touch
// is answered.
#include <cerrno>
#include <thread>

#include "support/check.h"
#include "support/memory_image.h"
#include "support/offload_rig.h"

namespace vmsnap::test {

namespace {

using namespace offload;

using dsa::FaultKind;
using dsa::FaultUnit;
using dsa::SubmitWay;

constexpr size_t kPages = 512;
/// Compares and descriptors that opening a queue has behind it: NOOPs, a batch of NOOPs, two known pages.
constexpr uint64_t kAfterProbe = 8;
constexpr uint64_t kAlways = 1'000'000;

dsa::OffloadLimits impatient() {
  dsa::OffloadLimits limits;
  limits.record_milliseconds = 200;
  limits.probe_milliseconds = 500;
  limits.sick_retest_milliseconds = 10;
  return limits;
}

dsa::OffloadLimits patient() {
  dsa::OffloadLimits limits;
  limits.record_milliseconds = 20'000;
  limits.probe_milliseconds = 10'000;
  return limits;
}

class Memory {
 public:
  explicit Memory(uint64_t seed, size_t pages = kPages) {
    Random random(seed);
    image_ = memory_image(random, pages * 4096, 4096);
  }
  Score run(OffloadRig& rig) const { return rig.run(image_.data(), image_.size() / 4096); }
  const uint8_t* bytes() const { return image_.data(); }

 private:
  std::vector<uint8_t> image_;
};

void sleep_milliseconds(long milliseconds) {
  const timespec nap = {milliseconds / 1000, milliseconds % 1000 * 1'000'000};
  nanosleep(&nap, nullptr);
}

/// Waits until the queue takes work again, or is given up.
bool recovers(OffloadRig& rig, size_t queue = 0) {
  for (int i = 0; i < 2000 && rig.report(queue).sick && rig.offload().usable(); ++i) sleep_milliseconds(5);
  return !rig.report(queue).sick;
}

/// Whether everything is answered again, after a while: on a slow machine more may be lost than was planned.
bool answers_all(OffloadRig& rig, const Memory& memory) {
  for (int round = 0; round < 20; ++round) {
    if (!recovers(rig)) return false;
    const Score score = memory.run(rig);
    CHECK_EQ(score.wrong, size_t{0});
    if (score.unknown == 0) return true;
  }
  return false;
}

/// Where four ways times all statuses would take too long.
bool is_worth_a_rig(SubmitWay way, unsigned status) {
  if (way == SubmitWay::write_batch) return true;
  for (const unsigned one_of_a_class : {0x02U, 0x03U, 0x04U, 0x05U, 0x06U, 0x10U, 0x13U, 0x14U, 0x1aU, 0x22U, 0x3fU}) {
    if (status == one_of_a_class) return true;
  }
  return false;
}

}  // namespace

TEST(dsa_offload_fault_every_status_in_a_compare) {
  const Memory memory(41);
  for (const SubmitWay way : kWays) {
    for (unsigned status = 2; status < 0x40; ++status) {
      if (!is_worth_a_rig(way, status)) continue;
      OffloadRig rig(config_for(way), patient());
      if (!rig.ready() || !rig.open()) return;
      rig.emulator().add_fault({.kind = FaultKind::status, .first = kAfterProbe + 9, .count = 3, .value = status});
      const Score score = memory.run(rig);
      CHECK_EQ(score.wrong, size_t{0});
      CHECK_EQ(score.zero + score.not_zero + score.unknown, kPages);
      if (status == 3) CHECK_EQ(score.unknown, size_t{0});
    }
  }
}

TEST(dsa_offload_fault_every_status_of_a_descriptor) {
  const Memory memory(42);
  for (const SubmitWay way : kWays) {
    for (unsigned status = 2; status < 0x40; ++status) {
      if (!is_worth_a_rig(way, status)) continue;
      OffloadRig rig(config_for(way), patient());
      if (!rig.ready() || !rig.open()) return;
      rig.emulator().add_fault(
          {.kind = FaultKind::status, .first = kAfterProbe, .count = 2, .value = status, .of = FaultUnit::descriptors});
      const Score score = memory.run(rig);
      CHECK_EQ(score.wrong, size_t{0});
      CHECK_EQ(score.zero + score.not_zero + score.unknown, kPages);
    }
  }
}

TEST(dsa_offload_fault_page_faults_are_resumed) {
  constexpr uint32_t kFaults = 100;
  const Memory memory(43);
  for (const SubmitWay way : kWays) {
    for (const FaultKind kind : {FaultKind::page_fault, FaultKind::write_fault}) {
      dsa::OffloadLimits limits = patient();
      // Which compare is the fifth depends on the threads: the same pages may meet many of the faults.
      limits.fault_retries = kFaults;
      OffloadRig rig(config_for(way), limits);
      if (!rig.ready() || !rig.open()) return;
      for (uint64_t i = 0; i < kFaults; ++i) {
        rig.emulator().add_fault({.kind = kind, .first = kAfterProbe + i * 5, .value = (i % 20) * 1000});
      }
      const Score score = memory.run(rig);
      CHECK_EQ(score.wrong + score.unknown, size_t{0});
      CHECK(rig.counters().page_faults > 0);
      CHECK_EQ(rig.counters().errors, uint64_t{0});
    }
  }
}

TEST(dsa_offload_fault_page_faults_without_end) {
  const Memory memory(44);
  for (const SubmitWay way : kWays) {
    OffloadRig rig(config_for(way), patient());
    if (!rig.ready() || !rig.open()) return;
    rig.emulator().add_fault({.kind = FaultKind::page_fault, .first = kAfterProbe, .count = kAlways, .value = 0});
    const Score score = memory.run(rig);
    CHECK_EQ(score.wrong, size_t{0});
    CHECK(score.unknown > kPages / 2);
    CHECK(rig.offload().usable());
  }
}

TEST(dsa_offload_fault_batch_lists) {
  const Memory memory(45);
  for (const uint64_t done : {uint64_t{0}, uint64_t{1}, uint64_t{63}, uint64_t{127}}) {
    OffloadRig rig(config_for(SubmitWay::write_batch), patient());
    if (!rig.ready() || !rig.open()) return;
    rig.emulator().add_fault({.kind = FaultKind::batch_list_fault, .first = 2, .count = 3, .value = done});
    const Score score = memory.run(rig);
    CHECK_EQ(score.wrong + score.unknown, size_t{0});
    CHECK(rig.counters().batch_faults >= 3);
  }
  OffloadRig rig(config_for(SubmitWay::write_batch), patient());
  if (!rig.ready() || !rig.open()) return;
  rig.emulator().add_fault({.kind = FaultKind::batch_list_fault, .first = 2, .count = kAlways, .value = 0});
  CHECK_EQ(memory.run(rig).wrong, size_t{0});
}

TEST(dsa_offload_fault_limits_smaller_than_told) {
  const Memory memory(46);
  // The first refusal halves, and what was refused goes out again.
  OffloadRig batches(config_for(SubmitWay::write_batch), patient());
  if (!batches.ready() || !batches.open()) return;
  batches.emulator().add_fault(
      {.kind = FaultKind::status, .first = 3, .count = 1, .value = 0x14, .of = FaultUnit::descriptors});
  const Score score = memory.run(batches);
  CHECK_EQ(score.wrong + score.unknown, size_t{0});
  CHECK_EQ(batches.report().batch_pages, uint32_t{64});
  // Batches are refused for good: single descriptors do it.
  OffloadRig singles(config_for(SubmitWay::write_batch), patient());
  if (!singles.ready() || !singles.open()) return;
  singles.emulator().add_fault(
      {.kind = FaultKind::status, .first = 3, .count = 1, .value = 0x10, .of = FaultUnit::descriptors});
  CHECK_EQ(memory.run(singles).unknown, size_t{0});
  CHECK_EQ(dsa::name_of(singles.report().way), dsa::name_of(SubmitWay::write_single));
  CHECK(!singles.report().sick);
  // Compares that are refused whatever their size.
  for (const SubmitWay way : kWays) {
    OffloadRig rig(config_for(way), patient());
    if (!rig.ready() || !rig.open()) return;
    rig.emulator().add_fault({.kind = FaultKind::status, .first = 2, .count = kAlways, .value = 0x13});
    CHECK_EQ(memory.run(rig).unknown, kPages);
    CHECK_EQ(memory.run(rig).unknown, kPages);
    CHECK(rig.counters().errors > 0);
  }
}

TEST(dsa_offload_fault_refused_compares_set_the_queue_aside) {
  const Memory memory(47);
  for (const SubmitWay way : kWays) {
    OffloadRig rig(config_for(way), patient());
    if (!rig.ready() || !rig.open()) return;
    rig.emulator().add_fault({.kind = FaultKind::status, .first = 2, .count = 1, .value = 0x11});
    CHECK_EQ(memory.run(rig).wrong, size_t{0});
    CHECK(rig.report().sick && !rig.offload().usable());
    CHECK(rig.report().reason.find("invalid flags (11)") != std::string::npos);
    const uint64_t descriptors = rig.counters().descriptors;
    CHECK_EQ(memory.run(rig).unknown, kPages);
    CHECK_EQ(rig.counters().descriptors, descriptors);
  }
}

TEST(dsa_offload_fault_queue_full_for_a_while) {
  const Memory memory(48);
  for (const SubmitWay way : {SubmitWay::enqcmd, SubmitWay::write_batch, SubmitWay::write_single}) {
#if !defined(__x86_64__)
    if (way == SubmitWay::enqcmd) continue;
#endif
    dsa::OffloadLimits limits = patient();
    limits.submit_retries = 4;
    OffloadRig rig(config_for(way), limits);
    if (!rig.ready() || !rig.open()) return;
    rig.emulator().add_fault({.kind = FaultKind::queue_full, .first = 3, .count = 40});
    const Score score = memory.run(rig);
    CHECK_EQ(score.wrong + score.unknown, size_t{0});
    CHECK(rig.counters().retries >= 37);
    CHECK_EQ(rig.counters().times_sick, uint64_t{0});
  }
}

TEST(dsa_offload_fault_queue_full_for_ever) {
  const Memory memory(49);
  for (const SubmitWay way : kWays) {
    OffloadRig rig(config_for(way), impatient());
    if (!rig.ready() || !rig.open()) return;
    rig.emulator().add_fault({.kind = FaultKind::queue_full, .first = 3, .count = kAlways});
    const Score score = memory.run(rig);
    CHECK_EQ(score.wrong, size_t{0});
    CHECK(score.unknown > 0);
    CHECK(rig.counters().times_sick > 0);
    CHECK(!recovers(rig));
    CHECK(!rig.offload().usable());
  }
}

TEST(dsa_offload_fault_short_writes_and_write_errors) {
  const Memory memory(50);
  OffloadRig short_writes(config_for(SubmitWay::write_single), patient());
  if (!short_writes.ready() || !short_writes.open()) return;
  short_writes.emulator().add_fault({.kind = FaultKind::short_write, .first = 4, .count = kAlways, .value = 1});
  const Score score = memory.run(short_writes);
  CHECK_EQ(score.wrong + score.unknown, size_t{0});
  CHECK(short_writes.counters().short_writes > 0);

  for (const int error : {EAGAIN, EINVAL, ENXIO, EPERM, EIO}) {
    for (const SubmitWay way : {SubmitWay::write_batch, SubmitWay::write_single}) {
      OffloadRig rig(config_for(way), patient());
      if (!rig.ready() || !rig.open()) return;
      rig.emulator().add_fault(
          {.kind = FaultKind::write_error, .first = 4, .count = 1, .value = static_cast<uint64_t>(error)});
      const Score answered = memory.run(rig);
      CHECK_EQ(answered.wrong, size_t{0});
      if (error == EAGAIN) CHECK_EQ(answered.unknown, size_t{0});
      // A kernel that refuses the batch: the same pages as single descriptors.
      if (error == EINVAL && way == SubmitWay::write_batch) {
        CHECK_EQ(answered.unknown, size_t{0});
        CHECK_EQ(dsa::name_of(rig.report().way), dsa::name_of(SubmitWay::write_single));
      }
    }
  }
}

TEST(dsa_offload_fault_lost_operation_makes_sick_and_the_queue_comes_back) {
  const Memory memory(51);
  for (const SubmitWay way : kWays) {
    OffloadRig rig(config_for(way), impatient());
    if (!rig.ready() || !rig.open()) return;
    rig.emulator().add_fault({.kind = FaultKind::never_written, .first = 5, .count = 1, .of = FaultUnit::descriptors});
    const Score score = memory.run(rig);
    CHECK_EQ(score.wrong, size_t{0});
    // Members of a lost batch that were answered count.
    if (way == SubmitWay::write_single) CHECK(score.unknown > 0);
    CHECK(rig.counters().lost > 0);
    CHECK(rig.counters().times_sick > 0);
    CHECK(answers_all(rig, memory));
  }
}

TEST(dsa_offload_fault_late_records_hit_living_memory) {
  const Memory memory(52);
  for (const SubmitWay way : kWays) {
    OffloadRig rig(config_for(way), impatient());
    if (!rig.ready() || !rig.open()) return;
    rig.emulator().add_fault(
        {.kind = FaultKind::late, .first = 4, .count = 4, .value = 600, .of = FaultUnit::descriptors});
    CHECK_EQ(memory.run(rig).wrong, size_t{0});
    CHECK(rig.counters().lost > 0);
    // The queue is in use again when the records come.
    for (int round = 0; round < 6; ++round) {
      recovers(rig);
      CHECK_EQ(memory.run(rig).wrong, size_t{0});
      sleep_milliseconds(80);
    }
    CHECK(answers_all(rig, memory));
  }
}

TEST(dsa_offload_fault_closing_with_lost_and_late_operations) {
  const Memory memory(53);
  for (const SubmitWay way : kWays) {
    OffloadRig rig(config_for(way), impatient());
    if (!rig.ready() || !rig.open()) return;
    rig.emulator().add_fault(
        {.kind = FaultKind::late, .first = 4, .count = 8, .value = 500, .of = FaultUnit::descriptors});
    dsa::PageCheck check;
    check.reset(4096);
    check.add(memory.bytes(), kPages);
    rig.offload().submit(check);
    rig.close();  // nobody has waited
    sleep_milliseconds(400);
  }
}

TEST(dsa_offload_fault_device_lost_and_back) {
  const Memory memory(54);
  for (const SubmitWay way : kWays) {
    dsa::OffloadLimits limits = impatient();
    limits.probe_milliseconds = 200;
    limits.sick_tests = 1000;
    OffloadRig rig(config_for(way), limits);
    if (!rig.ready() || !rig.open()) return;
    rig.emulator().add_fault({.kind = FaultKind::device_lost, .first = 5});
    CHECK_EQ(memory.run(rig).wrong, size_t{0});
    CHECK(memory.run(rig).unknown > 0);
    CHECK(rig.report().sick);
    rig.emulator().add_fault({.kind = FaultKind::device_back, .first = 0});
    CHECK(answers_all(rig, memory));
  }
}

TEST(dsa_offload_fault_device_lost_for_good) {
  const Memory memory(55);
  for (const SubmitWay way : kWays) {
    for (const FaultKind kind : {FaultKind::device_lost, FaultKind::device_halted}) {
      dsa::OffloadLimits limits = impatient();
      limits.probe_milliseconds = 200;
      OffloadRig rig(config_for(way), limits);
      if (!rig.ready() || !rig.open()) return;
      rig.emulator().add_fault({.kind = kind, .first = 5});
      CHECK_EQ(memory.run(rig).wrong, size_t{0});
      CHECK(!recovers(rig));
      CHECK(!rig.offload().usable());
      CHECK_EQ(memory.run(rig).unknown, kPages);
      CHECK(!rig.report().reason.empty());
    }
  }
}

TEST(dsa_offload_fault_one_of_two_queues) {
  const Memory memory(56, 4096);
  for (const FaultKind kind : {FaultKind::device_lost, FaultKind::device_halted}) {
    dsa::EmulatorConfig config;
    config.devices.push_back(dsa::EmulatedDevice{.number = 1});
    dsa::OffloadLimits limits = impatient();
    limits.record_milliseconds = 2000;
    limits.probe_milliseconds = 200;
    OffloadRig rig(config, limits);
    if (!rig.ready() || !rig.open()) return;
    rig.emulator().add_fault({.kind = kind, .device = 1, .first = 3});
    // It may be found by a lost operation, or by what it refuses; both take a while, and work.
    for (int i = 0; i < 500 && rig.report(1).reason.find("recover") == std::string::npos; ++i) {
      CHECK_EQ(memory.run(rig).wrong, size_t{0});
      sleep_milliseconds(20);
    }
    CHECK(!rig.report(0).sick);
    CHECK(rig.report(1).sick);
    const Score score = memory.run(rig);
    CHECK_EQ(score.wrong + score.unknown, size_t{0});
  }
}

TEST(dsa_offload_fault_distrust_is_final) {
  const Memory memory(57);
  OffloadRig rig({}, patient());
  if (!rig.ready() || !rig.open()) return;
  CHECK_EQ(memory.run(rig).unknown, size_t{0});
  rig.offload().distrust();
  CHECK(!rig.offload().usable());
  CHECK_EQ(memory.run(rig).unknown, kPages);
  CHECK(rig.report().reason.find("wrong") != std::string::npos);
}

TEST(dsa_offload_fault_distrust_while_others_wait) {
  const Memory memory(58, 2048);
  dsa::EmulatorConfig config;
  config.devices[0].latency_microseconds = 2000;
  OffloadRig rig(config, patient());
  if (!rig.ready() || !rig.open()) return;
  std::thread waiting([&] { CHECK_EQ(memory.run(rig).wrong, size_t{0}); });
  sleep_milliseconds(3);
  rig.offload().distrust();
  waiting.join();
}

TEST(dsa_offload_fault_anything_at_random) {
  for (const SubmitWay way : kWays) {
    for (uint64_t seed = 1; seed <= 6; ++seed) {
      dsa::OffloadLimits limits = impatient();
      limits.sick_tests = 1000;
      dsa::EmulatorConfig config = config_for(way);
      config.devices[0].queues.push_back(config.devices[0].queues[0]);
      OffloadRig rig(config, limits);
      if (!rig.ready() || !rig.open()) return;
      Random random(seed);
      for (int i = 0; i < 40; ++i) {
        constexpr FaultKind kKinds[] = {FaultKind::page_fault, FaultKind::write_fault,   FaultKind::status,
                                        FaultKind::late,       FaultKind::never_written, FaultKind::batch_list_fault,
                                        FaultKind::queue_full, FaultKind::short_write,   FaultKind::write_error};
        dsa::Fault fault{.kind = kKinds[random.below(std::size(kKinds))]};
        fault.queue = static_cast<unsigned>(random.below(2));
        fault.first = kAfterProbe + random.below(600);
        fault.count = 1 + random.below(3);
        fault.value = fault.kind == FaultKind::write_error ? static_cast<uint64_t>(EAGAIN) : 3 + random.below(61);
        fault.of = random.below(4) == 0 ? FaultUnit::descriptors : FaultUnit::compares;
        rig.emulator().add_fault(fault);
      }
      const Memory memory(seed + 100, 1024);
      for (int round = 0; round < 3; ++round) {
        const Score score = memory.run(rig);
        CHECK_EQ(score.wrong, size_t{0});
        CHECK_EQ(score.zero + score.not_zero + score.unknown, size_t{1024});
      }
    }
  }
}

}  // namespace vmsnap::test
