// Open DSA devices: dsaOpen(), dsaReports(), dsaClose(), dsaAddFault(), dsaBacking(), dsaKeeps().
#include <cerrno>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "../dsa/open_device.h"
#include "../dsa/status.h"
#include "dsa_options.h"
#include "dsa_registry.h"
#include "fields.h"
#include "probe_step.h"
#include "register.h"

namespace vmsnap::addon {

namespace {

class Registry {
 public:
  uint32_t add(std::shared_ptr<dsa::OpenDevice> device, napi_env owner) {
    const std::lock_guard lock(mutex_);
    devices_.emplace(next_, Entry{.device = std::move(device), .owner = owner});
    return next_++;
  }

  std::shared_ptr<dsa::OpenDevice> find(uint32_t handle) {
    const std::lock_guard lock(mutex_);
    const auto found = devices_.find(handle);
    return found == devices_.end() ? nullptr : found->second.device;
  }

  std::unique_ptr<dsa::AheadChecks> enter(uint32_t handle, size_t page_bytes, size_t slots) {
    const std::lock_guard lock(mutex_);
    const auto found = devices_.find(handle);
    if (found == devices_.end()) return nullptr;
    // Entered under the lock, so that close() sees it.
    return std::make_unique<dsa::AheadChecks>(found->second.device, page_bytes, slots);
  }

  /// Returns 0, -EBADF or -EBUSY.
  int close(uint32_t handle) {
    std::shared_ptr<dsa::OpenDevice> device;
    {
      const std::lock_guard lock(mutex_);
      const auto found = devices_.find(handle);
      if (found == devices_.end()) return -EBADF;
      if (found->second.device->in_use()) return -EBUSY;
      device = std::move(found->second.device);
      devices_.erase(found);
    }
    // Draining takes its time: the queues are closed here, without the lock.
    return 0;
  }

  /// When the environment that opened them ends, so that a process which closes nothing leaves nothing behind either.
  void close_all_of(napi_env owner) {
    const std::lock_guard lock(mutex_);
    std::erase_if(devices_,
                  [owner](const auto& entry) { return entry.second.owner == owner && !entry.second.device->in_use(); });
  }

 private:
  struct Entry {
    std::shared_ptr<dsa::OpenDevice> device;
    napi_env owner;
  };

  std::mutex mutex_;
  std::map<uint32_t, Entry> devices_;
  uint32_t next_ = 1;
};

/// Never destroyed: threads may still be running when the process ends.
Registry& registry() {
  static auto* const instance = new Registry();
  return *instance;
}

constexpr int64_t kMaxHandle = UINT32_MAX;

uint32_t take_handle(Arguments& arguments) {
  return static_cast<uint32_t>(arguments.integer(0, "device", 0, kMaxHandle));
}

Napi::Object counters_object(Napi::Env env, const dsa::QueueCounters& counters) {
  return Fields(env)
      .number("descriptors", counters.descriptors)
      .number("batches", counters.batches)
      .number("bytes", counters.bytes)
      .number("pagesZero", counters.pages_zero)
      .number("pagesNotZero", counters.pages_not_zero)
      .number("pagesUnknown", counters.pages_unknown)
      .number("pageFaults", counters.page_faults)
      .number("batchFaults", counters.batch_faults)
      .number("retries", counters.retries)
      .number("shortWrites", counters.short_writes)
      .number("errors", counters.errors)
      .number("lost", counters.lost)
      .number("timesSick", counters.times_sick)
      .object();
}

Napi::Object queue_object(Napi::Env env, const dsa::QueueReport& queue) {
  return Fields(env)
      .text("node", queue.info.node)
      .text("name", queue.info.name)
      .integer("numaNode", queue.info.numa_node)
      .text("way", dsa::name_of(queue.way))
      .boolean("batches", queue.batches)
      .number("depth", queue.depth)
      .number("batchPages", queue.batch_pages)
      .number("maxUnitBytes", queue.max_unit_bytes)
      .text("reason", queue.reason)
      .text("hint", queue.hint)
      .boolean("sick", queue.sick)
      .list("steps", queue.steps, [env](const dsa::ProbeStep& step) { return step_object(env, step); })
      .set("counters", counters_object(env, queue.counters))
      .object();
}

Napi::Object opened_object(Napi::Env env, uint32_t handle, const std::vector<dsa::QueueReport>& queues,
                           const std::string& reason, const std::string& hint) {
  return Fields(env)
      .number("handle", handle)
      .text("reason", reason)
      .text("hint", hint)
      .list("queues", queues, [env](const dsa::QueueReport& queue) { return queue_object(env, queue); })
      .object();
}

Napi::Value dsa_open(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  DsaOpenOptions options = take_dsa_options(arguments);
  if (!arguments.ok()) return env.Undefined();
  std::unique_ptr<dsa::Emulator> emulator;
  if (options.emulator.has_value()) {
    std::string error;
    emulator = dsa::Emulator::create(*options.emulator, error);
    if (emulator == nullptr) return opened_object(env, 0, {}, error, "");
    options.offload.sysfs_root = emulator->sysfs_root();
    options.offload.device_root = emulator->device_root();
    options.offload.calls = emulator.get();
  }
  dsa::Offload::Opened opened = dsa::Offload::open(options.offload);
  if (emulator != nullptr) emulator->remove_sysfs();
  if (opened.offload == nullptr) return opened_object(env, 0, opened.queues, opened.reason, opened.hint);
  const uint32_t handle = registry().add(
      std::make_shared<dsa::OpenDevice>(std::move(emulator), std::move(opened.offload), options.keep_mapped), env);
  return opened_object(env, handle, opened.queues, "", "");
}

Napi::Value dsa_reports(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const uint32_t handle = take_handle(arguments);
  if (!arguments.ok()) return env.Undefined();
  const std::shared_ptr<dsa::OpenDevice> device = registry().find(handle);
  if (device == nullptr) {
    arguments.range_error("device " + std::to_string(handle) + " is not open");
    return env.Undefined();
  }
  const dsa::OffloadTimes times = device->offload().times();
  Fields fields(env);
  fields.boolean("emulated", device->emulator() != nullptr)
      .boolean("usable", device->offload().usable())
      .seconds("submissionCpuSeconds", times.submission_cpu)
      .seconds("completionCpuSeconds", times.completion_cpu)
      .seconds("reachableCpuSeconds", device->reachable_cpu())
      .seconds("waitingSeconds", times.waiting)
      .list("queues", device->offload().reports(),
            [env](const dsa::QueueReport& queue) { return queue_object(env, queue); });
  if (device->emulator() != nullptr) {
    fields.seconds("emulatorCpuSeconds", device->emulator()->engine_cpu_nanoseconds());
  }
  return fields.object();
}

Napi::Value dsa_close(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t handle = take_handle(arguments);
  if (!arguments.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), registry().close(handle));
}

Napi::Value dsa_add_fault(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t handle = take_handle(arguments);
  const dsa::Fault fault = take_fault(arguments, arguments.argument(1));
  if (!arguments.ok()) return info.Env().Undefined();
  const std::shared_ptr<dsa::OpenDevice> device = registry().find(handle);
  if (device == nullptr || device->emulator() == nullptr) return Napi::Number::New(info.Env(), -EBADF);
  device->emulator()->add_fault(fault);
  return Napi::Number::New(info.Env(), 0);
}

/// Through a mapping of its own, which goes again.
Napi::Value dsa_backing(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = arguments.file_descriptor(0);
  if (!arguments.ok()) return info.Env().Undefined();
  int error = 0;
  const std::unique_ptr<dsa::SourceMapping> mapping = dsa::SourceMapping::map(fd, error);
  if (mapping == nullptr) return Napi::Number::New(info.Env(), -error);
  return Napi::Number::New(info.Env(), static_cast<double>(mapping->backing_page_bytes()));
}

Napi::Value dsa_keeps(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const uint32_t handle = take_handle(arguments);
  const int fd = arguments.file_descriptor(1);
  if (!arguments.ok()) return info.Env().Undefined();
  const std::shared_ptr<dsa::OpenDevice> device = registry().find(handle);
  return Napi::Boolean::New(info.Env(), device != nullptr && device->keeps(fd));
}

}  // namespace

std::unique_ptr<dsa::AheadChecks> checks_on_device(uint32_t handle, size_t page_bytes, size_t slots) {
  return registry().enter(handle, page_bytes, slots);
}

void register_dsa(Napi::Env env, Napi::Object exports) {
  env.AddCleanupHook([owner = static_cast<napi_env>(env)] { registry().close_all_of(owner); });
  export_function(env, exports, "dsaOpen", dsa_open);
  export_function(env, exports, "dsaReports", dsa_reports);
  export_function(env, exports, "dsaClose", dsa_close);
  export_function(env, exports, "dsaAddFault", dsa_add_fault);
  export_function(env, exports, "dsaBacking", dsa_backing);
  export_function(env, exports, "dsaKeeps", dsa_keeps);
}

}  // namespace vmsnap::addon
