#include "validate.h"

#include <array>
#include <cstring>

namespace vmsnap::dsa {

namespace {

constexpr uint32_t kAlways = IDXD_OP_FLAG_CRAV | IDXD_OP_FLAG_RCR | IDXD_OP_FLAG_RCI | IDXD_OP_FLAG_CR_TCS;
constexpr uint32_t kBlock = IDXD_OP_FLAG_BOF;
constexpr uint32_t kCheck = IDXD_OP_FLAG_CR;
constexpr uint32_t kFirst = IDXD_OP_FLAG_ADDR1_TCS;
constexpr uint32_t kSecond = IDXD_OP_FLAG_ADDR2_TCS;
constexpr uint32_t kWrites = IDXD_OP_FLAG_CC | IDXD_OP_FLAG_STORD | IDXD_OP_FLAG_DRDBK;
// Drain: no implicit readback of traffic class A or B.
constexpr uint32_t kSuppressReadback = 0x0c0000;

/// Bytes [from, to) of a descriptor that must be 0.
struct Reserved {
  uint8_t from;
  uint8_t to;
};

struct OperationRules {
  uint8_t opcode;
  uint32_t flags;
  /// Flags that must be set.
  uint32_t needed;
  std::array<Reserved, 3> reserved;
  bool has_size;
};

constexpr std::array<OperationRules, 8> kOperations = {{
    {DSA_OPCODE_NOOP, kAlways, 0, {{{16, 36}, {38, 64}}}, false},
    {DSA_OPCODE_BATCH, kAlways | kFirst, 0, {{{24, 32}, {38, 64}}}, false},
    {DSA_OPCODE_DRAIN, kAlways | kSuppressReadback, 0, {{{16, 36}, {38, 64}}}, false},
    {DSA_OPCODE_MEMMOVE, kAlways | kBlock | kFirst | kSecond | kWrites, 0, {{{38, 64}}}, true},
    {DSA_OPCODE_MEMFILL, kAlways | kBlock | kSecond | kWrites, 0, {{{38, 64}}}, true},
    {DSA_OPCODE_COMPARE, kAlways | kBlock | kCheck | kFirst | kSecond, kRecordFlags, {{{38, 40}, {41, 64}}}, true},
    {DSA_OPCODE_COMPVAL, kAlways | kBlock | kCheck | kFirst, kRecordFlags, {{{38, 40}, {41, 64}}}, true},
    {DSA_OPCODE_CRCGEN,
     kAlways | kBlock | kFirst | IDXD_OP_FLAG_ADDR3_TCS | kFlagReadSeed,
     kRecordFlags,
     {{{24, 32}, {38, 40}, {44, 48}}},
     true},
}};

const OperationRules* find_rules(unsigned opcode) {
  for (const OperationRules& operation : kOperations) {
    if (operation.opcode == opcode) return &operation;
  }
  return nullptr;
}

uint32_t wrong_flags(const dsa_hw_desc& descriptor, const OperationRules& operation, const Rules& rules,
                     bool in_batch) {
  uint32_t allowed = operation.flags;
  if (in_batch) allowed |= IDXD_OP_FLAG_FENCE;
  if (!rules.block_on_fault || (rules.general_capability & kCapabilityBlockOnFault) == 0) allowed &= ~kBlock;
  uint32_t needed = operation.needed;
  // A record can only be asked for where there is one.
  if ((descriptor.flags & IDXD_OP_FLAG_RCR) != 0) needed |= IDXD_OP_FLAG_CRAV;
  return (descriptor.flags & ~allowed) | (needed & ~descriptor.flags);
}

bool any_set(const uint8_t* bytes, size_t from, size_t to) {
  for (size_t i = from; i < to; ++i) {
    if (bytes[i] != 0) return true;
  }
  return false;
}

bool reserved_is_set(const dsa_hw_desc& descriptor, const OperationRules& operation, bool in_batch) {
  uint8_t bytes[kDescriptorBytes];
  std::memcpy(bytes, &descriptor, sizeof bytes);
  for (const Reserved& reserved : operation.reserved) {
    if (any_set(bytes, reserved.from, reserved.to)) return true;
  }
  // The rest of the word that holds the PASID; members of a batch have the batch's.
  if (!in_batch && descriptor.rsvd != 0) return true;
  if ((descriptor.flags & IDXD_OP_FLAG_RCI) == 0 && descriptor.int_handle != 0) return true;
  if (descriptor.opcode == DSA_OPCODE_COMPARE || descriptor.opcode == DSA_OPCODE_COMPVAL) {
    return (descriptor.expected_res & 0xfe) != 0;
  }
  if (descriptor.opcode != DSA_OPCODE_CRCGEN) return false;
  const bool reads_seed = (descriptor.flags & kFlagReadSeed) != 0;
  return any_set(bytes, 56, 64) || any_set(bytes, reads_seed ? 40 : 48, reads_seed ? 44 : 56);
}

bool overlaps(const dsa_hw_desc& descriptor) {
  const uint64_t distance = descriptor.src_addr > descriptor.dst_addr ? descriptor.src_addr - descriptor.dst_addr
                                                                      : descriptor.dst_addr - descriptor.src_addr;
  return distance < descriptor.xfer_size;
}

uint8_t wrong_batch(const dsa_hw_desc& descriptor, const Rules& rules) {
  const uint32_t least = (rules.general_capability & kCapabilityBatchOfOne) != 0 ? 1 : 2;
  if (descriptor.desc_count < least || descriptor.desc_count > rules.max_batch) return DSA_COMP_DESC_CNT_ERANGE;
  return descriptor.desc_list_addr % kDescriptorBytes != 0 ? uint8_t{DSA_COMP_DESCLIST_ALIGN} : uint8_t{0};
}

}  // namespace

OperationCapability known_operations() {
  OperationCapability known{};
  for (const OperationRules& operation : kOperations) known[operation.opcode / 32] |= 1U << (operation.opcode % 32);
  return known;
}

Verdict validate(const dsa_hw_desc& descriptor, const Rules& rules, bool in_batch) {
  const bool has_record = (descriptor.flags & IDXD_OP_FLAG_CRAV) != 0;
  if (has_record && descriptor.completion_addr % kRecordBytes != 0) return {kErrorRecordAlignment};
  if (!in_batch && descriptor.priv != 0) return {kErrorPrivilege};

  const unsigned opcode = descriptor.opcode;
  const OperationRules* operation = find_rules(opcode);
  const bool nested = in_batch && (opcode == DSA_OPCODE_BATCH || opcode == DSA_OPCODE_DRAIN);
  if (operation == nullptr || nested || !supports(rules.operations, opcode)) return {DSA_COMP_BAD_OPCODE};
  if (const uint32_t flags = wrong_flags(descriptor, *operation, rules, in_batch); flags != 0) {
    return {DSA_COMP_INVALID_FLAGS, flags};
  }
  if (reserved_is_set(descriptor, *operation, in_batch)) return {DSA_COMP_NOZERO_RESERVE};
  // No handle was ever given to anybody.
  if ((descriptor.flags & IDXD_OP_FLAG_RCI) != 0) return {DSA_COMP_INT_HANDLE_INVAL};
  if (opcode == DSA_OPCODE_BATCH) return {wrong_batch(descriptor, rules)};
  if (operation->has_size && (descriptor.xfer_size == 0 || descriptor.xfer_size > rules.max_transfer_bytes)) {
    return {DSA_COMP_XFER_ERANGE};
  }
  if (opcode == DSA_OPCODE_CRCGEN && (descriptor.flags & kFlagReadSeed) != 0 && descriptor.seed_addr % 4 != 0) {
    return {DSA_COMP_ADDR_ALIGN};
  }
  const bool can_overlap = (rules.general_capability & kCapabilityOverlap) != 0;
  if (opcode == DSA_OPCODE_MEMMOVE && !can_overlap && overlaps(descriptor)) return {DSA_COMP_OVERLAP_BUFFERS};
  return {};
}

}  // namespace vmsnap::dsa
