// Each CRC-32C implementation in turn against the definition, bit by bit.
#include <cstring>
#include <vector>

#include "../crc32c/crc32c.h"
#include "../crc32c/crc32c_tables.h"
#include "support/check.h"
#include "support/random.h"

namespace vmsnap::test {

namespace {

uint32_t bitwise(uint32_t state, const uint8_t* bytes, size_t size_bytes) {
  for (size_t i = 0; i < size_bytes; ++i) {
    state ^= bytes[i];
    for (int bit = 0; bit < 8; ++bit) state = (state >> 1) ^ ((state & 1) != 0 ? 0x82F63B78U : 0U);
  }
  return state;
}

uint32_t crc_of(const Crc32cImplementation& implementation, const std::vector<uint8_t>& bytes) {
  return ~implementation.update(~0U, bytes.data(), bytes.size());
}

template <class Visit>
void for_each_implementation(Visit&& visit) {
  for (const Crc32cImplementation& implementation : crc32c_implementations()) {
    if (implementation.available) {
      visit(implementation);
    } else {
      skip(std::string(implementation.name) + " is not available on this CPU");
    }
  }
}

}  // namespace

TEST(crc32c_gives_the_published_values) {
  for_each_implementation([](const Crc32cImplementation& implementation) {
    const char* digits = "123456789";
    CHECK_EQ(crc_of(implementation, {digits, digits + 9}), 0xE3069283U);
    // RFC 3720 B.4
    CHECK_EQ(crc_of(implementation, std::vector<uint8_t>(32, 0x00)), 0x8A9136AAU);
    CHECK_EQ(crc_of(implementation, std::vector<uint8_t>(32, 0xFF)), 0x62A8AB43U);
    std::vector<uint8_t> rising(32);
    for (uint8_t i = 0; i < 32; ++i) rising[i] = i;
    CHECK_EQ(crc_of(implementation, rising), 0x46DD794EU);
    CHECK_EQ(crc_of(implementation, {}), 0U);
  });
}

TEST(crc32c_is_right_for_every_short_length_and_alignment) {
  for_each_implementation([](const Crc32cImplementation& implementation) {
    Random random(3);
    const std::vector<uint8_t> bytes = random.bytes(1024 + 16);
    for (size_t size_bytes = 0; size_bytes < 1024; ++size_bytes) {
      for (size_t offset = 0; offset < 16; ++offset) {
        const auto state = static_cast<uint32_t>(random.next());
        const uint8_t* from = bytes.data() + offset;
        CHECK_EQ(implementation.update(state, from, size_bytes), bitwise(state, from, size_bytes));
      }
    }
  });
}

TEST(crc32c_is_right_for_long_buffers) {
  for_each_implementation([](const Crc32cImplementation& implementation) {
    Random random(4);
    const std::vector<uint8_t> bytes = random.bytes(300'000);
    for (const size_t size_bytes : {3 * 4096 - 1, 3 * 4096, 3 * 4096 + 1, 4 * 4096, 65536, 262144, 299'993}) {
      const uint8_t* from = bytes.data() + random.below(8);
      CHECK_EQ(implementation.update(~0U, from, size_bytes - 8), bitwise(~0U, from, size_bytes - 8));
    }
  });
}

TEST(crc32c_continues_from_a_seed) {
  Random random(5);
  const std::vector<uint8_t> bytes = random.bytes(100'000);
  const uint32_t whole = crc32c(bytes.data(), bytes.size(), 0);
  CHECK_EQ(whole, ~bitwise(~0U, bytes.data(), bytes.size()));
  for (int round = 0; round < 100; ++round) {
    const size_t cut = random.below(bytes.size() + 1);
    CHECK_EQ(crc32c(bytes.data() + cut, bytes.size() - cut, crc32c(bytes.data(), cut, 0)), whole);
  }
}

TEST(crc32c_uses_the_best_available) {
  for (const Crc32cImplementation& implementation : crc32c_implementations()) {
    if (!implementation.available) continue;
    CHECK_EQ(crc32c_implementation().name, implementation.name);
    break;
  }
}

}  // namespace vmsnap::test
