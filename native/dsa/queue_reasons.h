// Why a queue cannot be used, in words for its user, and what to do about it.
#pragma once

#include <string>

#include "discovery.h"
#include "offload.h"

namespace vmsnap::dsa {

struct Unusable {
  /// 0: it can be used, as far as this tells.
  int error = 0;
  std::string reason;
  std::string hint;
};

/// Type, state, PASID and operations, as sysfs tells them.
Unusable unusable_by_attributes(const DeviceInfo& device, const QueueInfo& queue);

/// A node was asked for that sysfs does not know.
Unusable not_a_queue(const std::string& node, const OffloadOptions& options);

Unusable cannot_open(const QueueInfo& queue, int error);
Unusable cannot_map(const QueueInfo& queue, int error);
/// A probe that had no good answer.
Unusable probe_failed(const QueueInfo& queue, const ProbeStep& step);
Unusable wrong_answers(const ProbeStep& step);
Unusable no_wanted_way();
Unusable no_memory();

/// No queue at all was found: `error` is Discovery::error.
Unusable no_queue(int error);

}  // namespace vmsnap::dsa
