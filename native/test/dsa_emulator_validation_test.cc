// What a device refuses: operations, flags, reserved bytes, sizes, alignment, by tables written down here once more.
#include <array>
#include <cerrno>
#include <vector>

#include "support/emulated.h"

namespace vmsnap::test {

using namespace dsa;

namespace {

constexpr uint32_t kRecord = 0x00000c;

/// Legal flags of a descriptor outside a batch, on a queue that allows block on fault, and reserved bytes.
struct Legal {
  unsigned opcode;
  uint32_t flags;
  std::vector<std::pair<size_t, size_t>> reserved;
};

const std::vector<Legal>& table() {
  static const std::vector<Legal> all = {
      {0x00, 0x00100c, {{16, 36}, {38, 64}}}, {0x01, 0x00120c, {{24, 32}, {38, 64}}},
      {0x02, 0x0c100c, {{16, 36}, {38, 64}}}, {0x03, 0x00770e, {{38, 64}}},
      {0x04, 0x00750e, {{38, 64}}},           {0x05, 0x00168e, {{38, 40}, {41, 64}}},
      {0x06, 0x00128e, {{38, 40}, {41, 64}}}, {0x10, 0x011a0e, {{24, 32}, {38, 40}, {44, 64}}},
  };
  return all;
}

EmulatorConfig blocking() { return {.devices = {{.queues = {{.block_on_fault = true}}}}}; }

/// Buffers for one good descriptor of each operation.
class GoodDescriptors {
 public:
  GoodDescriptors() {
    pages_.fill(0);
    for (size_t i = 0; i < list_.size(); ++i) list_[i] = descriptor_of(DSA_OPCODE_NOOP, nullptr);
  }

  dsa_hw_desc of(unsigned opcode) const {
    dsa_hw_desc descriptor{};
    descriptor.opcode = opcode & 0xff;
    descriptor.flags = kRecord;
    if (opcode == DSA_OPCODE_NOOP || opcode == DSA_OPCODE_DRAIN) return descriptor;
    descriptor.src_addr = opcode == DSA_OPCODE_BATCH ? address_of(list_.data()) : address_of(pages_.at());
    if (opcode == DSA_OPCODE_BATCH) {
      descriptor.desc_count = 2;
      return descriptor;
    }
    if (opcode == DSA_OPCODE_MEMFILL) descriptor.pattern = 0;
    descriptor.xfer_size = 4096;
    if (opcode != DSA_OPCODE_COMPVAL && opcode != DSA_OPCODE_CRCGEN) descriptor.dst_addr = address_of(pages_.at(4096));
    return descriptor;
  }

 private:
  Pages pages_{2};
  alignas(64) std::array<dsa_hw_desc, 2> list_{};
};

}  // namespace

TEST(dsa_emulator_executes_only_operations_that_it_has) {
  Rig rig;
  if (!rig.ready()) return;
  const GoodDescriptors good;
  for (unsigned opcode = 0; opcode < 256; ++opcode) {
    bool known = false;
    for (const Legal& legal : table()) known = known || legal.opcode == opcode;
    const RecordCopy record = rig.run(good.of(opcode));
    CHECK_EQ(record.status, known ? DSA_COMP_SUCCESS : DSA_COMP_BAD_OPCODE);
  }
  // And of those only what its capability says.
  Rig limited({.devices = {{.operations = {0x3f}}}});
  CHECK_EQ(limited.run(good.of(DSA_OPCODE_COMPARE)).status, DSA_COMP_SUCCESS);
  CHECK_EQ(limited.run(good.of(DSA_OPCODE_COMPVAL)).status, DSA_COMP_BAD_OPCODE);
}

TEST(dsa_emulator_refuses_each_flag_that_is_not_legal) {
  Rig rig(blocking());
  if (!rig.ready()) return;
  const GoodDescriptors good;
  for (const Legal& legal : table()) {
    for (unsigned bit = 0; bit < 24; ++bit) {
      const uint32_t flag = 1U << bit;
      if ((flag & kRecord) != 0) continue;
      dsa_hw_desc descriptor = good.of(legal.opcode);
      descriptor.flags = (descriptor.flags | flag) & 0xffffff;
      const RecordCopy record = rig.run(descriptor);
      if (flag == IDXD_OP_FLAG_RCI) {
        CHECK_EQ(record.status, DSA_COMP_INT_HANDLE_INVAL);  // nobody has a handle
      } else if ((legal.flags & flag) != 0) {
        // Seed from address 0.
        CHECK_EQ(record.status, flag == 0x010000 ? DSA_COMP_PAGE_FAULT_NOBOF : DSA_COMP_SUCCESS);
      } else {
        CHECK_EQ(record.status, DSA_COMP_INVALID_FLAGS);
        CHECK_EQ(record.specific, uint64_t{flag});
      }
    }
  }
}

TEST(dsa_emulator_refuses_block_on_fault_where_the_queue_does) {
  const GoodDescriptors good;
  for (const bool capable : {true, false}) {
    Rig rig({.devices = {{.general_capability = capable ? uint64_t{0x40915f010f} : uint64_t{0x40915f010e},
                          .queues = {{.block_on_fault = !capable}}}}});
    if (!rig.ready()) return;
    dsa_hw_desc descriptor = good.of(DSA_OPCODE_COMPVAL);
    descriptor.flags |= IDXD_OP_FLAG_BOF;
    const RecordCopy record = rig.run(descriptor);
    CHECK_EQ(record.status, DSA_COMP_INVALID_FLAGS);
    CHECK_EQ(record.specific, uint64_t{IDXD_OP_FLAG_BOF});
  }
}

TEST(dsa_emulator_demands_a_record_where_there_must_be_one) {
  Rig rig;
  if (!rig.ready()) return;
  const GoodDescriptors good;
  for (const unsigned opcode : {DSA_OPCODE_COMPARE, DSA_OPCODE_COMPVAL, DSA_OPCODE_CRCGEN}) {
    dsa_hw_desc descriptor = good.of(opcode);
    descriptor.flags = IDXD_OP_FLAG_CRAV;
    const RecordCopy record = rig.run(descriptor);
    CHECK_EQ(record.status, DSA_COMP_INVALID_FLAGS);
    CHECK_EQ(record.specific, uint64_t{IDXD_OP_FLAG_RCR});
  }
  // Asked for, but nowhere to write it: only the error register can tell.
  dsa_hw_desc descriptor = good.of(DSA_OPCODE_NOOP);
  descriptor.flags = IDXD_OP_FLAG_RCR;
  CHECK_EQ(rig.write(&descriptor), ssize_t{64});
  CHECK_EQ(rig.emulator().poll_error(rig.fd(), 5000), 1);
  CHECK_EQ(rig.emulator().software_error(0).error, DSA_COMP_INVALID_FLAGS);
}

TEST(dsa_emulator_refuses_each_reserved_byte) {
  Rig rig(blocking());
  if (!rig.ready()) return;
  const GoodDescriptors good;
  for (const Legal& legal : table()) {
    std::array<bool, 64> reserved{};
    for (const auto& [from, to] : legal.reserved) {
      for (size_t at = from; at < to; ++at) reserved[at] = true;
    }
    // The interrupt handle, without an interrupt.
    reserved[36] = reserved[37] = true;
    for (size_t at = 0; at < 64; ++at) {
      if (!reserved[at]) continue;
      for (const uint8_t value : {uint8_t{0x01}, uint8_t{0x80}}) {
        dsa_hw_desc descriptor = good.of(legal.opcode);
        uint8_t bytes[64];
        std::memcpy(bytes, &descriptor, sizeof bytes);
        bytes[at] = value;
        std::memcpy(static_cast<void*>(&descriptor), bytes, sizeof bytes);
        CHECK_EQ(rig.run(descriptor).status, DSA_COMP_NOZERO_RESERVE);
      }
    }
  }
  // All bits but one of the expected result.
  for (const unsigned opcode : {DSA_OPCODE_COMPARE, DSA_OPCODE_COMPVAL}) {
    for (unsigned bit = 0; bit < 8; ++bit) {
      dsa_hw_desc descriptor = good.of(opcode);
      descriptor.expected_res = static_cast<uint8_t>(1U << bit);
      CHECK_EQ(rig.run(descriptor).status, bit == 0 ? DSA_COMP_SUCCESS : DSA_COMP_NOZERO_RESERVE);
    }
  }
  // Beside the PASID.
  dsa_hw_desc descriptor = good.of(DSA_OPCODE_NOOP);
  descriptor.pasid = 0xfffff;
  descriptor.priv = 1;
  CHECK_EQ(rig.run(descriptor).status, DSA_COMP_SUCCESS);  // the kernel puts its own there
  descriptor.rsvd = 1;
  CHECK_EQ(rig.run(descriptor).status, DSA_COMP_NOZERO_RESERVE);
}

TEST(dsa_emulator_holds_to_the_smaller_limit_of_queue_and_device) {
  const GoodDescriptors good;
  struct Limits {
    uint64_t queue;
    uint64_t device;
    uint32_t smaller;
  };
  for (const auto& [queue, device, smaller] : {Limits{8192, 4096, 4096}, {2048, 1 << 20, 2048}}) {
    Rig rig({.devices = {{.max_transfer_bytes = device, .queues = {{.max_transfer_bytes = queue}}}}});
    if (!rig.ready()) return;
    for (const unsigned opcode : {3U, 4U, 5U, 6U, 16U}) {
      dsa_hw_desc descriptor = good.of(opcode);
      for (const uint32_t size : {0U, 1U, smaller, smaller + 1, UINT32_MAX}) {
        descriptor.xfer_size = size;
        const bool allowed = size != 0 && size <= smaller;
        CHECK_EQ(rig.run(descriptor).status, allowed ? DSA_COMP_SUCCESS : DSA_COMP_XFER_ERANGE);
      }
    }
  }
}

TEST(dsa_emulator_refuses_batches_of_wrong_count_or_alignment) {
  Rig rig({.devices = {{.max_batch = 32, .queues = {{.max_batch = 64}}}}});
  Rig smaller({.devices = {{.general_capability = 0x40915f010f | (uint64_t{1} << 52), .queues = {{.max_batch = 8}}}}});
  if (!rig.ready()) return;
  struct alignas(64) List {
    std::array<dsa_hw_desc, 65> descriptors{};
  };
  const auto list = std::make_unique<List>();
  const auto run = [&](Rig& on, uint32_t count, size_t shift) {
    dsa_hw_desc batch = batch_of(list.get(), count, nullptr);
    batch.flags = kRecord;
    batch.desc_list_addr += shift;
    return on.run(batch).status;
  };
  for (const uint32_t count : {0U, 1U, 33U, 64U, UINT32_MAX}) CHECK_EQ(run(rig, count, 0), DSA_COMP_DESC_CNT_ERANGE);
  for (const uint32_t count : {2U, 3U, 32U}) CHECK_EQ(run(rig, count, 0), DSA_COMP_SUCCESS);
  for (const size_t shift : {1U, 8U, 32U, 63U}) CHECK_EQ(run(rig, 2, shift), DSA_COMP_DESCLIST_ALIGN);
  // With the capability, one is a batch.
  CHECK_EQ(run(smaller, 0, 0), DSA_COMP_DESC_CNT_ERANGE);
  CHECK_EQ(run(smaller, 1, 0), DSA_COMP_SUCCESS);
  CHECK_EQ(run(smaller, 8, 0), DSA_COMP_SUCCESS);
  CHECK_EQ(run(smaller, 9, 0), DSA_COMP_DESC_CNT_ERANGE);
}

TEST(dsa_emulator_refuses_a_misaligned_seed) {
  Rig rig;
  if (!rig.ready()) return;
  dsa_hw_desc descriptor = GoodDescriptors().of(DSA_OPCODE_CRCGEN);
  descriptor.flags |= 0x010000;
  descriptor.seed_addr = 0x1002;
  CHECK_EQ(rig.run(descriptor).status, DSA_COMP_ADDR_ALIGN);
}

}  // namespace vmsnap::test
