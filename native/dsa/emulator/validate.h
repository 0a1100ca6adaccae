// Is a descriptor one that the device executes? Per-operation tables of legal flags and reserved bytes.
#pragma once

#include <cstdint>

#include "../descriptor.h"
#include "../discovery.h"

namespace vmsnap::dsa {

/// What a queue and its device allow.
struct Rules {
  OperationCapability operations{};
  uint64_t general_capability = 0;
  uint64_t max_transfer_bytes = 0;
  uint32_t max_batch = 0;
  bool block_on_fault = false;
  bool page_requests = true;
};

inline constexpr uint64_t kCapabilityBlockOnFault = uint64_t{1} << 0;
inline constexpr uint64_t kCapabilityOverlap = uint64_t{1} << 1;
inline constexpr uint64_t kCapabilityFaultInfo = uint64_t{1} << 12;
inline constexpr uint64_t kCapabilityBatchOfOne = uint64_t{1} << 52;

/// CRC generation takes its seed from memory.
inline constexpr uint32_t kFlagReadSeed = 0x010000;

/// Errors that are never written to a completion record.
inline constexpr uint8_t kErrorRecordFault = DSA_COMP_CRA_XLAT;
inline constexpr uint8_t kErrorRecordAlignment = DSA_COMP_CRA_ALIGN;
inline constexpr uint8_t kErrorPrivilege = DSA_COMP_PRIV_BAD;
inline constexpr uint8_t kErrorQueueFull = 0x53;

struct Verdict {
  /// 0: it can be executed.
  uint8_t status = 0;
  /// For DSA_COMP_INVALID_FLAGS: those that are not allowed (or that are missing).
  uint32_t invalid_flags = 0;
};

/// Every operation that the emulator has.
OperationCapability known_operations();

/// The first thing that is wrong, in this order: record's alignment, operation, flags, reserved fields, interrupt
/// handle, sizes, alignment, overlap.
Verdict validate(const dsa_hw_desc& descriptor, const Rules& rules, bool in_batch);

}  // namespace vmsnap::dsa
