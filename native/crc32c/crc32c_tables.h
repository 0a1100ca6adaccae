// Tables of CRC-32C, computed by the compiler.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace vmsnap {

/// The polynomial 0x1EDC6F41 with its bits reversed.
inline constexpr uint32_t kCrc32cPolynomial = 0x82F63B78;

/// [k][b]: the register after byte b followed by k zero bytes.
using Crc32cTables = std::array<std::array<uint32_t, 256>, 8>;

constexpr Crc32cTables make_crc32c_tables() {
  Crc32cTables tables{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t state = byte;
    for (int bit = 0; bit < 8; ++bit) state = (state >> 1) ^ ((state & 1) != 0 ? kCrc32cPolynomial : 0);
    tables[0][byte] = state;
  }
  for (size_t k = 1; k < tables.size(); ++k) {
    for (size_t byte = 0; byte < 256; ++byte) {
      const uint32_t before = tables[k - 1][byte];
      tables[k][byte] = (before >> 8) ^ tables[0][before & 0xFF];
    }
  }
  return tables;
}

inline constexpr Crc32cTables kCrc32cTables = make_crc32c_tables();

/// Moves a register past `kZeroBytes` zero bytes: one table for each of its four bytes.
///
/// Running zeros through the register is linear over its bits, so the image of each bit is found by squaring the
/// operator "one zero byte", and the tables hold the sums for every value of each byte.
template <size_t kZeroBytes>
class Crc32cShift {
 public:
  static_assert(kZeroBytes > 0 && (kZeroBytes & (kZeroBytes - 1)) == 0, "found by squaring");

  constexpr Crc32cShift() {
    std::array<uint32_t, 32> images{};
    for (size_t bit = 0; bit < 32; ++bit) {
      const uint32_t state = uint32_t{1} << bit;
      images[bit] = (state >> 8) ^ kCrc32cTables[0][state & 0xFF];
    }
    for (size_t zero_bytes = 1; zero_bytes < kZeroBytes; zero_bytes *= 2) {
      std::array<uint32_t, 32> squared{};
      for (size_t bit = 0; bit < 32; ++bit) squared[bit] = apply(images, images[bit]);
      images = squared;
    }
    for (size_t byte = 0; byte < 4; ++byte) {
      for (uint32_t value = 0; value < 256; ++value) tables_[byte][value] = apply(images, value << (8 * byte));
    }
  }

  uint32_t operator()(uint32_t state) const {
    return tables_[0][state & 0xFF] ^ tables_[1][(state >> 8) & 0xFF] ^ tables_[2][(state >> 16) & 0xFF] ^
           tables_[3][state >> 24];
  }

 private:
  static constexpr uint32_t apply(const std::array<uint32_t, 32>& images, uint32_t state) {
    uint32_t sum = 0;
    for (size_t bit = 0; bit < 32; ++bit) {
      if (((state >> bit) & 1) != 0) sum ^= images[bit];
    }
    return sum;
  }

  std::array<std::array<uint32_t, 256>, 4> tables_{};
};

}  // namespace vmsnap
