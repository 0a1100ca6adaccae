// Memory of this process as a device sees it: pages that are not in the page tables are faults, and no address crashes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "../../file/unique_fd.h"

namespace vmsnap::dsa {

inline constexpr uint64_t kDevicePageBytes = 4096;

class DeviceMemory {
 public:
  /// Opens what it needs and tries it out; false with `error` in words where this system does not allow it.
  bool open(std::string& error);

  /// Bytes done before the first page that is not present or not allowed. With `make_present`, pages are made present
  /// as the system would on a page request, and it ends only where that is refused.
  size_t read(uint64_t address, void* into, size_t size_bytes, bool make_present) const;
  size_t write(uint64_t address, const void* from, size_t size_bytes, bool make_present) const;

 private:
  size_t present_bytes(uint64_t address, size_t size_bytes) const;

  UniqueFd pagemap_;
};

}  // namespace vmsnap::dsa
