#include "offload_open.h"

#include <algorithm>
#include <utility>

#include "queue_probe.h"
#include "queue_reasons.h"

namespace vmsnap::dsa {

namespace {

struct Candidate {
  const DeviceInfo* device;
  const QueueInfo* queue;
};

std::vector<Candidate> all_queues(const Discovery& discovery) {
  std::vector<Candidate> all;
  for (const DeviceInfo& device : discovery.devices) {
    for (const QueueInfo& queue : device.queues) all.push_back({&device, &queue});
  }
  return all;
}

void try_queue(const Candidate& candidate, const OffloadOptions& options, OpenedQueues& opened) {
  QueueReport report;
  report.info = *candidate.queue;
  DeviceCalls& calls = options.calls != nullptr ? *options.calls : kernel_calls();
  ProbedQueue probed = probe_queue(*candidate.device, options, calls, report);
  if (probed.handle) {
    opened.queues.push_back(std::make_unique<WorkQueue>(std::move(probed), report, options.limits));
    opened.queues.back()->fill(report);
    opened.places.push_back(opened.reports.size());
  }
  opened.reports.push_back(std::move(report));
}

void report_unknown_node(const std::string& node, const OffloadOptions& options, OpenedQueues& opened) {
  const Unusable why = not_a_queue(node, options);
  QueueReport report;
  report.info.node = node;
  report.steps.push_back({"sysfs", why.error, 0});
  report.reason = why.reason;
  report.hint = why.hint;
  opened.reports.push_back(std::move(report));
}

void explain(int discovery_error, OpenedQueues& opened) {
  if (opened.reports.empty()) {
    const Unusable why = no_queue(discovery_error);
    opened.reason = why.reason;
    opened.hint = why.hint;
    return;
  }
  for (const QueueReport& report : opened.reports) {
    const std::string& name = report.info.node;
    const bool named = report.reason.find(name) != std::string::npos;
    opened.reason += (opened.reason.empty() ? "" : "; ") + (named ? "" : name + ": ") + report.reason;
    if (opened.hint.empty()) opened.hint = report.hint;
  }
}

}  // namespace

OpenedQueues open_queues(const OffloadOptions& options) {
  OpenedQueues opened;
  const Discovery discovery = discover(options.sysfs_root, options.device_root);
  const std::vector<Candidate> all = all_queues(discovery);
  if (options.nodes.empty()) {
    for (const Candidate& candidate : all) try_queue(candidate, options, opened);
  }
  for (auto node = options.nodes.begin(); node != options.nodes.end(); ++node) {
    // A dedicated queue could not be opened twice.
    if (std::find(options.nodes.begin(), node, *node) != node) continue;
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const Candidate& candidate) { return candidate.queue->node == *node; });
    if (found != all.end()) {
      try_queue(*found, options, opened);
    } else {
      report_unknown_node(*node, options, opened);
    }
  }
  if (opened.queues.empty()) explain(discovery.error, opened);
  return opened;
}

}  // namespace vmsnap::dsa
