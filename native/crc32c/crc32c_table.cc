// Slicing by 8: eight bytes a step, each looked up in the table for its distance from the end of the step.
#include "../base/word.h"
#include "crc32c.h"
#include "crc32c_tables.h"

namespace vmsnap {

uint32_t crc32c_update_table(uint32_t state, const uint8_t* bytes, size_t size_bytes) {
  const Crc32cTables& t = kCrc32cTables;
  for (; size_bytes >= 8; bytes += 8, size_bytes -= 8) {
    const uint64_t word = load_word(bytes) ^ state;
    state = t[7][word & 0xFF] ^ t[6][(word >> 8) & 0xFF] ^ t[5][(word >> 16) & 0xFF] ^ t[4][(word >> 24) & 0xFF] ^
            t[3][(word >> 32) & 0xFF] ^ t[2][(word >> 40) & 0xFF] ^ t[1][(word >> 48) & 0xFF] ^ t[0][word >> 56];
  }
  for (; size_bytes > 0; ++bytes, --size_bytes) state = (state >> 8) ^ t[0][(state ^ *bytes) & 0xFF];
  return state;
}

}  // namespace vmsnap
