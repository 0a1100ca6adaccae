// An emulated device, open as the scanners of a save have it.
#pragma once

#include <memory>
#include <string>
#include <utility>

#include "../../dsa/emulator/emulator.h"
#include "../../dsa/offload.h"
#include "../../dsa/open_device.h"
#include "check.h"

namespace vmsnap::test {

/// Null where there can be none: the test is then skipped, or has failed.
inline std::shared_ptr<dsa::OpenDevice> open_emulated(bool keep_mapped = false) {
  std::string error;
  std::unique_ptr<dsa::Emulator> emulator = dsa::Emulator::create({}, error);
  if (emulator == nullptr) {
    skip(error);
    return nullptr;
  }
  dsa::OffloadOptions options;
  options.sysfs_root = emulator->sysfs_root();
  options.device_root = emulator->device_root();
  options.calls = emulator.get();
  dsa::Offload::Opened opened = dsa::Offload::open(options);
  if (opened.offload == nullptr) {
    report_failure(__FILE__, __LINE__, "no queue of the emulated device can be used: " + opened.reason);
    return nullptr;
  }
  return std::make_shared<dsa::OpenDevice>(std::move(emulator), std::move(opened.offload), keep_mapped);
}

}  // namespace vmsnap::test
