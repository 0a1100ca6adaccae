#include "numa.h"

#include <cstdio>

#include <sched.h>

namespace vmsnap::dsa {

namespace {

constexpr int kMostNodes = 1024;
constexpr uint32_t kSameNode = 10;

std::vector<uint32_t> read_row(const std::string& path) {
  std::vector<uint32_t> row;
  std::FILE* const file = std::fopen(path.c_str(), "re");
  if (file == nullptr) return row;
  unsigned distance = 0;
  while (row.size() < kMostNodes && std::fscanf(file, "%u", &distance) == 1) row.push_back(distance);
  std::fclose(file);
  return row;
}

}  // namespace

NumaDistances::NumaDistances(const std::string& root) {
  // Node numbers may have gaps, and a row has a column for each node that is there.
  std::vector<int> nodes;
  std::vector<std::vector<uint32_t>> rows;
  for (int node = 0; node < kMostNodes; ++node) {
    std::vector<uint32_t> row = read_row(root + "/node" + std::to_string(node) + "/distance");
    if (row.empty()) {
      if (!rows.empty() && nodes.size() >= rows.front().size()) break;
      if (rows.empty() && node >= 8) break;
      continue;
    }
    nodes.push_back(node);
    rows.push_back(std::move(row));
  }
  for (size_t i = 0; i < nodes.size(); ++i) {
    const auto number = static_cast<size_t>(nodes[i]);
    rows_.resize(number + 1);
    rows_[number].assign(static_cast<size_t>(nodes.back()) + 1, 0);
    for (size_t j = 0; j < nodes.size() && j < rows[i].size(); ++j) {
      rows_[number][static_cast<size_t>(nodes[j])] = rows[i][j];
    }
  }
}

uint32_t NumaDistances::between(int from, int to) const {
  if (from < 0 || to < 0 || static_cast<size_t>(from) >= rows_.size()) return kSameNode;
  const std::vector<uint32_t>& row = rows_[static_cast<size_t>(from)];
  if (static_cast<size_t>(to) >= row.size() || row[static_cast<size_t>(to)] == 0) return kSameNode;
  return row[static_cast<size_t>(to)];
}

int current_numa_node() {
  unsigned cpu = 0;
  unsigned node = 0;
  return getcpu(&cpu, &node) == 0 ? static_cast<int>(node) : 0;
}

}  // namespace vmsnap::dsa
