// The queues on which the driver's cases run: emulated ones, for each way to submit, and real ones.
//
// One suite over all of them:
//
//   make -C native test FILTER=dsa                                        emulated
//   VMSNAP_DSA_DEVICES=/dev/dsa/wq0.0 make -C native test FILTER=dsa      and on this queue (several: with commas)
#pragma once

#include <cerrno>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "../../dsa/emulator/emulator.h"
#include "../../dsa/offload.h"
#include "check.h"
#include "dsa_emulator.h"
#include "dsa_watchdog.h"

namespace vmsnap::test {

enum class BackendKind : uint8_t {
  enqcmd,
  movdir64b,
  write_with_batches,
  write_without_batches,
  write_to_dedicated,
  real
};

class Backend {
 public:
  /// Null with `reason` where this machine has no such queues.
  static std::unique_ptr<Backend> emulated(dsa::SubmitWay way, bool is_dedicated, std::string& reason) {
    auto backend = std::make_unique<Backend>(way);
    const bool by_portal = way == dsa::SubmitWay::enqcmd || way == dsa::SubmitWay::movdir64b;
#if !defined(__x86_64__)
    if (by_portal) {
      reason = "this processor has no such instructions";
      return nullptr;
    }
#endif
    dsa::EmulatedQueue queue;
    queue.mode = is_dedicated ? dsa::QueueMode::dedicated : dsa::QueueMode::shared;
    queue.map_error = by_portal ? 0 : EPERM;
    queue.write_refuses_batches = way == dsa::SubmitWay::write_single;
    dsa::EmulatorConfig config;
    config.devices = {{.number = 0, .queues = {queue}}, {.number = 1, .queues = {queue}}};
    backend->emulator_ = create_emulator(config, reason);
    if (backend->emulator_ == nullptr) return nullptr;
    for (const char* name : {"/wq0.0", "/wq1.0"}) backend->nodes_.push_back(backend->emulator_->device_root() + name);
    backend->is_dedicated_ = is_dedicated;
    return backend;
  }

  /// Null with `reason` where none of the nodes can be used in this way.
  static std::unique_ptr<Backend> real(dsa::SubmitWay way, const std::vector<std::string>& nodes, std::string& reason) {
    auto backend = std::make_unique<Backend>(way);
    std::vector<std::string> usable;
    for (const std::string& node : nodes) {
      backend->nodes_ = {node};
      const dsa::Offload::Opened opened = dsa::Offload::open(backend->options());
      if (opened.offload == nullptr) {
        reason += (reason.empty() ? "" : "; ") + opened.reason;
        continue;
      }
      // Cases that need one queue take the first.
      if (usable.empty()) backend->is_dedicated_ = opened.queues.front().info.mode == dsa::QueueMode::dedicated;
      usable.push_back(node);
    }
    backend->nodes_ = usable;
    return backend->nodes_.empty() ? nullptr : std::move(backend);
  }

  explicit Backend(dsa::SubmitWay way) : way_(way) {}

  dsa::SubmitWay way() const { return way_; }
  bool has_batches() const { return way_ != dsa::SubmitWay::write_single; }
  /// Then it has one opener at a time, whatever the way.
  bool is_dedicated() const { return is_dedicated_; }
  /// Null for real queues.
  dsa::Emulator* emulator() { return emulator_.get(); }
  dsa::DeviceCalls& calls() { return emulator_ != nullptr ? *emulator_ : dsa::kernel_calls(); }
  /// One emulated queue on each of two devices; as many real ones as were named.
  const std::vector<std::string>& nodes() const { return nodes_; }

  dsa::OffloadOptions options(size_t queues = 1) {
    dsa::OffloadOptions options;
    if (emulator_ != nullptr) {
      options.sysfs_root = emulator_->sysfs_root();
      options.device_root = emulator_->device_root();
    }
    options.nodes.assign(nodes_.begin(), nodes_.begin() + static_cast<ptrdiff_t>(queues));
    options.calls = &calls();
    options.ways = {way_};
    // Machines are shared, and sanitizers slow: nothing may be lost but what a plan loses.
    options.limits.record_milliseconds = 20'000;
    options.limits.probe_milliseconds = 5'000;
    return options;
  }

  /// Never null: what cannot be opened ends the run.
  std::unique_ptr<dsa::Offload> open(size_t queues = 1) { return open(options(queues)); }
  std::unique_ptr<dsa::Offload> open(const dsa::OffloadOptions& options) {
    dsa::Offload::Opened opened = dsa::Offload::open(options);
    if (opened.offload == nullptr) {
      std::cerr << "  cannot be opened: " << opened.reason << '\n';
      std::exit(1);
    }
    for (const dsa::QueueReport& report : opened.queues) CHECK(report.way == way_);
    return std::move(opened.offload);
  }

 private:
  dsa::SubmitWay way_;
  std::unique_ptr<dsa::Emulator> emulator_;
  std::vector<std::string> nodes_;
  bool is_dedicated_ = false;
};

using BackendCase = void (*)(Backend& backend);

inline std::vector<std::string> real_nodes() {
  const char* list = std::getenv("VMSNAP_DSA_DEVICES");
  std::vector<std::string> nodes;
  std::string rest = list == nullptr ? "" : list;
  while (!rest.empty()) {
    const size_t comma = std::min(rest.find(','), rest.size());
    if (comma > 0) nodes.push_back(rest.substr(0, comma));
    rest.erase(0, comma + 1);
  }
  return nodes;
}

/// In every way that the queues allow.
inline void run_on_real_queues(BackendCase body) {
  const std::vector<std::string> nodes = real_nodes();
  if (nodes.empty()) return skip("needs real DSA queues, named by VMSNAP_DSA_DEVICES=/dev/dsa/wq0.0");
  bool ran = false;
  std::string reasons;
  for (const dsa::SubmitWay way :
       {dsa::SubmitWay::enqcmd, dsa::SubmitWay::movdir64b, dsa::SubmitWay::write_batch, dsa::SubmitWay::write_single}) {
    std::string reason;
    const std::unique_ptr<Backend> backend = Backend::real(way, nodes, reason);
    if (backend == nullptr) {
      reasons += std::string(reasons.empty() ? "" : "; ") + "not by " + dsa::name_of(way) + ": " + reason;
      continue;
    }
    std::cout << "  by " << dsa::name_of(way) << '\n';
    ran = true;
    body(*backend);
  }
  if (!ran) return skip(reasons);
  if (!reasons.empty()) std::cout << "  " << reasons << '\n';
}

inline void run_emulated(dsa::SubmitWay way, bool is_dedicated, BackendCase body) {
  std::string reason;
  const std::unique_ptr<Backend> backend = Backend::emulated(way, is_dedicated, reason);
  if (backend == nullptr) return skip(reason);
  body(*backend);
}

inline void run_on(BackendKind kind, BackendCase body) {
  const Watchdog watchdog("a case of the DSA driver", 120);
  switch (kind) {
    case BackendKind::enqcmd:
      return run_emulated(dsa::SubmitWay::enqcmd, false, body);
    case BackendKind::movdir64b:
      return run_emulated(dsa::SubmitWay::movdir64b, true, body);
    case BackendKind::write_with_batches:
      return run_emulated(dsa::SubmitWay::write_batch, false, body);
    case BackendKind::write_without_batches:
      return run_emulated(dsa::SubmitWay::write_single, false, body);
    case BackendKind::write_to_dedicated:
      return run_emulated(dsa::SubmitWay::write_batch, true, body);
    case BackendKind::real:
      return run_on_real_queues(body);
  }
}

template <BackendCase kBody, BackendKind kKind>
void run_case() {
  run_on(kKind, kBody);
}

}  // namespace vmsnap::test

/// A test for each back end; the body has `backend`.
#define DSA_CASE(name)                                                                                      \
  static void name([[maybe_unused]] Backend& backend);                                                      \
  static const Registration name##_1("dsa_" #name "_by_enqcmd", run_case<name, BackendKind::enqcmd>);       \
  static const Registration name##_2("dsa_" #name "_by_movdir64b", run_case<name, BackendKind::movdir64b>); \
  static const Registration name##_3("dsa_" #name "_by_write_with_batches",                                 \
                                     run_case<name, BackendKind::write_with_batches>);                      \
  static const Registration name##_4("dsa_" #name "_by_write_without_batches",                              \
                                     run_case<name, BackendKind::write_without_batches>);                   \
  static const Registration name##_5("dsa_" #name "_by_write_to_dedicated",                                 \
                                     run_case<name, BackendKind::write_to_dedicated>);                      \
  static const Registration name##_6("dsa_" #name "_on_real_queues", run_case<name, BackendKind::real>);    \
  static void name([[maybe_unused]] Backend& backend)
