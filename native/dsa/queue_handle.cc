#include "queue_handle.h"

#include <algorithm>
#include <cerrno>

#include "cpu_wait.h"

namespace vmsnap::dsa {

namespace {

/// A signal may interrupt write(); not for ever.
constexpr uint32_t kMostInterruptions = 16;

}  // namespace

QueueHandle::~QueueHandle() { close(); }

int QueueHandle::open(const std::string& node) {
  const int fd = calls_->open(node.c_str());
  if (fd < 0) return -fd;
  fd_ = fd;
  return 0;
}

int QueueHandle::map(SubmitWay way) {
  void* address = nullptr;
  if (const int status = calls_->map_portal(fd_, address); status != 0) return -status;
  portal_.map(address);
  portal_way_ = way;
  return 0;
}

void QueueHandle::unmap() {
  if (is_mapped()) calls_->unmap_portal(portal_.address());
  portal_.map(nullptr);
  portal_way_ = SubmitWay::none;
}

void QueueHandle::close() {
  unmap();
  if (fd_ >= 0) calls_->close(fd_);
  fd_ = -1;
}

bool QueueHandle::has_software_error() const { return fd_ >= 0 && calls_->poll_error(fd_, 0) == 1; }

Sent QueueHandle::send(const Descriptor* descriptors, uint32_t count, uint32_t retries) {
  if (portal_way_ == SubmitWay::none) return write(descriptors, count);
  Portal::order_stores();
  return portal_way_ == SubmitWay::enqcmd ? enqueue(descriptors, count, retries) : store(descriptors, count);
}

Sent QueueHandle::store(const Descriptor* descriptors, uint32_t count) {
  for (uint32_t i = 0; i < count; ++i) portal_.store(descriptors[i]);
  return {.taken = count};
}

Sent QueueHandle::enqueue(const Descriptor* descriptors, uint32_t count, uint32_t retries) {
  Sent sent;
  while (sent.taken < count) {
    if (portal_.enqueue(descriptors[sent.taken])) {
      ++sent.taken;
    } else if (++sent.refusals > retries) {
      sent.error = EAGAIN;
      break;
    } else {
      relax_core();
    }
  }
  return sent;
}

Sent QueueHandle::write(const Descriptor* descriptors, uint32_t count) {
  Sent sent;
  uint32_t interruptions = 0;
  while (sent.taken < count) {
    const uint32_t left = count - sent.taken;
    const ssize_t written = calls_->write(fd_, descriptors + sent.taken, left * kDescriptorBytes);
    if (written == -EINTR && ++interruptions <= kMostInterruptions) continue;
    const size_t taken = written < 0 ? 0 : static_cast<size_t>(written) / kDescriptorBytes;
    sent.taken += static_cast<uint32_t>(std::min<size_t>(taken, left));
    if (taken == 0) {
      const bool full = written == 0 || written == -EAGAIN || written == -EINTR;
      // Less than a descriptor: nothing that a queue does.
      const int error = written < 0 ? static_cast<int>(-written) : EIO;
      sent.error = full ? EAGAIN : error;
      sent.refusals += full ? 1 : 0;
      break;
    }
    if (taken < left) ++sent.short_writes;
  }
  return sent;
}

}  // namespace vmsnap::dsa
