// An open work queue: its file, its portal if that could be mapped, and how descriptors get in.
#pragma once

#include <cstdint>
#include <string>

#include "descriptor.h"
#include "device_calls.h"
#include "offload.h"
#include "portal.h"

namespace vmsnap::dsa {

/// What became of descriptors that were handed over.
struct Sent {
  /// From the first on.
  uint32_t taken = 0;
  /// 0 if all were taken; EAGAIN if the queue is full; else the errno of write().
  int error = 0;
  /// Refused stores and calls.
  uint32_t refusals = 0;
  uint32_t short_writes = 0;
};

class QueueHandle {
 public:
  explicit QueueHandle(DeviceCalls& calls) : calls_(&calls) {}
  /// Drains the queue.
  ~QueueHandle();
  QueueHandle(const QueueHandle&) = delete;
  QueueHandle& operator=(const QueueHandle&) = delete;

  /// 0 or an errno.
  int open(const std::string& node);
  /// For the stores of `way`, ENQCMD or MOVDIR64B. 0 or an errno.
  int map(SubmitWay way);
  /// From now on by write().
  void unmap();
  void close();

  /// Whether the device has an error that no completion record could tell. Does not wait.
  bool has_software_error() const;

  bool is_mapped() const { return portal_.address() != nullptr; }

  /// Hands `count` descriptors over, which lie one after the other, in their order. `retries` bounds the refused stores
  /// to a portal, all together. Callable from several threads at once.
  Sent send(const Descriptor* descriptors, uint32_t count, uint32_t retries);

 private:
  Sent store(const Descriptor* descriptors, uint32_t count);
  Sent enqueue(const Descriptor* descriptors, uint32_t count, uint32_t retries);
  Sent write(const Descriptor* descriptors, uint32_t count);

  DeviceCalls* calls_;
  int fd_ = -1;
  Portal portal_;
  SubmitWay portal_way_ = SubmitWay::none;
};

}  // namespace vmsnap::dsa
