// An emulator and the driver on its queues.
#pragma once

#include <cerrno>
#include <memory>
#include <string>

#include "../../dsa/offload.h"
#include "check.h"
#include "dsa_answers.h"
#include "dsa_emulator.h"
#include "dsa_watchdog.h"

namespace vmsnap::test {

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// Queues that can be reached by write() only, as by ordinary users since Linux 6.10.
inline dsa::EmulatedQueue write_only_queue() {
  dsa::EmulatedQueue queue;
  queue.map_error = EPERM;
  return queue;
}

inline dsa::EmulatedQueue dedicated_queue() {
  dsa::EmulatedQueue queue;
  queue.mode = dsa::QueueMode::dedicated;
  return queue;
}

inline dsa::EmulatorConfig one_device(std::vector<dsa::EmulatedQueue> queues) {
  dsa::EmulatorConfig config;
  config.devices.front().queues = std::move(queues);
  return config;
}

/// What this system cannot emulate ends the run with the reason. Where the processor has no portals, all goes by
/// write().
class DriverRig {
  // The queues go before what answers them.
  Watchdog watchdog_;
  std::unique_ptr<dsa::Emulator> emulator_;

 public:
  explicit DriverRig(const dsa::EmulatorConfig& config, unsigned seconds = 120)
      : watchdog_("a test of the DSA driver", seconds) {
    std::string error;
    emulator_ = create_emulator(config, error);
    if (emulator_ == nullptr) {
      std::cerr << "  cannot be emulated: " << error << '\n';
      std::exit(1);
    }
    options.sysfs_root = emulator_->sysfs_root();
    options.device_root = emulator_->device_root();
    options.calls = emulator_.get();
    // Machines are shared, and sanitizers slow: nothing may be lost but what a plan loses.
    options.limits.record_milliseconds = 20'000;
    options.limits.probe_milliseconds = 5'000;
  }

  dsa::OffloadOptions options;
  dsa::Offload::Opened opened;

  dsa::Emulator& emulator() { return *emulator_; }
  std::unique_ptr<dsa::Emulator> take_emulator() { return std::move(emulator_); }
  std::string node(unsigned device = 0, unsigned queue = 0) const {
    return options.device_root + "/wq" + std::to_string(device) + "." + std::to_string(queue);
  }

  /// Ends the run where nothing can be opened. Faults that are given here begin after the probes.
  dsa::Offload& open(const std::vector<dsa::Fault>& faults = {}) {
    opened = dsa::Offload::open(options);
    if (opened.offload == nullptr) {
      std::cerr << "  cannot be opened: " << opened.reason << '\n';
      std::exit(1);
    }
    for (const dsa::Fault& fault : faults) emulator_->add_fault(fault);
    return *opened.offload;
  }

  dsa::QueueReport report(size_t queue = 0) const { return opened.offload->reports().at(queue); }
};

}  // namespace vmsnap::test
