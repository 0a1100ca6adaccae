// Choice of the implementation at run time, and the inversion around it.
#include "crc32c.h"

#include <array>

#if defined(__aarch64__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

namespace vmsnap {

std::span<const Crc32cImplementation> crc32c_implementations() {
  static const std::array all = {
#if defined(__x86_64__)
    Crc32cImplementation{"sse4.2", __builtin_cpu_supports("sse4.2") != 0, crc32c_update_sse42},
#elif defined(__aarch64__)
    Crc32cImplementation{"armv8", (getauxval(AT_HWCAP) & HWCAP_CRC32) != 0, crc32c_update_armv8},
#endif
    Crc32cImplementation{"table", true, crc32c_update_table},
  };
  return all;
}

const Crc32cImplementation& crc32c_implementation() {
  static const Crc32cImplementation& best =
      crc32c_implementations().front().available ? crc32c_implementations().front() : crc32c_implementations().back();
  return best;
}

uint32_t crc32c(const uint8_t* bytes, size_t size_bytes, uint32_t seed) {
  return ~crc32c_implementation().update(~seed, bytes, size_bytes);
}

}  // namespace vmsnap
