// Options of dsaOpen() as JavaScript gives them (native/binding.ts, DsaOpenOptions).
#pragma once

#include <optional>

#include "../dsa/emulator/emulator.h"
#include "../dsa/offload.h"
#include "arguments.h"

namespace vmsnap::addon {

struct DsaOpenOptions {
  dsa::OffloadOptions offload;
  std::optional<dsa::EmulatorConfig> emulator;
  bool keep_mapped = false;
};

/// Reads the object at argument 0. What is left out keeps its default. Look at arguments.ok().
DsaOpenOptions take_dsa_options(Arguments& arguments);

/// Reads one fault of an emulated device.
dsa::Fault take_fault(Arguments& arguments, Napi::Value value);

}  // namespace vmsnap::addon
