// Descriptors and records against bytes worked out by hand from the specification's tables.
#include <cstring>
#include <string>

#include "../dsa/descriptor.h"
#include "support/check.h"

namespace vmsnap::test {

namespace {

template <class Structure>
std::string hex_of(const Structure& structure) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(&structure);
  std::string text;
  for (size_t i = 0; i < sizeof structure; ++i) {
    constexpr char kDigits[] = "0123456789abcdef";
    text += kDigits[bytes[i] >> 4];
    text += kDigits[bytes[i] & 15];
  }
  return text;
}

/// Without the spaces, and with `zeros` zero bytes after it.
std::string expected(const char* words, size_t zeros) {
  std::string text;
  for (const char* p = words; *p != '\0'; ++p) {
    if (*p != ' ') text += *p;
  }
  return text + std::string(zeros * 2, '0');
}

const dsa::CompletionRecord* record_at(uintptr_t address) {
  return reinterpret_cast<const dsa::CompletionRecord*>(address);
}

dsa::CompletionRecord record_of(const std::string& hex) {
  dsa::CompletionRecord record;
  auto* bytes = reinterpret_cast<uint8_t*>(&record);
  for (size_t i = 0; i < sizeof record; ++i) {
    bytes[i] = static_cast<uint8_t>(std::stoul(hex.substr(2 * i, 2), nullptr, 16));
  }
  return record;
}

}  // namespace

TEST(dsa_descriptor_zero_check_bytes) {
  const dsa::Descriptor descriptor = dsa::zero_check_descriptor(
      reinterpret_cast<const void*>(uintptr_t{0x7f0000100000}), 4096, record_at(0x7f0000001020));
  CHECK_EQ(hex_of(descriptor),
           expected("00000000 0c000006 20100000 007f0000 00001000 007f0000 00000000 00000000 00100000 00000000", 24));
}

TEST(dsa_descriptor_batch_bytes) {
  const dsa::Descriptor descriptor = dsa::batch_descriptor(
      reinterpret_cast<const dsa::Descriptor*>(uintptr_t{0x7f0000200000}), 128, record_at(0x7f0000001000));
  CHECK_EQ(hex_of(descriptor),
           expected("00000000 0c000001 00100000 007f0000 00002000 007f0000 00000000 00000000 80000000 00000000", 24));
}

TEST(dsa_descriptor_noop_and_drain_bytes) {
  CHECK_EQ(hex_of(dsa::noop_descriptor(record_at(0x7f0000001040))),
           expected("00000000 0c000000 40100000 007f0000", 48));
  CHECK_EQ(hex_of(dsa::drain_descriptor(record_at(0x7f0000001040))),
           expected("00000000 0c000002 40100000 007f0000", 48));
}

TEST(dsa_descriptor_records_are_read_as_the_device_writes_them) {
  const dsa::CompletionRecord fault = record_of(expected("03000000 00100000 00101000 007f0000", 16));
  CHECK_EQ(dsa::status_of(fault), uint8_t{3});
  CHECK_EQ(uint32_t{fault.hw.bytes_completed}, uint32_t{4096});
  CHECK_EQ(uint64_t{fault.hw.fault_addr}, uint64_t{0x7f0000101000});
  const dsa::CompletionRecord different = record_of(expected("01010000 20000000", 24));
  CHECK_EQ(dsa::status_of(different), uint8_t{1});
  CHECK_EQ(different.hw.result, uint8_t{1});
  CHECK_EQ(uint32_t{different.hw.bytes_completed}, uint32_t{32});
}

TEST(dsa_descriptor_clearing_makes_a_record_pending) {
  dsa::CompletionRecord record = record_of(expected("83000000 00100000 00101000 007f0000", 16));
  CHECK_EQ(dsa::status_of(record), uint8_t{0x83});
  dsa::clear_record(record);
  CHECK_EQ(dsa::status_of(record), uint8_t{0});
}

}  // namespace vmsnap::test
