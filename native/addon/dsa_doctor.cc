// What `vmsnap doctor` asks: cpuFeatures(), dsaDiscover(), dsaProbe(), dsaProbeEmulated().
//
// Probing opens each queue by itself, tries the ways to submit, runs the self-test and closes it again, one queue after
// the other on the calling thread. Every wait in there has a limit.
#include <cerrno>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "../base/cpu_features.h"
#include "../dsa/emulator/emulator.h"
#include "../dsa/offload.h"
#include "../dsa/self_test.h"
#include "../dsa/status.h"
#include "arguments.h"
#include "fields.h"
#include "probe_step.h"
#include "register.h"

namespace vmsnap::addon {

namespace {

using dsa::Discovery;
using dsa::Offload;

std::string hexadecimal(uint64_t value) {
  char digits[24];
  std::snprintf(digits, sizeof digits, "0x%llx", static_cast<unsigned long long>(value));
  return digits;
}

Napi::Array operations_of(Napi::Env env, const dsa::OperationCapability& operations) {
  Napi::Array opcodes = Napi::Array::New(env);
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    if (dsa::supports(operations, opcode)) opcodes.Set(opcodes.Length(), Napi::Number::New(env, opcode));
  }
  return opcodes;
}

const char* mode_name(dsa::QueueMode mode) {
  switch (mode) {
    case dsa::QueueMode::shared:
      return "shared";
    case dsa::QueueMode::dedicated:
      return "dedicated";
    case dsa::QueueMode::unknown:
      break;
  }
  return "";
}

Napi::Object queue_object(Napi::Env env, const dsa::QueueInfo& queue) {
  return Fields(env)
      .text("name", queue.name)
      .text("node", queue.node)
      .text("mode", mode_name(queue.mode))
      .text("state", queue.state)
      .text("type", queue.type)
      .text("label", queue.label)
      .text("driverName", queue.driver_name)
      .integer("group", queue.group)
      .number("size", queue.size)
      .number("threshold", queue.threshold)
      .number("priority", queue.priority)
      .boolean("blockOnFault", queue.block_on_fault)
      .boolean("atsDisabled", queue.ats_disabled)
      .boolean("prsDisabled", queue.prs_disabled)
      .number("maxTransferBytes", queue.max_transfer_bytes)
      .number("maxBatch", queue.max_batch)
      .set("operations", operations_of(env, queue.operations))
      .object();
}

Napi::Object device_object(Napi::Env env, const dsa::DeviceInfo& device) {
  return Fields(env)
      .text("name", device.name)
      .text("state", device.state)
      .number("version", device.version)
      .integer("numaNode", device.numa_node)
      .integer("pasidEnabled", device.pasid_enabled)
      .integer("configurable", device.configurable)
      .number("maxGroups", device.max_groups)
      .number("maxQueues", device.max_queues)
      .number("maxQueueEntries", device.max_queue_entries)
      .number("maxEngines", device.max_engines)
      .number("maxBatch", device.max_batch)
      .number("maxTransferBytes", device.max_transfer_bytes)
      .text("generalCapability", hexadecimal(device.general_capability))
      .set("operations", operations_of(env, device.operations))
      .text("commandStatus", hexadecimal(device.command_status))
      .number("clients", device.clients)
      .text("errors", device.errors)
      .list("engineGroups", device.engine_groups, [env](int group) { return Napi::Number::New(env, group); })
      .list("queues", device.queues, [env](const dsa::QueueInfo& queue) { return queue_object(env, queue); })
      .object();
}

Napi::Object discovery_object(Napi::Env env, const Discovery& discovery) {
  return Fields(env)
      .integer("error", -discovery.error)
      .list("devices", discovery.devices, [env](const dsa::DeviceInfo& device) { return device_object(env, device); })
      .object();
}

Napi::Object test_object(Napi::Env env, const dsa::SelfTestResult& result) {
  return Fields(env)
      .text("name", result.name)
      .number("pages", result.pages)
      .number("right", result.right)
      .number("wrong", result.wrong)
      .number("unknown", result.unknown)
      .object();
}

/// Opens one queue, tests it and closes it.
Napi::Object probe_node(Napi::Env env, const std::string& node, dsa::OffloadOptions options) {
  options.nodes = {node};
  const Offload::Opened opened = Offload::open(options);
  std::vector<dsa::SelfTestResult> tests;
  if (opened.offload != nullptr) tests = dsa::run_self_test(*opened.offload);
  const dsa::QueueReport report = opened.queues.empty() ? dsa::QueueReport{} : opened.queues.front();
  const bool own_reason = !report.reason.empty();
  return Fields(env)
      .text("node", node)
      .boolean("usable", opened.offload != nullptr)
      .text("way", dsa::name_of(report.way))
      .boolean("batches", report.batches)
      .number("depth", report.depth)
      .number("batchPages", report.batch_pages)
      .number("maxUnitBytes", report.max_unit_bytes)
      .list("steps", report.steps, [env](const dsa::ProbeStep& step) { return step_object(env, step); })
      .text("reason", own_reason ? report.reason : opened.reason)
      .text("hint", own_reason ? report.hint : opened.hint)
      .list("selfTest", tests, [env](const dsa::SelfTestResult& result) { return test_object(env, result); })
      .object();
}

std::vector<std::string> all_nodes(const Discovery& discovery) {
  std::vector<std::string> nodes;
  for (const dsa::DeviceInfo& device : discovery.devices) {
    for (const dsa::QueueInfo& queue : device.queues) nodes.push_back(queue.node);
  }
  return nodes;
}

Napi::Array probe_nodes(Napi::Env env, const std::vector<std::string>& nodes, const dsa::OffloadOptions& options) {
  Napi::Array probes = Napi::Array::New(env);
  for (const std::string& node : nodes) probes.Set(probes.Length(), probe_node(env, node, options));
  return probes;
}

std::vector<std::string> take_nodes(Arguments& arguments, Napi::Value value) {
  std::vector<std::string> nodes;
  if (!arguments.ok()) return nodes;
  if (!value.IsArray()) {
    arguments.type_error("nodes must be an array");
    return nodes;
  }
  const auto array = value.As<Napi::Array>();
  for (uint32_t i = 0; i < array.Length(); ++i) {
    const Napi::Value node = array.Get(i);
    if (!node.IsString()) {
      arguments.type_error("nodes must hold strings");
      return nodes;
    }
    nodes.push_back(node.As<Napi::String>().Utf8Value());
  }
  return nodes;
}

Napi::Value dsa_discover(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::string sysfs_root = arguments.path(0, "sysfsRoot");
  const std::string device_root = arguments.path(1, "deviceRoot");
  if (!arguments.ok()) return info.Env().Undefined();
  return discovery_object(info.Env(), dsa::discover(sysfs_root, device_root));
}

Napi::Value dsa_probe(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  dsa::OffloadOptions options;
  options.sysfs_root = arguments.path(0, "sysfsRoot");
  options.device_root = arguments.path(1, "deviceRoot");
  const std::vector<std::string> nodes = take_nodes(arguments, info[2]);
  if (!arguments.ok()) return info.Env().Undefined();
  return probe_nodes(info.Env(), nodes, options);
}

/// A queue for each way to submit that real machines offer. Whether write() takes batches is a property of the device.
dsa::EmulatorConfig emulated_machine() {
  dsa::EmulatedQueue shared;
  dsa::EmulatedQueue dedicated;
  dedicated.mode = dsa::QueueMode::dedicated;
  dsa::EmulatedQueue by_write;
  by_write.map_error = EPERM;
  dsa::EmulatedQueue single_writes = by_write;
  single_writes.write_refuses_batches = true;
  dsa::EmulatedDevice first;
  first.queues = {shared, dedicated, by_write};
  dsa::EmulatedDevice second;
  second.number = 2;
  second.queues = {single_writes};
  dsa::EmulatorConfig config;
  config.devices = {first, second};
  return config;
}

Napi::Value dsa_probe_emulated(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  std::string error;
  const std::unique_ptr<dsa::Emulator> emulator = dsa::Emulator::create(emulated_machine(), error);
  if (emulator == nullptr) return Fields(env).text("error", error).object();
  dsa::OffloadOptions options;
  options.sysfs_root = emulator->sysfs_root();
  options.device_root = emulator->device_root();
  options.calls = emulator.get();
  const Discovery discovery = dsa::discover(options.sysfs_root, options.device_root);
  return Fields(env)
      .text("error", "")
      .set("discovery", discovery_object(env, discovery))
      .set("probes", probe_nodes(env, all_nodes(discovery), options))
      .object();
}

Napi::Value cpu_features_object(const Napi::CallbackInfo& info) {
  const CpuFeatures features = cpu_features();
  return Fields(info.Env())
      .text("architecture", features.architecture)
      .boolean("avx2", features.avx2)
      .boolean("avx512", features.avx512)
      .boolean("neon", features.neon)
      .boolean("waitpkg", features.waitpkg)
      .boolean("movdir64b", features.movdir64b)
      .boolean("enqcmd", features.enqcmd)
      .object();
}

}  // namespace

void register_dsa_doctor(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "cpuFeatures", cpu_features_object);
  export_function(env, exports, "dsaDiscover", dsa_discover);
  export_function(env, exports, "dsaProbe", dsa_probe);
  export_function(env, exports, "dsaProbeEmulated", dsa_probe_emulated);
}

}  // namespace vmsnap::addon
