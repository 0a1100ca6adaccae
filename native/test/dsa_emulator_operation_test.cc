// Each operation of the emulated device against a plain model, over the sizes, alignments and positions of differences
// that other test suites use.
#include <array>
#include <vector>

#include "support/emulated.h"
#include "support/random.h"

namespace vmsnap::test {

using namespace dsa;

namespace {

constexpr std::array<size_t, 11> kSizes = {1, 3, 8, 15, 64, 255, 1024, 4096, 65536, 1 << 20, 2 << 20};
constexpr std::array<size_t, 4> kAlignments = {1, 2, 4, 8};
constexpr size_t kLargest = size_t{2} << 20;

uint8_t pattern_byte(uint64_t pattern, size_t at) { return static_cast<uint8_t>(pattern >> (at % 8 * 8)); }

std::vector<size_t> positions_in(size_t size) { return {0, size / 2, size - 1}; }

/// Bit by bit: the polynomial reflected, inverted before and after.
uint32_t model_crc32c(const uint8_t* bytes, size_t size, uint32_t seed) {
  uint32_t crc = ~seed;
  for (size_t i = 0; i < size; ++i) {
    crc ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ (0x82f63b78U & (0U - (crc & 1)));
  }
  return ~crc;
}

dsa_hw_desc two_address(unsigned opcode, const void* source, const void* second, size_t size) {
  // The address of the record is filled in by Rig::run.
  dsa_hw_desc descriptor = descriptor_of(opcode, nullptr);
  descriptor.flags = IDXD_OP_FLAG_CRAV | IDXD_OP_FLAG_RCR;
  descriptor.src_addr = address_of(source);
  descriptor.dst_addr = address_of(second);
  descriptor.xfer_size = static_cast<uint32_t>(size);
  return descriptor;
}

dsa_hw_desc compval(const void* source, size_t size, uint64_t pattern) {
  dsa_hw_desc descriptor = two_address(DSA_OPCODE_COMPVAL, source, nullptr, size);
  descriptor.comp_pattern = pattern;
  return descriptor;
}

dsa_hw_desc fill_with(uint64_t pattern, void* destination, size_t size) {
  dsa_hw_desc descriptor = two_address(DSA_OPCODE_MEMFILL, nullptr, destination, size);
  descriptor.pattern = pattern;
  return descriptor;
}

}  // namespace

TEST(dsa_emulator_executes_descriptors_as_bytes) {
  Rig rig;
  if (!rig.ready()) return;
  // The same as a structure would be, by its bytes alone.
  Pages pages(2);
  pages.fill(0);
  auto record = std::make_unique<CompletionRecord>();
  std::array<uint8_t, 64> bytes{};
  const auto put = [&](size_t at, uint64_t value, size_t size) { std::memcpy(bytes.data() + at, &value, size); };
  put(4, 0x0600000c, 4);
  put(8, address_of(record.get()), 8);
  put(16, address_of(pages.at()), 8);
  put(32, 4096, 4);
  const auto run = [&] {
    std::memset(static_cast<void*>(&record->hw), 0, sizeof record->hw);
    CHECK_EQ(rig.write(bytes.data()), ssize_t{64});
    await_record(*record);
    std::array<uint8_t, 32> answer;
    std::memcpy(answer.data(), &record->hw, answer.size());
    return answer;
  };
  std::array<uint8_t, 32> expected = {1};
  CHECK(run() == expected);
  pages.at()[32] = 1;
  expected = {1, 1, 0, 0, 0x20};
  CHECK(run() == expected);

  // A fault at the second page.
  pages.at()[32] = 0;
  madvise(pages.at(4096), 4096, MADV_DONTNEED);
  put(32, 8192, 4);
  expected = {3, 0, 0, 0, 0, 0x10};
  const uint64_t fault_address = address_of(pages.at(4096));
  std::memcpy(expected.data() + 8, &fault_address, 8);
  CHECK(run() == expected);

  // Filling it: the same as a write fault.
  bytes = {};
  put(4, 0x0400000c, 4);
  put(8, address_of(record.get()), 8);
  put(24, address_of(pages.at()), 8);
  put(32, 8192, 4);
  expected[0] = 0x83;
  CHECK(run() == expected);

  // NOOP.
  bytes = {};
  put(4, 0x0000000c, 4);
  put(8, address_of(record.get()), 8);
  expected = {1};
  CHECK(run() == expected);
}

TEST(dsa_emulator_compares_with_a_pattern) {
  Rig rig;
  if (!rig.ready()) return;
  Pages pages(kLargest / 4096 + 2);
  for (const uint64_t pattern : {uint64_t{0}, uint64_t{0x0123456789abcdef}}) {
    for (const size_t size : kSizes) {
      for (const size_t alignment : kAlignments) {
        // Bytes around it differ.
        std::memset(pages.at(), 0xee, size + 32);
        uint8_t* source = pages.at(8 + alignment);
        for (size_t i = 0; i < size; ++i) source[i] = pattern_byte(pattern, i);
        RecordCopy record = rig.run(compval(source, size, pattern));
        CHECK_EQ(record.status, DSA_COMP_SUCCESS);
        CHECK_EQ(record.result, 0);
        CHECK_EQ(record.bytes_completed, 0U);
        for (const size_t position : positions_in(size)) {
          source[position] ^= 0x10;
          record = rig.run(compval(source, size, pattern));
          CHECK_EQ(record.status, DSA_COMP_SUCCESS);
          CHECK_EQ(record.result, 1);
          CHECK(record.bytes_completed <= position && position - record.bytes_completed < 32);
          source[position] ^= 0x10;
        }
      }
    }
  }
}

TEST(dsa_emulator_tells_a_difference_as_coarsely_as_wanted) {
  for (const uint32_t granularity : {1U, 32U, 64U, 4096U}) {
    Rig rig({.devices = {{.difference_granularity_bytes = granularity}}});
    if (!rig.ready()) return;
    Pages pages(4);
    pages.fill(0);
    for (const size_t start : {0U, 5U, 4095U}) {
      for (const size_t position : {0U, 1U, 31U, 32U, 100U, 4095U, 4096U, 8191U}) {
        pages.at(start)[position] = 1;
        const RecordCopy record = rig.run(compval(pages.at(start), 8192, 0));
        const size_t rounded = (start + position) / granularity * granularity;
        CHECK_EQ(record.result, 1);
        CHECK_EQ(size_t{record.bytes_completed}, rounded > start ? rounded - start : 0);
        pages.at(start)[position] = 0;
      }
    }
  }
}

TEST(dsa_emulator_compares_two_buffers_exactly) {
  Rig rig;
  if (!rig.ready()) return;
  Pages left(kLargest / 4096 + 1);
  Pages right(kLargest / 4096 + 1);
  const std::vector<uint8_t> data = Random(5).bytes(kLargest);
  for (const size_t size : kSizes) {
    for (const size_t alignment : kAlignments) {
      left.fill(0);
      right.fill(1);
      uint8_t* first = left.at(alignment);
      uint8_t* second = right.at(9 - alignment);
      std::memcpy(first, data.data(), size);
      std::memcpy(second, data.data(), size);
      RecordCopy record = rig.run(two_address(DSA_OPCODE_COMPARE, first, second, size));
      CHECK_EQ(record.status, DSA_COMP_SUCCESS);
      CHECK_EQ(record.result, 0);
      for (const size_t position : positions_in(size)) {
        second[position] ^= 1;
        record = rig.run(two_address(DSA_OPCODE_COMPARE, first, second, size));
        CHECK_EQ(record.result, 1);
        CHECK_EQ(size_t{record.bytes_completed}, position);
        second[position] ^= 1;
      }
    }
  }
}

TEST(dsa_emulator_tells_whether_a_result_is_as_expected) {
  Rig rig;
  if (!rig.ready()) return;
  Pages pages(1);
  pages.fill(0);
  for (const uint8_t differs : {uint8_t{0}, uint8_t{1}}) {
    pages.at()[100] = differs;
    for (const uint8_t expected : {uint8_t{0}, uint8_t{1}}) {
      dsa_hw_desc descriptor = compval(pages.at(), 4096, 0);
      descriptor.flags |= IDXD_OP_FLAG_CR;
      descriptor.expected_res = expected;
      const RecordCopy record = rig.run(descriptor);
      CHECK_EQ(record.status, differs == expected ? DSA_COMP_SUCCESS : DSA_COMP_SUCCESS_PRED);
      CHECK_EQ(record.result, differs);
    }
  }
}

TEST(dsa_emulator_moves_memory) {
  Rig rig;
  if (!rig.ready()) return;
  Pages from(kLargest / 4096 + 1);
  Pages to(kLargest / 4096 + 1);
  const std::vector<uint8_t> data = Random(6).bytes(from.size_bytes());
  std::memcpy(from.at(), data.data(), data.size());
  for (const size_t size : kSizes) {
    for (const size_t alignment : kAlignments) {
      std::memset(to.at(), 0xcc, to.size_bytes());
      const RecordCopy record =
          rig.run(two_address(DSA_OPCODE_MEMMOVE, from.at(alignment), to.at(9 - alignment), size));
      CHECK_EQ(record.status, DSA_COMP_SUCCESS);
      CHECK_EQ(record.bytes_completed, 0U);
      CHECK(std::memcmp(to.at(9 - alignment), data.data() + alignment, size) == 0);
      CHECK_EQ(to.at(9 - alignment)[-1], 0xcc);
      CHECK_EQ(to.at(9 - alignment)[size], 0xcc);
    }
  }
}

TEST(dsa_emulator_moves_memory_onto_itself) {
  for (const bool can_overlap : {true, false}) {
    Rig rig({.devices = {{.general_capability = can_overlap ? uint64_t{0x40915f010f} : uint64_t{0x40915f010d}}}});
    if (!rig.ready()) return;
    Pages pages(100);
    const std::vector<uint8_t> data = Random(7).bytes(pages.size_bytes());
    for (const auto& [from, to] : {std::pair<size_t, size_t>{0, 1}, {1, 0}, {5000, 9000}, {9000, 5000}, {7, 7}}) {
      constexpr size_t kSize = 300'000;
      std::memcpy(pages.at(), data.data(), data.size());
      const RecordCopy record = rig.run(two_address(DSA_OPCODE_MEMMOVE, pages.at(from), pages.at(to), kSize));
      CHECK_EQ(record.status, can_overlap ? DSA_COMP_SUCCESS : DSA_COMP_OVERLAP_BUFFERS);
      std::vector<uint8_t> expected = data;
      if (can_overlap) std::memmove(expected.data() + to, expected.data() + from, kSize);
      CHECK(std::memcmp(pages.at(), expected.data(), expected.size()) == 0);
    }
  }
}

TEST(dsa_emulator_fills_memory) {
  Rig rig;
  if (!rig.ready()) return;
  Pages pages(kLargest / 4096 + 1);
  const uint64_t pattern = 0x0123456789abcdef;
  for (const size_t size : kSizes) {
    for (const size_t alignment : kAlignments) {
      std::memset(pages.at(), 0xcc, pages.size_bytes());
      const RecordCopy record = rig.run(fill_with(pattern, pages.at(alignment), size));
      CHECK_EQ(record.status, DSA_COMP_SUCCESS);
      bool right = true;
      for (size_t i = 0; i < size; ++i) right = right && pages.at(alignment)[i] == pattern_byte(pattern, i);
      CHECK(right);
      CHECK_EQ(pages.at(alignment)[-1], 0xcc);
      CHECK_EQ(pages.at(alignment)[size], 0xcc);
    }
  }
}

TEST(dsa_emulator_takes_a_crc) {
  Rig rig;
  if (!rig.ready()) return;
  const std::vector<uint8_t> data = Random(8).bytes(kLargest + 8);
  const auto crc_of = [](const RecordCopy& record) { return static_cast<uint32_t>(record.specific); };
  RecordCopy record = rig.run(two_address(DSA_OPCODE_CRCGEN, "123456789", nullptr, 9));
  CHECK_EQ(record.status, DSA_COMP_SUCCESS);
  CHECK_EQ(crc_of(record), 0xe3069283U);  // the check value of the CRC catalogues
  for (const size_t size : kSizes) {
    for (const size_t alignment : kAlignments) {
      dsa_hw_desc descriptor = two_address(DSA_OPCODE_CRCGEN, data.data() + alignment, nullptr, size);
      descriptor.crc_seed = 0x12345678;
      record = rig.run(descriptor);
      CHECK_EQ(record.status, DSA_COMP_SUCCESS);
      CHECK_EQ(crc_of(record), model_crc32c(data.data() + alignment, size, 0x12345678));
    }
  }
  // The seed from memory: where the record before has it.
  auto before = std::make_unique<CompletionRecord>();
  before->hw.crc_val = 0x12345678;
  dsa_hw_desc descriptor = two_address(DSA_OPCODE_CRCGEN, data.data(), nullptr, 1000);
  descriptor.flags |= 0x010000;
  descriptor.seed_addr = address_of(&before->hw) + 16;
  record = rig.run(descriptor);
  CHECK_EQ(record.status, DSA_COMP_SUCCESS);
  CHECK_EQ(crc_of(record), model_crc32c(data.data(), 1000, 0x12345678));
}

TEST(dsa_emulator_writes_no_record_that_was_not_asked_for) {
  Rig rig;
  if (!rig.ready()) return;
  Pages pages(1);
  pages.fill(0);
  auto record = std::make_unique<CompletionRecord>();
  // A record is named, but only for errors; then none is named.
  dsa_hw_desc descriptor = fill_with(0x1111111111111111, pages.at(), 8);
  descriptor.completion_addr = address_of(record.get());
  descriptor.flags = IDXD_OP_FLAG_CRAV;
  CHECK_EQ(rig.write(&descriptor), ssize_t{64});
  descriptor.dst_addr += 8;
  descriptor.completion_addr = 0;
  descriptor.flags = 0;
  CHECK_EQ(rig.write(&descriptor), ssize_t{64});
  CHECK_EQ(rig.run(descriptor_of(DSA_OPCODE_DRAIN, record.get())).status, DSA_COMP_SUCCESS);
  CHECK_EQ(await_record(*record, 0), DSA_COMP_NONE);
  CHECK_EQ(pages.at()[15], 0x11);
  CHECK_EQ(pages.at()[16], 0);
  // An error is written though.
  descriptor = fill_with(0, pages.at(), 0);
  descriptor.completion_addr = address_of(record.get());
  descriptor.flags = IDXD_OP_FLAG_CRAV;
  CHECK_EQ(rig.write(&descriptor), ssize_t{64});
  CHECK_EQ(await_record(*record), DSA_COMP_XFER_ERANGE);
}

TEST(dsa_emulator_compares_a_large_region_at_once) {
  Rig rig;
  if (!rig.ready()) return;
  constexpr size_t kSize = size_t{256} << 20;
  void* memory = mmap(nullptr, kSize, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  CHECK(memory != MAP_FAILED);
  if (memory == MAP_FAILED) return;
  const RecordCopy record = rig.run(compval(memory, kSize, 0));
  CHECK_EQ(record.status, DSA_COMP_SUCCESS);
  CHECK_EQ(record.result, 0);
  munmap(memory, kSize);
}

}  // namespace vmsnap::test
