#include "dsa_options.h"

#include <array>
#include <string_view>
#include <utility>

#include "../base/limits.h"

namespace vmsnap::addon {

namespace {

constexpr std::array<std::pair<std::string_view, dsa::FaultKind>, 13> kFaultKinds = {{
    {"page-fault", dsa::FaultKind::page_fault},
    {"write-fault", dsa::FaultKind::write_fault},
    {"status", dsa::FaultKind::status},
    {"never-written", dsa::FaultKind::never_written},
    {"late", dsa::FaultKind::late},
    {"wrong-answer", dsa::FaultKind::wrong_answer},
    {"batch-list-fault", dsa::FaultKind::batch_list_fault},
    {"queue-full", dsa::FaultKind::queue_full},
    {"device-lost", dsa::FaultKind::device_lost},
    {"device-halted", dsa::FaultKind::device_halted},
    {"device-back", dsa::FaultKind::device_back},
    {"short-write", dsa::FaultKind::short_write},
    {"write-error", dsa::FaultKind::write_error},
}};

constexpr std::array<std::pair<std::string_view, dsa::SubmitWay>, 4> kWays = {{
    {"enqcmd", dsa::SubmitWay::enqcmd},
    {"movdir64b", dsa::SubmitWay::movdir64b},
    {"write-batch", dsa::SubmitWay::write_batch},
    {"write-single", dsa::SubmitWay::write_single},
}};

constexpr std::array<std::pair<std::string_view, dsa::QueueMode>, 2> kModes = {{
    {"shared", dsa::QueueMode::shared},
    {"dedicated", dsa::QueueMode::dedicated},
}};

constexpr std::array<std::pair<std::string_view, dsa::FaultUnit>, 2> kFaultUnits = {{
    {"compares", dsa::FaultUnit::compares},
    {"descriptors", dsa::FaultUnit::descriptors},
}};

/// One object whose properties may all be left out.
class OptionalProperties {
 public:
  OptionalProperties(Arguments& arguments, Napi::Value value, const char* what) : arguments_(arguments) {
    if (!arguments_.ok()) return;
    if (value.IsObject()) {
      object_ = value.As<Napi::Object>();
    } else {
      arguments_.type_error(std::string(what) + " must be an object");
    }
  }

  /// Undefined where it is left out.
  Napi::Value get(const char* name) {
    if (!arguments_.ok()) return arguments_.env().Undefined();
    const Napi::Value value = object_.Get(name);
    if (!value.IsEmpty()) return value;
    arguments_.type_error(std::string(name) + " cannot be read");
    return arguments_.env().Undefined();
  }

  template <class Integer>
  void integer(const char* name, Integer& to, int64_t low, int64_t high) {
    const Napi::Value value = get(name);
    if (!value.IsUndefined()) to = static_cast<Integer>(arguments_.integer_of(value, name, low, high));
  }

  void boolean(const char* name, bool& to) {
    const Napi::Value value = get(name);
    if (value.IsUndefined()) return;
    if (value.IsBoolean()) {
      to = value.As<Napi::Boolean>().Value();
    } else {
      arguments_.type_error(std::string(name) + " must be a boolean");
    }
  }

  void text(const char* name, std::string& to) {
    const Napi::Value value = get(name);
    if (!value.IsUndefined()) to = text_of(value, name);
  }

  template <class Words, class Word>
  void word(const char* name, const Words& words, Word& to) {
    const Napi::Value value = get(name);
    if (!value.IsUndefined()) find_word(text_of(value, name), words, name, to);
  }

  /// Calls `take` with each element.
  template <class Take>
  void list(const char* name, Take take) {
    const Napi::Value value = get(name);
    if (value.IsUndefined()) return;
    if (!value.IsArray()) return arguments_.type_error(std::string(name) + " must be an array");
    const auto array = value.As<Napi::Array>();
    for (uint32_t i = 0; i < array.Length() && arguments_.ok(); ++i) take(array.Get(i));
  }

  std::string text_of(Napi::Value value, const char* name) {
    if (value.IsString()) return value.As<Napi::String>().Utf8Value();
    arguments_.type_error(std::string(name) + " must be a string");
    return {};
  }

  template <class Words, class Word>
  void find_word(const std::string& text, const Words& words, const char* name, Word& to) {
    for (const auto& [known, meaning] : words) {
      if (text != known) continue;
      to = meaning;
      return;
    }
    arguments_.range_error(std::string(name) + " cannot be '" + text + "'");
  }

 private:
  Arguments& arguments_;
  Napi::Object object_;
};

constexpr int64_t kMaxCount = UINT32_MAX;
constexpr auto kMaxLong = static_cast<int64_t>(kMaxPosition - 1);

dsa::EmulatedQueue take_queue(Arguments& arguments, Napi::Value value) {
  OptionalProperties from(arguments, value, "an emulated queue");
  dsa::EmulatedQueue queue;
  from.word("mode", kModes, queue.mode);
  from.integer("size", queue.size, 1, kMaxCount);
  from.integer("threshold", queue.threshold, 0, kMaxCount);
  from.integer("maxBatch", queue.max_batch, 0, kMaxCount);
  from.integer("maxTransferBytes", queue.max_transfer_bytes, 1, kMaxLong);
  from.boolean("blockOnFault", queue.block_on_fault);
  from.text("state", queue.state);
  from.text("type", queue.type);
  from.integer("openError", queue.open_error, 0, 4095);
  from.integer("mapError", queue.map_error, 0, 4095);
  from.boolean("writeRefusesBatches", queue.write_refuses_batches);
  return queue;
}

dsa::EmulatedDevice take_device(Arguments& arguments, Napi::Value value) {
  OptionalProperties from(arguments, value, "an emulated device");
  dsa::EmulatedDevice device;
  from.integer("number", device.number, 0, 255);
  from.integer("numaNode", device.numa_node, -1, 1023);
  from.integer("version", device.version, 0, kMaxCount);
  from.boolean("pasidEnabled", device.pasid_enabled);
  from.integer("engines", device.engines, 1, 64);
  from.integer("latencyMicroseconds", device.latency_microseconds, 0, kMaxCount);
  from.integer("bytesPerSecond", device.bytes_per_second, 0, kMaxLong);
  std::vector<dsa::EmulatedQueue> queues;
  from.list("queues", [&](Napi::Value queue) { queues.push_back(take_queue(arguments, queue)); });
  if (!queues.empty()) device.queues = std::move(queues);
  return device;
}

dsa::EmulatorConfig take_emulator(Arguments& arguments, Napi::Value value) {
  OptionalProperties from(arguments, value, "emulated");
  dsa::EmulatorConfig config;
  std::vector<dsa::EmulatedDevice> devices;
  from.list("devices", [&](Napi::Value device) { devices.push_back(take_device(arguments, device)); });
  if (!devices.empty()) config.devices = std::move(devices);
  from.list("faults", [&](Napi::Value fault) { config.faults.push_back(take_fault(arguments, fault)); });
  from.integer("randomSeed", config.random_seed, 0, kMaxLong);
  from.integer("randomPermille", config.random_permille, 0, 1000);
  from.list("randomKinds", [&](Napi::Value kind) {
    config.random_kinds.emplace_back();
    from.find_word(from.text_of(kind, "randomKinds"), kFaultKinds, "randomKinds", config.random_kinds.back());
  });
  return config;
}

dsa::OffloadLimits take_limits(Arguments& arguments, Napi::Value value) {
  OptionalProperties from(arguments, value, "limits");
  dsa::OffloadLimits limits;
  from.integer("batchPages", limits.batch_pages, 1, kMaxCount);
  from.integer("depth", limits.depth, 0, kMaxCount);
  from.integer("maxUnitBytes", limits.max_unit_bytes, 1, kMaxLong);
  from.integer("submitRetries", limits.submit_retries, 0, kMaxCount);
  from.integer("recordMilliseconds", limits.record_milliseconds, 1, kMaxCount);
  from.integer("probeMilliseconds", limits.probe_milliseconds, 1, kMaxCount);
  from.integer("faultRetries", limits.fault_retries, 0, kMaxCount);
  from.integer("sickRetestMilliseconds", limits.sick_retest_milliseconds, 1, kMaxCount);
  from.integer("sickTests", limits.sick_tests, 0, kMaxCount);
  return limits;
}

}  // namespace

dsa::Fault take_fault(Arguments& arguments, Napi::Value value) {
  OptionalProperties from(arguments, value, "a fault");
  dsa::Fault fault = {.kind = dsa::FaultKind::status};
  if (arguments.ok() && from.get("kind").IsUndefined()) arguments.type_error("a fault must have a kind");
  from.word("kind", kFaultKinds, fault.kind);
  from.integer("device", fault.device, 0, 255);
  from.integer("queue", fault.queue, 0, 255);
  from.integer("first", fault.first, 0, kMaxLong);
  from.integer("count", fault.count, 0, kMaxLong);
  from.integer("value", fault.value, 0, kMaxLong);
  from.word("of", kFaultUnits, fault.of);
  return fault;
}

DsaOpenOptions take_dsa_options(Arguments& arguments) {
  DsaOpenOptions options;
  OptionalProperties from(arguments, arguments.argument(0), "options");
  from.text("sysfsRoot", options.offload.sysfs_root);
  from.text("deviceRoot", options.offload.device_root);
  from.list("nodes", [&](Napi::Value node) { options.offload.nodes.push_back(from.text_of(node, "nodes")); });
  from.list("ways", [&](Napi::Value way) {
    options.offload.ways.emplace_back();
    from.find_word(from.text_of(way, "ways"), kWays, "ways", options.offload.ways.back());
  });
  if (const Napi::Value limits = from.get("limits"); !limits.IsUndefined()) {
    options.offload.limits = take_limits(arguments, limits);
  }
  if (const Napi::Value emulated = from.get("emulated"); !emulated.IsUndefined()) {
    options.emulator = take_emulator(arguments, emulated);
  }
  from.boolean("keepMapped", options.keep_mapped);
  return options;
}

}  // namespace vmsnap::addon
