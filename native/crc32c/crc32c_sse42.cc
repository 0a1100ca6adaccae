// The crc32 instruction of SSE4.2.
#if defined(__x86_64__)

#include <nmmintrin.h>

#include "../base/word.h"
#include "crc32c.h"
#include "crc32c_tables.h"

#pragma GCC push_options
#pragma GCC target("sse4.2")

#include "three_streams.h"

namespace vmsnap {

namespace {

struct Sse42Step {
  static uint32_t word(uint32_t state, uint64_t word) { return static_cast<uint32_t>(_mm_crc32_u64(state, word)); }
  static uint32_t byte(uint32_t state, uint8_t byte) { return _mm_crc32_u8(state, byte); }
};

}  // namespace

uint32_t crc32c_update_sse42(uint32_t state, const uint8_t* bytes, size_t size_bytes) {
  return crc32c_three_streams<Sse42Step>(state, bytes, size_bytes);
}

}  // namespace vmsnap

#pragma GCC pop_options

#endif
