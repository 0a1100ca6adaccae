// Every status that a device can write has its class, whatever stands in the two bits beside it.
#include <cstdio>
#include <cstring>
#include <vector>

#include "../dsa/status.h"
#include "support/check.h"

namespace vmsnap::test {

namespace {

using dsa::StatusClass;

StatusClass expected_class(unsigned code) {
  switch (code) {
    case 0x00:
      return StatusClass::pending;
    case 0x01:
    case 0x02:
      return StatusClass::done;
    case 0x03:
      return StatusClass::resume;
    case 0x04:
      return StatusClass::unreadable;
    case 0x05:
      return StatusClass::look_inside;
    case 0x06:
      return StatusClass::resume_batch;
    case 0x1a:
    case 0x1f:
    case 0x20:
    case 0x21:
    case 0x22:
      return StatusClass::device_trouble;
    default:
      break;
  }
  const bool told = (code >= 0x07 && code <= 0x09) || (code >= 0x10 && code <= 0x1e);
  return told ? StatusClass::caller_error : StatusClass::foreign;
}

}  // namespace

TEST(dsa_status_classes) {
  for (unsigned status = 0; status < 256; ++status) {
    CHECK(dsa::classify(static_cast<uint8_t>(status)) == expected_class(status & 0x3f));
  }
}

TEST(dsa_status_words_name_the_code) {
  for (unsigned code = 0; code < 64; ++code) {
    const char* words = dsa::describe(static_cast<uint8_t>(code));
    if (expected_class(code) == StatusClass::foreign) continue;
    char number[8];
    std::snprintf(number, sizeof number, "(%02x)", code);
    CHECK(std::strstr(words, number) != nullptr);
    CHECK(std::strcmp(words, dsa::describe(static_cast<uint8_t>(code | 0x80))) == 0);
  }
}

}  // namespace vmsnap::test
