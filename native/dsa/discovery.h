// What sysfs tells of DSA devices and their work queues (kernel documentation ABI/stable/sysfs-driver-dma-idxd).
//
// Reads only; nothing is opened under /dev. Attributes that are missing (older kernels) or cannot be read keep the
// value that their comment names.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace vmsnap::dsa {

/// Bits of operation capability: bit N says that opcode N is supported. Word 0 holds opcodes 0 to 31.
using OperationCapability = std::array<uint32_t, 8>;

inline bool supports(const OperationCapability& capability, unsigned opcode) {
  return opcode < 256 && ((capability[opcode / 32] >> (opcode % 32)) & 1) != 0;
}

enum class QueueMode : uint8_t { unknown, shared, dedicated };

struct QueueInfo {
  unsigned device = 0;
  unsigned number = 0;
  /// As sysfs names it: "wq0.1".
  std::string name;
  /// The character device: "/dev/dsa/wq0.1".
  std::string node;
  QueueMode mode = QueueMode::unknown;
  /// "enabled", "disabled", "" if unknown.
  std::string state;
  /// "user", "kernel", "none", "" if unknown.
  std::string type;
  /// The name that the administrator gave it.
  std::string label;
  std::string driver_name;
  int group = -1;
  uint32_t size = 0;
  uint32_t threshold = 0;
  uint32_t priority = 0;
  bool block_on_fault = false;
  bool ats_disabled = false;
  bool prs_disabled = false;
  /// Limits of this queue; the device's where the queue has none of its own; 0 if neither is known.
  uint64_t max_transfer_bytes = 0;
  uint32_t max_batch = 0;
  /// Operations that this queue accepts; the device's where the queue has no op_config.
  OperationCapability operations{};
  /// Of the device.
  int numa_node = -1;
};

struct DeviceInfo {
  unsigned number = 0;
  /// "dsa0"
  std::string name;
  std::string state;
  /// 0x100 is DSA 1.0; 0 if unknown.
  uint32_t version = 0;
  int numa_node = -1;
  /// 1, 0, or -1 if unknown.
  int pasid_enabled = -1;
  int configurable = -1;
  uint32_t max_groups = 0;
  uint32_t max_queues = 0;
  uint32_t max_queue_entries = 0;
  uint32_t max_engines = 0;
  uint32_t max_batch = 0;
  uint64_t max_transfer_bytes = 0;
  uint64_t general_capability = 0;
  OperationCapability operations{};
  uint64_t command_status = 0;
  uint32_t clients = 0;
  /// The words of the attribute `errors`.
  std::string errors;
  /// Group of each engine, -1 if in none.
  std::vector<int> engine_groups;
  std::vector<QueueInfo> queues;
};

struct Discovery {
  /// 0, or the errno with which the folder could not be read (ENOENT: no DSA driver).
  int error = 0;
  /// By number; queues by number.
  std::vector<DeviceInfo> devices;
};

inline constexpr const char* kSysfsRoot = "/sys/bus/dsa/devices";
inline constexpr const char* kDeviceRoot = "/dev/dsa";

/// `sysfs_root` holds dsa<M>/ with wq<M>.<N>/ and engine<M>.<N>/ inside (or beside, as the bus folder has links to
/// both).
Discovery discover(const std::string& sysfs_root = kSysfsRoot, const std::string& device_root = kDeviceRoot);

}  // namespace vmsnap::dsa
