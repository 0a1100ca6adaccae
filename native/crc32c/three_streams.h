// CRC-32C by a CPU instruction, three streams at once.
//
// The instruction takes 8 bytes a cycle but answers three cycles later, so one chain of it leaves the unit idle two
// thirds of the time. Three neighbouring stretches run side by side instead; then the first register is moved past the
// length of the next stretch (a table of zero bytes, see Crc32cShift) and added to that stretch's register.
//
// To be included where the instruction is enabled (#pragma GCC target), each place with a Step of its own:
// `static uint32_t word(uint32_t, uint64_t)` and `static uint32_t byte(uint32_t, uint8_t)`.
#pragma once

#include "../base/word.h"
#include "crc32c_tables.h"

namespace vmsnap {

template <class Step, size_t kStretchBytes>
inline uint32_t crc32c_stretches(uint32_t state, const uint8_t*& bytes, size_t& size_bytes) {
  static constexpr Crc32cShift<kStretchBytes> shift;
  while (size_bytes >= 3 * kStretchBytes) {
    uint32_t second = 0;
    uint32_t third = 0;
    for (size_t at = 0; at < kStretchBytes; at += 8) {
      state = Step::word(state, load_word(bytes + at));
      second = Step::word(second, load_word(bytes + kStretchBytes + at));
      third = Step::word(third, load_word(bytes + 2 * kStretchBytes + at));
    }
    state = shift(shift(state) ^ second) ^ third;
    bytes += 3 * kStretchBytes;
    size_bytes -= 3 * kStretchBytes;
  }
  return state;
}

template <class Step>
inline uint32_t crc32c_three_streams(uint32_t state, const uint8_t* bytes, size_t size_bytes) {
  state = crc32c_stretches<Step, 4096>(state, bytes, size_bytes);
  state = crc32c_stretches<Step, 256>(state, bytes, size_bytes);
  for (; size_bytes >= 8; bytes += 8, size_bytes -= 8) state = Step::word(state, load_word(bytes));
  for (; size_bytes > 0; ++bytes, --size_bytes) state = Step::byte(state, *bytes);
  return state;
}

}  // namespace vmsnap
