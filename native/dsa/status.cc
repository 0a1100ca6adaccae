#include "status.h"

#include "descriptor.h"

namespace vmsnap::dsa {

namespace {

/// 1a, 1b and 1d never reach a record: they are told by the software error register.
struct StatusName {
  uint8_t status;
  StatusClass meaning;
  const char* words;
};

constexpr StatusName kStatuses[] = {
    {0x00, StatusClass::pending, "not written (00)"},
    {0x01, StatusClass::done, "success (01)"},
    {0x02, StatusClass::done, "success with false predicate (02)"},
    {0x03, StatusClass::resume, "page fault (03)"},
    {0x04, StatusClass::unreadable, "page request refused (04)"},
    {0x05, StatusClass::look_inside, "failed members in a batch (05)"},
    {0x06, StatusClass::resume_batch, "page fault on a batch list (06)"},
    {0x07, StatusClass::caller_error, "delta offsets not increasing (07)"},
    {0x08, StatusClass::caller_error, "delta offset out of range (08)"},
    {0x09, StatusClass::caller_error, "DIF error (09)"},
    {0x10, StatusClass::caller_error, "unsupported operation (10)"},
    {0x11, StatusClass::caller_error, "invalid flags (11)"},
    {0x12, StatusClass::caller_error, "reserved field not zero (12)"},
    {0x13, StatusClass::caller_error, "transfer size out of range (13)"},
    {0x14, StatusClass::caller_error, "descriptor count out of range (14)"},
    {0x15, StatusClass::caller_error, "delta record size out of range (15)"},
    {0x16, StatusClass::caller_error, "buffers overlap (16)"},
    {0x17, StatusClass::caller_error, "dualcast addresses (17)"},
    {0x18, StatusClass::caller_error, "descriptor list not aligned (18)"},
    {0x19, StatusClass::caller_error, "invalid interrupt handle (19)"},
    {0x1a, StatusClass::device_trouble, "completion record not reachable (1a)"},
    {0x1b, StatusClass::caller_error, "completion record not aligned (1b)"},
    {0x1c, StatusClass::caller_error, "address not aligned (1c)"},
    {0x1d, StatusClass::caller_error, "privilege error (1d)"},
    {0x1e, StatusClass::caller_error, "invalid traffic class (1e)"},
    {0x1f, StatusClass::device_trouble, "page fault on readback (1f)"},
    {0x20, StatusClass::device_trouble, "hardware read error or timeout (20)"},
    {0x21, StatusClass::device_trouble, "hardware write error (21)"},
    {0x22, StatusClass::device_trouble, "address translation failed (22)"},
};

const StatusName* find(uint8_t status) {
  const uint8_t code = status & kStatusCodeMask;
  for (const StatusName& name : kStatuses) {
    if (name.status == code) return &name;
  }
  return nullptr;
}

}  // namespace

StatusClass classify(uint8_t status) {
  const StatusName* name = find(status);
  return name == nullptr ? StatusClass::foreign : name->meaning;
}

const char* describe(uint8_t status) {
  const StatusName* name = find(status);
  return name == nullptr ? "a status that no zero check ends with" : name->words;
}

}  // namespace vmsnap::dsa
