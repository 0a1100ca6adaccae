// The crc32c instructions of ARMv8 (an option of 8.0, part of 8.1).
#if defined(__aarch64__)

#include "../base/word.h"
#include "crc32c.h"
#include "crc32c_tables.h"

#pragma GCC push_options
#pragma GCC target("+crc")

#include <arm_acle.h>

#include "three_streams.h"

namespace vmsnap {

namespace {

struct Armv8Step {
  static uint32_t word(uint32_t state, uint64_t word) { return __crc32cd(state, word); }
  static uint32_t byte(uint32_t state, uint8_t byte) { return __crc32cb(state, byte); }
};

}  // namespace

uint32_t crc32c_update_armv8(uint32_t state, const uint8_t* bytes, size_t size_bytes) {
  return crc32c_three_streams<Armv8Step>(state, bytes, size_bytes);
}

}  // namespace vmsnap

#pragma GCC pop_options

#endif
