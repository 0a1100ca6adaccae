// What each operation does to memory and what its completion record tells.
#pragma once

#include <cstdint>
#include <vector>

#include "../descriptor.h"
#include "device_memory.h"
#include "validate.h"

namespace vmsnap::dsa {

/// Which of an operation's addresses faulted, as the fault information of a record numbers them.
enum class Operand : uint8_t { unknown = 0, source = 1, second_source = 2, destination = 3 };

struct Outcome {
  uint8_t status = DSA_COMP_SUCCESS;
  uint8_t result = 0;
  uint32_t bytes_completed = 0;
  uint64_t fault_address = 0;
  /// Of a fault, told only with kCapabilityFaultInfo.
  Operand operand = Operand::unknown;
  /// Bytes 16 to 23 of the record: invalid flags, or the CRC.
  uint64_t specific = 0;
  /// For the account of bandwidth.
  uint64_t bytes_moved = 0;
};

/// Fault that is injected into a compare: it stops at this byte, if it gets there.
struct InjectedFault {
  bool present = false;
  bool is_write = false;
  uint64_t at_byte = 0;
};

/// Memory that an engine works with; one for each.
struct Workspace {
  static constexpr size_t kPieceBytes = size_t{128} << 10;
  std::vector<uint8_t> first = std::vector<uint8_t>(kPieceBytes);
  std::vector<uint8_t> second = std::vector<uint8_t>(kPieceBytes);
};

class Executor {
 public:
  Executor(const DeviceMemory& memory, uint32_t difference_granularity_bytes)
      : memory_(memory), granularity_(difference_granularity_bytes == 0 ? 1 : difference_granularity_bytes) {}

  /// A valid descriptor of any operation but BATCH and DRAIN.
  Outcome execute(const dsa_hw_desc& descriptor, const InjectedFault& injected, Workspace& workspace) const;

 private:
  Outcome move(const dsa_hw_desc& descriptor, Workspace& workspace) const;
  Outcome move_backwards(const dsa_hw_desc& descriptor, Workspace& workspace) const;
  Outcome fill(const dsa_hw_desc& descriptor, Workspace& workspace) const;
  Outcome compare(const dsa_hw_desc& descriptor, const InjectedFault& injected, Workspace& workspace) const;
  Outcome compare_pattern(const dsa_hw_desc& descriptor, const InjectedFault& injected, Workspace& workspace) const;
  Outcome generate_crc(const dsa_hw_desc& descriptor, Workspace& workspace) const;

  const DeviceMemory& memory_;
  uint64_t granularity_;
};

/// Writes the record, its status last. False (with nothing that a reader would take for a record) where it cannot be
/// written.
bool write_record(const DeviceMemory& memory, uint64_t address, const Outcome& outcome, const Rules& rules);

}  // namespace vmsnap::dsa
