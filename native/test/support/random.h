// A small generator with a fixed seed (splitmix64): every run is the same.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace vmsnap::test {

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed) {}

  uint64_t next() {
    uint64_t value = state_ += 0x9E3779B97F4A7C15U;
    value = (value ^ (value >> 30)) * 0xBF58476D1CE4E5B9U;
    value = (value ^ (value >> 27)) * 0x94D049BB133111EBU;
    return value ^ (value >> 31);
  }

  uint64_t below(uint64_t limit) { return next() % limit; }

  std::vector<uint8_t> bytes(size_t count) {
    std::vector<uint8_t> all(count);
    for (uint8_t& byte : all) byte = static_cast<uint8_t>(next());
    return all;
  }

 private:
  uint64_t state_;
};

}  // namespace vmsnap::test
