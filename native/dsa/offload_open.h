// Finds the queues that are asked for, tries each, and tells what came of it.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "offload.h"
#include "work_queue.h"

namespace vmsnap::dsa {

struct OpenedQueues {
  std::vector<std::unique_ptr<WorkQueue>> queues;
  /// Of all queues that were looked at, used or not.
  std::vector<QueueReport> reports;
  /// For each of `queues`, the index of its report.
  std::vector<size_t> places;
  /// Where there is none, why.
  std::string reason;
  std::string hint;
};

OpenedQueues open_queues(const OffloadOptions& options);

}  // namespace vmsnap::dsa
