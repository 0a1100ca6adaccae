// A folder laid out as the kernel's DSA driver lays out sysfs and /dev/dsa.
#pragma once

#include <string>

#include "emulator.h"

namespace vmsnap::dsa {

/// Removed by the destructor, with all that is in it.
class SysfsTree {
 public:
  SysfsTree() = default;
  ~SysfsTree();
  SysfsTree(const SysfsTree&) = delete;
  SysfsTree& operator=(const SysfsTree&) = delete;

  /// False with `error` in words.
  bool create(const EmulatorConfig& config, std::string& error);
  /// Removes the folder early; its names stay what they were.
  void remove() const;
  /// Leaves the folder alone from now on (in the child of a fork).
  void abandon() { root_.clear(); }

  std::string sysfs_root() const { return root_ + "/sys/bus/dsa/devices"; }
  std::string device_root() const { return root_ + "/dev/dsa"; }

 private:
  std::string root_;
};

/// Whether the queue has a node: enabled, of type user, on a device that is not disabled and has PASIDs.
bool has_node(const EmulatedDevice& device, const EmulatedQueue& queue);

}  // namespace vmsnap::dsa
