#include "xxh3.h"

// x86-64: the dispatcher, a C file compiled by itself, picks SSE2, AVX2 or AVX-512 at run time. Elsewhere xxhash.h
// takes the vector unit that the target always has.
#if defined(__x86_64__)
#include <xxh_x86dispatch.h>
#else
#define XXH_INLINE_ALL
#include <xxhash.h>
#endif

namespace vmsnap {

namespace {

void store_big_endian(uint8_t* to, uint64_t value) {
  for (unsigned i = 0; i < 8; ++i) to[i] = static_cast<uint8_t>(value >> (56 - 8 * i));
}

}  // namespace

uint64_t low_64_bits(const Digest& digest) {
  uint64_t value = 0;
  for (size_t i = 8; i < digest.size(); ++i) value = value << 8 | digest[i];
  return value;
}

Digest xxh3_128(const uint8_t* bytes, size_t size_bytes) {
  // The length decides, but a null pointer must not reach the hash: its short paths form addresses from it.
  static constexpr uint8_t kNothing = 0;
  const XXH128_hash_t hash = XXH3_128bits(size_bytes == 0 ? &kNothing : bytes, size_bytes);
  Digest digest;
  store_big_endian(digest.data(), hash.high64);
  store_big_endian(digest.data() + 8, hash.low64);
  return digest;
}

}  // namespace vmsnap
