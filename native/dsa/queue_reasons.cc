#include "queue_reasons.h"

#include <cerrno>
#include <cstring>

#include <unistd.h>

#include "descriptor.h"
#include "status.h"

namespace vmsnap::dsa {

namespace {

constexpr const char* kKernelParameters =
    "turn VT-d on in the firmware, boot with the kernel parameters intel_iommu=on,sm_on, then: cat ";

std::string device_name(const QueueInfo& queue) { return "dsa" + std::to_string(queue.device); }

/// "dsa0/wq0.1"
std::string full_name(const QueueInfo& queue) { return device_name(queue) + "/" + queue.name; }

/// accel-config lines that make a queue which a program may use.
std::string configure(const QueueInfo& queue) {
  const std::string group = std::to_string(queue.group < 0 ? 0 : queue.group);
  return "accel-config config-wq " + full_name(queue) + " -g " + group +
         " -s 16 -t 15 -p 10 -m shared -y user -n vmsnap -d user -b 0; accel-config enable-device " +
         device_name(queue) + "; accel-config enable-wq " + full_name(queue);
}

std::string errno_words(int error) { return std::strerror(error); }  // NOLINT: one thread opens queues

std::string step_words(const ProbeStep& step) {
  if (step.error == ETIMEDOUT) return "no answer in time";
  if (step.error == EAGAIN) return "the queue takes nothing";
  if (step.error != 0) return errno_words(step.error);
  return describe(step.status);
}

}  // namespace

Unusable unusable_by_attributes(const DeviceInfo& device, const QueueInfo& queue) {
  if (queue.type != "user") {
    return {EINVAL, "the queue is of type " + (queue.type.empty() ? "none" : queue.type) + ", not user",
            "accel-config disable-wq " + full_name(queue) + "; " + configure(queue)};
  }
  // Before the state: without PASID no such queue can be enabled.
  if (device.pasid_enabled == 0 || (device.pasid_enabled != 1 && queue.state == "enabled")) {
    return {EOPNOTSUPP, "the device has no PASID support (shared address spaces) on this system",
            kKernelParameters + std::string(kSysfsRoot) + "/" + device.name + "/pasid_enabled (1 is wanted)"};
  }
  if (queue.state != "enabled") {
    return {ENXIO, "the queue is " + (queue.state.empty() ? "not enabled" : queue.state),
            "accel-config enable-device " + device.name + "; accel-config enable-wq " + full_name(queue) +
                " (or set it up first: " + configure(queue) + ")"};
  }
  if (!supports(queue.operations, DSA_OPCODE_COMPVAL)) {
    return {EOPNOTSUPP, "the queue does not accept the operation compare pattern (6)",
            "allow it in the queue's op_config: accel-config disable-wq " + full_name(queue) +
                "; then accel-config config-wq with an --op-config that has bit 6, and accel-config enable-wq " +
                full_name(queue)};
  }
  return {};
}

Unusable not_a_queue(const std::string& node, const OffloadOptions& options) {
  const std::string hint = "list the queues: ls " + options.device_root + "; accel-config list; vmsnap doctor";
  if (access(node.c_str(), F_OK) != 0) {
    const int error = errno;
    return {error, node + ": " + errno_words(error), hint};
  }
  return {ENOTTY, node + " is no DSA work queue: " + options.sysfs_root + " knows none of that name", hint};
}

Unusable cannot_open(const QueueInfo& queue, int error) {
  switch (error) {
    case ENOENT:
      return {error, queue.node + " does not exist",
              "accel-config enable-wq " + full_name(queue) + "; udevadm settle; ls -l " + queue.node};
    case EACCES:
    case EPERM:
      return {error, queue.node + " may not be opened by this user (" + errno_words(error) + ")",
              "chgrp " + std::to_string(getegid()) + " " + queue.node + " && chmod 0660 " + queue.node + " (as root)"};
    case EBUSY:
      return {error, "the dedicated queue is in use by another process",
              "find it: fuser -v " + queue.node + "; or make the queue a shared one: accel-config disable-wq " +
                  full_name(queue) + "; " + configure(queue)};
    case ENXIO:
    case ENODEV:
      return {error, "the queue is not in working order (" + errno_words(error) + ")",
              "accel-config disable-wq " + full_name(queue) + "; accel-config enable-wq " + full_name(queue) +
                  "; see dmesg"};
    case EOPNOTSUPP:
      return {error, "the kernel cannot give this process an address space of the device (PASID)",
              kKernelParameters + std::string(kSysfsRoot) + "/" + device_name(queue) + "/pasid_enabled"};
    default:
      return {error, queue.node + " cannot be opened: " + errno_words(error), "see dmesg; vmsnap doctor"};
  }
}

Unusable cannot_map(const QueueInfo& queue, int error) {
  if (error == EPERM) {
    return {error, "the portal may not be mapped: Linux 6.10 and later ask for CAP_SYS_RAWIO",
            "use write(), which needs no such right, or run with CAP_SYS_RAWIO: setpriv --inh-caps +sys_rawio "
            "--ambient-caps +sys_rawio"};
  }
  return {error, "the portal of " + queue.node + " cannot be mapped: " + errno_words(error),
          "see dmesg; vmsnap doctor"};
}

Unusable probe_failed(const QueueInfo& queue, const ProbeStep& step) {
  return {step.error != 0 ? step.error : EIO, "a test operation (" + step.what + ") failed: " + step_words(step),
          "accel-config disable-wq " + full_name(queue) + "; accel-config enable-wq " + full_name(queue) +
              "; see cat " + kSysfsRoot + "/" + device_name(queue) + "/errors, and dmesg"};
}

Unusable wrong_answers(const ProbeStep& step) {
  if (step.error == EIO && step.status == DSA_COMP_SUCCESS) {
    return {EIO, "compares of known pages had wrong answers", "do not use this device; see dmesg"};
  }
  return {step.error != 0 ? step.error : EIO, "compares of known pages failed: " + step_words(step),
          "see dmesg; vmsnap doctor"};
}

Unusable no_wanted_way() { return {EOPNOTSUPP, "none of the ways that were asked for works here", ""}; }

Unusable no_memory() { return {ENOMEM, "not enough memory for descriptors and records", ""}; }

Unusable no_queue(int error) {
  if (error == 0) {
    return {
        ENODEV, "there is no DSA work queue",
        "set one up, as root: accel-config config-engine dsa0/engine0.0 -g 0; accel-config config-wq dsa0/wq0.0 -g 0 "
        "-s 16 -t 15 -p 10 -m shared -y user -n vmsnap -d user -b 0; accel-config enable-device dsa0; accel-config "
        "enable-wq dsa0/wq0.0"};
  }
  return {error, "there is no DSA device that the kernel knows (" + errno_words(error) + ")",
          "modprobe idxd; lspci -d 8086:0b25; vmsnap doctor"};
}

}  // namespace vmsnap::dsa
