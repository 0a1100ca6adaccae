// Batches: what may be inside, fences, results that are not as expected, and lists that cannot be read.
#include <array>
#include <memory>
#include <vector>

#include "support/emulated.h"

namespace vmsnap::test {

using namespace dsa;

namespace {

/// A batch of compares of one page each (and whatever a test makes of them), with a record for each.
class Batch {
 public:
  explicit Batch(uint32_t count)
      : count_(count), list_(count * 64 / 4096 + 1), records_(std::make_unique<CompletionRecord[]>(count)) {
    zero_.fill(0);
    data_.fill(0);
    data_.at()[77] = 1;
    for (uint32_t i = 0; i < count; ++i) member(i) = compval_of(zero_.at(), 4096, 0, &records_[i]);
  }

  dsa_hw_desc& member(uint32_t i) { return reinterpret_cast<dsa_hw_desc*>(list_.at())[i]; }
  Pages& list() { return list_; }
  void make_data(uint32_t i) { member(i).src_addr = address_of(data_.at()); }
  /// Ends with 02 unless the page is zero.
  void expect_zero(uint32_t i) { member(i).flags |= IDXD_OP_FLAG_CR; }

  RecordCopy run(Rig& rig) {
    for (uint32_t i = 0; i < count_; ++i) clear_record(records_[i]);
    dsa_hw_desc batch = batch_of(list_.at(), count_, nullptr);
    batch.flags = IDXD_OP_FLAG_CRAV | IDXD_OP_FLAG_RCR;
    return rig.run(batch);
  }
  RecordCopy record(uint32_t i) const { return copy_of(records_[i]); }
  uint8_t status(uint32_t i) const { return record(i).status; }

 private:
  uint32_t count_;
  Pages list_;
  Pages zero_{1};
  Pages data_{1};
  std::unique_ptr<CompletionRecord[]> records_;
};

EmulatorConfig in_order(bool reverse) { return {.devices = {{.reverse_members = reverse}}}; }

}  // namespace

TEST(dsa_emulator_runs_batches_of_all_sizes) {
  for (const bool reverse : {false, true}) {
    Rig rig(in_order(reverse));
    if (!rig.ready()) return;
    for (const uint32_t count : {2U, 3U, 128U, 1024U}) {
      Batch batch(count);
      for (uint32_t i = 1; i < count; i += 5) batch.make_data(i);
      const RecordCopy record = batch.run(rig);
      CHECK_EQ(record.status, DSA_COMP_SUCCESS);
      CHECK_EQ(record.bytes_completed, count);
      for (uint32_t i = 0; i < count; ++i) {
        CHECK_EQ(batch.status(i), DSA_COMP_SUCCESS);
        CHECK_EQ(batch.record(i).result, i % 5 == 1 ? 1 : 0);
      }
    }
  }
}

TEST(dsa_emulator_refuses_batches_and_drains_in_batches) {
  Rig rig;
  if (!rig.ready()) return;
  for (const unsigned opcode : {DSA_OPCODE_BATCH, DSA_OPCODE_DRAIN}) {
    Batch batch(4);
    batch.member(1).opcode = opcode & 0xff;
    const RecordCopy record = batch.run(rig);
    CHECK_EQ(record.status, DSA_COMP_BATCH_FAIL);
    CHECK_EQ(record.bytes_completed, 4U);
    CHECK_EQ(batch.status(0), DSA_COMP_SUCCESS);
    CHECK_EQ(batch.status(1), DSA_COMP_BAD_OPCODE);
    CHECK_EQ(batch.status(3), DSA_COMP_SUCCESS);
  }
}

TEST(dsa_emulator_takes_a_fence_only_in_a_batch) {
  Rig rig;
  if (!rig.ready()) return;
  Batch batch(3);
  batch.member(0).flags |= IDXD_OP_FLAG_FENCE;
  batch.member(2).flags |= IDXD_OP_FLAG_FENCE;
  CHECK_EQ(batch.run(rig).status, DSA_COMP_SUCCESS);
  const RecordCopy record = rig.run(batch.member(0));
  CHECK_EQ(record.status, DSA_COMP_INVALID_FLAGS);
  CHECK_EQ(record.specific, uint64_t{IDXD_OP_FLAG_FENCE});
}

TEST(dsa_emulator_abandons_members_behind_a_fence) {
  for (const bool reverse : {false, true}) {
    Rig rig(in_order(reverse));
    if (!rig.ready()) return;
    // Data is a success; a size of 0 is not, nor is data where none was expected.
    for (const int trouble : {0, 1, 2}) {
      Batch batch(8);
      if (trouble == 0) batch.make_data(2);
      if (trouble == 1) batch.member(2).xfer_size = 0;
      if (trouble == 2) {
        batch.expect_zero(2);
        batch.make_data(2);
      }
      batch.member(5).flags |= IDXD_OP_FLAG_FENCE;
      const RecordCopy record = batch.run(rig);
      CHECK_EQ(record.status, trouble == 0 ? DSA_COMP_SUCCESS : DSA_COMP_BATCH_FAIL);
      CHECK_EQ(record.bytes_completed, trouble == 0 ? 8U : 5U);
      CHECK_EQ(batch.status(2), trouble == 0   ? DSA_COMP_SUCCESS
                                : trouble == 1 ? DSA_COMP_XFER_ERANGE
                                               : DSA_COMP_SUCCESS_PRED);
      CHECK_EQ(batch.record(2).result, trouble == 1 ? 0 : 1);
      for (const uint32_t i : {3U, 4U}) CHECK_EQ(batch.status(i), DSA_COMP_SUCCESS);
      for (const uint32_t i : {5U, 6U, 7U}) CHECK_EQ(batch.status(i), trouble == 0 ? DSA_COMP_SUCCESS : DSA_COMP_NONE);
    }
  }
}

TEST(dsa_emulator_orders_members_by_fences) {
  for (const bool reverse : {false, true}) {
    Rig rig(in_order(reverse));
    if (!rig.ready()) return;
    // Each member copies one byte further, from what the one before has written.
    constexpr uint32_t kCount = 16;
    Batch batch(kCount);
    Pages chain(1);
    chain.fill(0);
    chain.at()[0] = 9;
    for (uint32_t i = 0; i < kCount; ++i) {
      batch.member(i).opcode = DSA_OPCODE_MEMMOVE;
      batch.member(i).flags |= IDXD_OP_FLAG_FENCE;
      batch.member(i).src_addr = address_of(chain.at(i));
      batch.member(i).dst_addr = address_of(chain.at(i + 1));
      batch.member(i).xfer_size = 1;
    }
    CHECK_EQ(batch.run(rig).status, DSA_COMP_SUCCESS);
    for (uint32_t i = 0; i <= kCount; ++i) CHECK_EQ(chain.at()[i], 9);
  }
}

TEST(dsa_emulator_tells_a_list_that_ends_in_a_fault) {
  for (const bool page_requests : {false, true}) {
    Rig rig({.devices = {{.queues = {{.page_requests = page_requests}}}}});
    if (!rig.ready()) return;
    Batch batch(128);  // two pages of list
    // A page that is not there is brought by a page request; one that cannot be is a fault either way.
    for (const bool can_be_had : {true, false}) {
      madvise(batch.list().at(4096), 4096, MADV_DONTNEED);
      if (!can_be_had) batch.list().unmap_page(4096);
      const RecordCopy record = batch.run(rig);
      if (can_be_had && page_requests) {
        // Zeros came: NOOPs without a record.
        CHECK_EQ(record.status, DSA_COMP_SUCCESS);
        CHECK_EQ(record.bytes_completed, 128U);
      } else {
        CHECK_EQ(record.status, DSA_COMP_BATCH_PAGE_FAULT);
        CHECK_EQ(record.bytes_completed, 64U);
        CHECK_EQ(record.fault_address, address_of(batch.list().at(4096)));
      }
      CHECK_EQ(batch.status(63), DSA_COMP_SUCCESS);
      CHECK_EQ(batch.status(64), DSA_COMP_NONE);
    }
    // Nothing of it can be read.
    batch.list().unmap_page(0);
    const RecordCopy record = batch.run(rig);
    CHECK_EQ(record.status, DSA_COMP_BATCH_PAGE_FAULT);
    CHECK_EQ(record.bytes_completed, 0U);
  }
}

TEST(dsa_emulator_ends_a_batch_in_a_fault_as_planned) {
  Rig rig({.faults = {{.kind = FaultKind::batch_list_fault, .first = 1, .value = 5}}});
  if (!rig.ready()) return;
  Batch batch(8);
  CHECK_EQ(batch.run(rig).status, DSA_COMP_SUCCESS);
  const RecordCopy record = batch.run(rig);
  CHECK_EQ(record.status, DSA_COMP_BATCH_PAGE_FAULT);
  CHECK_EQ(record.bytes_completed, 5U);
  CHECK_EQ(batch.status(4), DSA_COMP_SUCCESS);
  CHECK_EQ(batch.status(5), DSA_COMP_NONE);
  CHECK_EQ(batch.run(rig).status, DSA_COMP_SUCCESS);
}

TEST(dsa_emulator_fails_a_batch_with_a_member_whose_record_is_misaligned) {
  Rig rig;
  if (!rig.ready()) return;
  Batch batch(4);
  batch.member(2).completion_addr += 8;
  const RecordCopy record = batch.run(rig);
  CHECK_EQ(record.status, DSA_COMP_BATCH_FAIL);
  CHECK_EQ(record.bytes_completed, 4U);
  CHECK_EQ(batch.status(2), DSA_COMP_NONE);
  CHECK_EQ(rig.emulator().poll_error(rig.fd(), 0), 1);
  CHECK_EQ(rig.emulator().software_error(0).error, 0x1b);
}

TEST(dsa_emulator_resumes_members_that_fault) {
  Rig rig;
  if (!rig.ready()) return;
  Batch batch(3);
  Pages memory(2);
  memory.at()[0] = 0;  // only the first page is there
  batch.member(1).src_addr = address_of(memory.at());
  batch.member(1).xfer_size = 8192;
  CHECK_EQ(batch.run(rig).status, DSA_COMP_BATCH_FAIL);
  CHECK_EQ(batch.status(0), DSA_COMP_SUCCESS);
  CHECK_EQ(batch.status(1), DSA_COMP_PAGE_FAULT_NOBOF);
  CHECK_EQ(batch.record(1).bytes_completed, 4096U);
  CHECK_EQ(batch.status(2), DSA_COMP_SUCCESS);
}

}  // namespace vmsnap::test
