// Pages that are not there: in sources, destinations and records, with and without block on fault, and memory that
// cannot be had at all.
#include <array>
#include <memory>

#include "support/emulated.h"
#include "support/temp_file.h"

namespace vmsnap::test {

using namespace dsa;

namespace {

constexpr size_t kSize = size_t{3} * 4096;

dsa_hw_desc operation(unsigned opcode, const void* source, const void* second, uint32_t extra_flags) {
  dsa_hw_desc descriptor{};
  descriptor.opcode = opcode & 0xff;
  descriptor.flags = (IDXD_OP_FLAG_CRAV | IDXD_OP_FLAG_RCR | extra_flags) & 0xffffff;
  descriptor.src_addr = address_of(source);
  descriptor.dst_addr = address_of(second);
  descriptor.xfer_size = kSize;
  return descriptor;
}

enum class Absence { untouched, forbidden, unmapped };

/// Three pages of zeros, of which the middle one is absent.
void make_absent(Pages& pages, Absence absence) {
  pages.fill(0);
  madvise(pages.at(4096), 4096, MADV_DONTNEED);
  if (absence == Absence::forbidden) {
    pages.at(4096)[0] = 0;
    mprotect(pages.at(4096), 4096, PROT_NONE);
  }
  if (absence == Absence::unmapped) pages.unmap_page(4096);
}

void check_fault(const RecordCopy& record, const Pages& pages, bool blocks, bool is_write) {
  const uint8_t code = blocks ? DSA_COMP_PAGE_FAULT_IR : DSA_COMP_PAGE_FAULT_NOBOF;
  CHECK_EQ(record.status, code | (is_write ? 0x80 : 0));
  CHECK_EQ(record.result, 0);
  CHECK_EQ(record.bytes_completed, 4096U);
  CHECK_EQ(record.fault_address, address_of(pages.at(4096)));
  CHECK_EQ(record.fault_info, 0);
}

struct Case {
  unsigned opcode;
  bool first_address;
  bool is_write;
};
// Every memory operand of every operation.
constexpr std::array<Case, 7> kCases = {{{DSA_OPCODE_COMPVAL, true, false},
                                         {DSA_OPCODE_COMPARE, true, false},
                                         {DSA_OPCODE_COMPARE, false, false},
                                         {DSA_OPCODE_CRCGEN, true, false},
                                         {DSA_OPCODE_MEMMOVE, true, false},
                                         {DSA_OPCODE_MEMMOVE, false, true},
                                         {DSA_OPCODE_MEMFILL, false, true}}};

dsa_hw_desc faulting(const Case& shape, const Pages& absent, const Pages& other, uint32_t flags) {
  dsa_hw_desc descriptor = operation(shape.opcode, nullptr, nullptr, flags);
  const bool has_first = shape.opcode != DSA_OPCODE_MEMFILL;
  const bool has_second = shape.opcode != DSA_OPCODE_COMPVAL && shape.opcode != DSA_OPCODE_CRCGEN;
  if (has_first) descriptor.src_addr = address_of(shape.first_address ? absent.at() : other.at());
  if (has_second) descriptor.dst_addr = address_of(shape.first_address ? other.at() : absent.at());
  return descriptor;
}

}  // namespace

TEST(dsa_emulator_ends_partially_at_a_page_that_is_not_there) {
  Rig rig;
  if (!rig.ready()) return;
  for (const Absence absence : {Absence::untouched, Absence::forbidden, Absence::unmapped}) {
    for (const Case& shape : kCases) {
      Pages absent(3);
      Pages other(3);
      other.fill(0);
      make_absent(absent, absence);
      check_fault(rig.run(faulting(shape, absent, other, 0)), absent, false, shape.is_write);
    }
  }
}

TEST(dsa_emulator_resumes_where_a_page_was_missing) {
  Rig rig;
  if (!rig.ready()) return;
  Pages pages(3);
  make_absent(pages, Absence::untouched);
  dsa_hw_desc descriptor = operation(DSA_OPCODE_COMPVAL, pages.at(), nullptr, 0);
  RecordCopy record = rig.run(descriptor);
  check_fault(record, pages, false, false);
  // Again: the same, and looking did not make the page present.
  check_fault(rig.run(descriptor), pages, false, false);
  pages.at(4096)[5] = 1;
  descriptor.src_addr += record.bytes_completed;
  descriptor.xfer_size -= record.bytes_completed;
  record = rig.run(descriptor);
  CHECK_EQ(record.status, DSA_COMP_SUCCESS);
  CHECK_EQ(record.result, 1);
}

TEST(dsa_emulator_keeps_a_partial_crc) {
  Rig rig;
  if (!rig.ready()) return;
  Pages pages(3);
  make_absent(pages, Absence::untouched);
  pages.at()[100] = 7;
  pages.at(8192)[1] = 7;
  dsa_hw_desc rest = operation(DSA_OPCODE_CRCGEN, pages.at(), nullptr, 0);
  const RecordCopy part = rig.run(rest);
  check_fault(part, pages, false, false);
  pages.at(4096)[0] = 3;
  const RecordCopy whole = rig.run(rest);
  CHECK_EQ(whole.status, DSA_COMP_SUCCESS);
  rest.src_addr += 4096;
  rest.xfer_size -= 4096;
  rest.crc_seed = static_cast<uint32_t>(part.specific);
  CHECK_EQ(rig.run(rest).specific, whole.specific);
}

TEST(dsa_emulator_blocks_on_a_fault_until_the_page_is_there) {
  Rig rig({.devices = {{.queues = {{.block_on_fault = true}}}}});
  if (!rig.ready()) return;
  for (const Absence absence : {Absence::untouched, Absence::forbidden, Absence::unmapped}) {
    for (const Case& shape : kCases) {
      Pages absent(3);
      Pages other(3);
      other.fill(0);
      make_absent(absent, absence);
      const RecordCopy record = rig.run(faulting(shape, absent, other, IDXD_OP_FLAG_BOF));
      if (absence == Absence::untouched) {
        CHECK_EQ(record.status, DSA_COMP_SUCCESS);
        CHECK_EQ(record.result, 0);
      } else {
        check_fault(record, absent, true, shape.is_write);
      }
    }
  }
}

TEST(dsa_emulator_tells_which_operand_faulted_if_it_can) {
  Rig rig({.devices = {{.general_capability = 0x40915f010f | (1U << 12)}}});
  if (!rig.ready()) return;
  for (const Case& shape : kCases) {
    Pages absent(3);
    Pages other(3);
    other.fill(0);
    make_absent(absent, Absence::untouched);
    const RecordCopy record = rig.run(faulting(shape, absent, other, 0));
    const int operand = shape.first_address ? 1 : shape.opcode == DSA_OPCODE_COMPARE ? 2 : 3;
    CHECK_EQ(record.fault_info, operand << 1 | 1);
  }
}

TEST(dsa_emulator_faults_at_the_first_byte_and_in_the_middle_of_a_page) {
  Rig rig;
  if (!rig.ready()) return;
  Pages pages(3);
  make_absent(pages, Absence::unmapped);
  dsa_hw_desc descriptor = operation(DSA_OPCODE_COMPVAL, pages.at(4096), nullptr, 0);
  RecordCopy record = rig.run(descriptor);
  CHECK_EQ(record.status, DSA_COMP_PAGE_FAULT_NOBOF);
  CHECK_EQ(record.bytes_completed, 0U);
  descriptor.src_addr = address_of(pages.at(4001));
  record = rig.run(descriptor);
  CHECK_EQ(record.status, DSA_COMP_PAGE_FAULT_NOBOF);
  CHECK_EQ(record.bytes_completed, 95U);
  // A difference before the fault is an answer.
  pages.at(4001)[50] = 1;
  record = rig.run(descriptor);
  CHECK_EQ(record.status, DSA_COMP_SUCCESS);
  CHECK_EQ(record.result, 1);
  for (const uint64_t nowhere : {uint64_t{0}, uint64_t{0xffff'8000'0000'0000}, uint64_t{0xffff'ffff'ffff'f000},
                                 uint64_t{0x7fff'ffff'f000}, uint64_t{0x00ff'ffff'ffff'f000}}) {
    descriptor.src_addr = nowhere;
    record = rig.run(descriptor);
    CHECK_EQ(record.status, DSA_COMP_PAGE_FAULT_NOBOF);
    CHECK_EQ(record.bytes_completed, 0U);
  }
}

TEST(dsa_emulator_outlives_a_file_that_becomes_shorter) {
  Rig rig({.devices = {{.queues = {{.block_on_fault = true}}}}});
  if (!rig.ready()) return;
  for (const std::string& folder : folders_to_try()) {
    const UniqueFd file = temp_file(folder);
    CHECK_EQ(ftruncate(file.get(), kSize), 0);
    void* memory = mmap(nullptr, kSize, PROT_READ, MAP_SHARED | MAP_POPULATE, file.get(), 0);
    if (memory == MAP_FAILED) std::abort();
    CHECK_EQ(rig.run(operation(DSA_OPCODE_COMPVAL, memory, nullptr, IDXD_OP_FLAG_BOF)).status, DSA_COMP_SUCCESS);
    CHECK_EQ(ftruncate(file.get(), 5000), 0);
    for (const uint32_t block : {0U, 2U}) {
      const RecordCopy record = rig.run(operation(DSA_OPCODE_COMPVAL, memory, nullptr, block));
      CHECK_EQ(record.status, block != 0 ? DSA_COMP_PAGE_FAULT_IR : DSA_COMP_PAGE_FAULT_NOBOF);
      CHECK_EQ(record.bytes_completed, 8192U);
    }
    munmap(memory, kSize);
  }
}

TEST(dsa_emulator_writes_nothing_to_memory_that_may_only_be_read) {
  Rig rig({.devices = {{.queues = {{.block_on_fault = true}}}}});
  if (!rig.ready()) return;
  Pages pages(3);
  pages.fill(0);
  mprotect(pages.at(4096), 4096, PROT_READ);
  check_fault(rig.run(operation(DSA_OPCODE_MEMFILL, nullptr, pages.at(), 0)), pages, false, true);
  check_fault(rig.run(operation(DSA_OPCODE_MEMFILL, nullptr, pages.at(), IDXD_OP_FLAG_BOF)), pages, true, true);
}

TEST(dsa_emulator_writes_no_record_where_it_cannot) {
  for (const bool page_requests : {true, false}) {
    Rig rig({.devices = {{.queues = {{.page_requests = page_requests}}}}});
    if (!rig.ready()) return;
    Pages pages(2);
    dsa_hw_desc descriptor = descriptor_of(DSA_OPCODE_NOOP, reinterpret_cast<CompletionRecord*>(pages.at()));
    CHECK_EQ(rig.write(&descriptor), ssize_t{64});
    CHECK_EQ(rig.run(operation(DSA_OPCODE_DRAIN, nullptr, nullptr, 0)).status, DSA_COMP_NOZERO_RESERVE);
    dsa_hw_desc drain = descriptor_of(DSA_OPCODE_DRAIN, nullptr);
    drain.flags = IDXD_OP_FLAG_CRAV | IDXD_OP_FLAG_RCR;
    CHECK_EQ(rig.run(drain).status, DSA_COMP_SUCCESS);
    // A page request brings the page; without them it is the error register's.
    CHECK_EQ(rig.emulator().poll_error(rig.fd(), 0), page_requests ? 0 : 1);
    CHECK_EQ(await_record(*reinterpret_cast<CompletionRecord*>(pages.at()), 0), page_requests ? 1 : 0);
    if (!page_requests) CHECK_EQ(rig.emulator().software_error(0).error, 0x1a);

    rig.emulator().clear_software_error(0);
    CHECK_EQ(rig.emulator().poll_error(rig.fd(), 0), 0);
    pages.unmap_page(4096);
    descriptor.completion_addr = address_of(pages.at(4096));
    CHECK_EQ(rig.write(&descriptor), ssize_t{64});
    CHECK_EQ(rig.emulator().poll_error(rig.fd(), 5000), 1);
    const SoftwareError error = rig.emulator().software_error(0);
    CHECK(error.valid && !error.overflow);
    CHECK_EQ(error.error, 0x1a);
    CHECK_EQ(error.address, address_of(pages.at(4096)));
  }
}

}  // namespace vmsnap::test
