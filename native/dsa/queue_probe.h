// Opens a queue and finds out how it can be used, by trying.
//
// Neither the kernel's version nor the queue's attributes tell whether its portal may be mapped and whether batches
// pass write(): each way is tried with a NOOP, then with a batch of two, and the way that works is tried with compares
// whose answers are known. Every wait is bounded; what is not answered in time is kept until the queue is closed.
#pragma once

#include <memory>
#include <vector>

#include "flight.h"
#include "offload.h"
#include "queue_handle.h"

namespace vmsnap::dsa {

struct ProbedQueue {
  /// Memory of unanswered probes; freed after the handle is closed, so declared before it.
  std::vector<std::unique_ptr<Flight>> unanswered;
  /// Null if the queue cannot be used; the report says why.
  std::unique_ptr<QueueHandle> handle;
};

/// `device` is what the queue belongs to. Fills `report`, whose info is set already.
ProbedQueue probe_queue(const DeviceInfo& device, const OffloadOptions& options, DeviceCalls& calls,
                        QueueReport& report);

}  // namespace vmsnap::dsa
