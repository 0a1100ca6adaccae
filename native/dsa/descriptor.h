// What a DSA work queue takes and gives: 64-byte descriptors and 32-byte completion records, as <linux/idxd.h> lays
// them out (Intel DSA architecture specification, sections 5.1 to 5.3 and chapter 8).
#pragma once

#include <linux/idxd.h>

#include <cstddef>
#include <cstdint>

namespace vmsnap::dsa {

inline constexpr size_t kDescriptorBytes = 64;
inline constexpr size_t kRecordBytes = 32;
inline constexpr size_t kPortalBytes = 4096;

struct alignas(kDescriptorBytes) Descriptor {
  dsa_hw_desc hw;
};
static_assert(sizeof(Descriptor) == kDescriptorBytes);

struct alignas(kRecordBytes) CompletionRecord {
  dsa_completion_record hw;
};
static_assert(sizeof(CompletionRecord) == kRecordBytes);

/// Bits that stand beside the status code in the status byte: bit 7 says that the faulting access was a write.
inline constexpr uint8_t kStatusCodeMask = DSA_COMP_STATUS_MASK & 0x3f;

/// Flags of every operation that wants a completion record.
inline constexpr uint32_t kRecordFlags = IDXD_OP_FLAG_CRAV | IDXD_OP_FLAG_RCR;

/// A descriptor with all other fields 0 (reserved fields must be). Addresses are of this process.
Descriptor noop_descriptor(const CompletionRecord* record);
Descriptor drain_descriptor(const CompletionRecord* record);
/// Compare pattern (COMPVAL) with the pattern 0: are all of these bytes zero? No alignment, no multiple of 8 needed.
Descriptor zero_check_descriptor(const void* source, uint32_t size_bytes, const CompletionRecord* record);
/// `list` is aligned to 64 bytes and must stay until the record is written.
Descriptor batch_descriptor(const Descriptor* list, uint32_t count, const CompletionRecord* record);

/// The status byte as the device wrote it; 0 while it has not. What else the record holds may be read after this.
inline uint8_t status_of(const CompletionRecord& record) {
  return __atomic_load_n(&record.hw.status, __ATOMIC_ACQUIRE);
}

/// Makes a record ready for the next submission. The store also faults its page in.
inline void clear_record(CompletionRecord& record) { record.hw.status = DSA_COMP_NONE; }

}  // namespace vmsnap::dsa
