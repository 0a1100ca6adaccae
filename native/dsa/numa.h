// Which queues are near: distances between the nodes of this machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace vmsnap::dsa {

class NumaDistances {
 public:
  /// `root` holds node<N>/distance, as sysfs lays it out. Without it every node is equally far.
  explicit NumaDistances(const std::string& root = "/sys/devices/system/node");

  /// As firmware tells it: 10 is the same node, 20 twice as far. A node that is not known (-1 too) counts as the same.
  uint32_t between(int from, int to) const;

 private:
  /// A row for each node number; empty where there is no such node.
  std::vector<std::vector<uint32_t>> rows_;
};

/// The node of the CPU that runs this thread; 0 where that is not known.
int current_numa_node();

}  // namespace vmsnap::dsa
