// A random world for the driver: devices, queues, limits and faults, all told from one seed.
#pragma once

#include <initializer_list>
#include <vector>

#include "../../dsa/emulator/emulator.h"
#include "../../dsa/offload.h"
#include "random.h"

namespace vmsnap::test {

template <class Value>
Value pick(Random& random, std::initializer_list<Value> values) {
  return values.begin()[random.below(values.size())];
}

inline bool chance(Random& random, uint64_t percent) { return random.below(100) < percent; }

struct World {
  dsa::EmulatorConfig config;
  dsa::OffloadLimits limits;
  /// To be added when the queues are open.
  std::vector<dsa::Fault> faults;
  /// Something in it goes wrong on purpose.
  bool has_faults = false;
  /// An answer may be wrong on purpose.
  bool lies = false;
  /// The largest page that every queue takes.
  uint64_t least_transfer_bytes = uint64_t{1} << 31;
};

namespace world {

inline dsa::EmulatedQueue random_queue(Random& random) {
  dsa::EmulatedQueue queue;
  queue.mode = chance(random, 50) ? dsa::QueueMode::shared : dsa::QueueMode::dedicated;
  queue.size = pick<uint32_t>(random, {1, 2, 3, 4, 8, 16, 32, 128});
  if (chance(random, 30)) queue.threshold = 1 + static_cast<uint32_t>(random.below(queue.size));
  queue.max_batch = pick<uint32_t>(random, {1, 2, 4, 8, 32, 128, 1024});
  queue.max_transfer_bytes = uint64_t{1} << pick<unsigned>(random, {12, 13, 16, 20, 21, 31, 31});
  queue.block_on_fault = chance(random, 30);
  queue.page_requests = chance(random, 70);
  if (chance(random, 50)) queue.map_error = EPERM;
  queue.write_refuses_batches = chance(random, 30);
  return queue;
}

inline dsa::EmulatedDevice random_device(Random& random, unsigned number) {
  dsa::EmulatedDevice device;
  device.number = number;
  device.numa_node = static_cast<int>(random.below(2));
  device.engines = 1 + static_cast<uint32_t>(random.below(3));
  device.difference_granularity_bytes = pick<uint32_t>(random, {1, 32, 32, 64, 512, 4096, 65536});
  device.reverse_members = chance(random, 30);
  device.latency_microseconds = pick<uint32_t>(random, {0, 0, 0, 50, 300});
  device.queues.clear();
  const uint64_t queues = 1 + random.below(3);
  while (device.queues.size() < queues) device.queues.push_back(random_queue(random));
  return device;
}

inline const std::vector<dsa::FaultKind>& kinds_of_operations() {
  using dsa::FaultKind;
  static const std::vector<FaultKind> kinds = {
      FaultKind::page_fault,  FaultKind::write_fault,      FaultKind::status,     FaultKind::never_written,
      FaultKind::late,        FaultKind::batch_list_fault, FaultKind::queue_full, FaultKind::short_write,
      FaultKind::write_error, FaultKind::wrong_answer,
  };
  return kinds;
}

/// Whatever a record can hold but success: that would be an answer.
inline uint8_t random_status(Random& random) {
  for (;;) {
    const auto status = static_cast<uint8_t>(random.below(256));
    if ((status & 0x3f) != 0x01 && (status & 0x3f) != 0x02) return status;
  }
}

inline uint64_t random_value(Random& random, dsa::FaultKind kind) {
  using dsa::FaultKind;
  switch (kind) {
    case FaultKind::status:
      return random_status(random);
    case FaultKind::late:
      return pick<uint64_t>(random, {1, 5, 20, 100});
    case FaultKind::batch_list_fault:
    case FaultKind::short_write:
      return random.below(130);
    case FaultKind::write_error:
      return static_cast<uint64_t>(pick<int>(random, {EAGAIN, EINTR, EINVAL, EIO, EPERM, ENXIO, ENODEV}));
    default:
      return pick<uint64_t>(random, {0, 1, 4095, 4096, 8192, random.below(1 << 21)});
  }
}

inline dsa::Fault random_fault(Random& random, const dsa::EmulatorConfig& config) {
  using dsa::FaultKind;
  dsa::Fault fault{};
  const bool of_device = chance(random, 15);
  fault.kind = of_device ? pick(random, {FaultKind::device_lost, FaultKind::device_halted, FaultKind::device_back})
                         : kinds_of_operations()[random.below(kinds_of_operations().size() - 1)];
  fault.device = static_cast<unsigned>(random.below(config.devices.size()));
  fault.queue = static_cast<unsigned>(random.below(config.devices[fault.device].queues.size()));
  fault.first = random.below(pick<uint64_t>(random, {4, 40, 400}));
  fault.count = 1 + random.below(pick<uint64_t>(random, {1, 10, 300}));
  fault.value = random_value(random, fault.kind);
  if (chance(random, 30)) fault.of = dsa::FaultUnit::descriptors;
  return fault;
}

inline void add_faults(Random& random, World& world) {
  world.has_faults = true;
  for (uint64_t i = random.below(6); i > 0; --i) world.faults.push_back(random_fault(random, world.config));
  world.config.random_seed = random.next();
  world.config.random_permille = pick<uint32_t>(random, {0, 2, 20, 100, 400});
  for (const dsa::FaultKind kind : kinds_of_operations()) {
    const bool is_lie = kind == dsa::FaultKind::wrong_answer;
    if (!chance(random, is_lie ? 5 : 50)) continue;
    world.config.random_kinds.push_back(kind);
    world.lies = world.lies || is_lie;
  }
  // Short, because here it is waited for.
  world.limits.record_milliseconds = pick<uint32_t>(random, {10, 30});
  world.limits.probe_milliseconds = 30;
  world.limits.sick_retest_milliseconds = pick<uint32_t>(random, {1, 5});
  world.limits.sick_tests = static_cast<uint32_t>(random.below(4));
}

}  // namespace world

inline World random_world(Random& random) {
  World made;
  made.config.devices.clear();
  const unsigned devices = chance(random, 30) ? 2 : 1;
  for (unsigned i = 0; i < devices; ++i) made.config.devices.push_back(world::random_device(random, i));
  for (const dsa::EmulatedDevice& device : made.config.devices) {
    for (const dsa::EmulatedQueue& queue : device.queues) {
      made.least_transfer_bytes = std::min(made.least_transfer_bytes, queue.max_transfer_bytes);
    }
  }
  made.limits.batch_pages = pick<uint32_t>(random, {1, 2, 3, 16, 128, 128, 1024});
  made.limits.depth = pick<uint32_t>(random, {0, 0, 1, 2, 7});
  made.limits.max_unit_bytes = uint64_t{1} << pick<unsigned>(random, {12, 14, 16, 21, 21});
  made.limits.submit_retries = pick<uint32_t>(random, {0, 1, 256});
  made.limits.fault_retries = pick<uint32_t>(random, {0, 1, 3, 3});
  // Machines are shared, and sanitizers slow: nothing may be lost but what a plan loses.
  made.limits.record_milliseconds = 60'000;
  made.limits.probe_milliseconds = 20'000;
  if (chance(random, 70)) world::add_faults(random, made);
  return made;
}

}  // namespace vmsnap::test
