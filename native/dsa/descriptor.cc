#include "descriptor.h"

namespace vmsnap::dsa {

namespace {

uint64_t address_of(const void* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

Descriptor empty_descriptor(unsigned opcode, const CompletionRecord* record) {
  Descriptor descriptor{};
  descriptor.hw.opcode = opcode & 0xff;
  descriptor.hw.flags = kRecordFlags & 0xffffff;
  descriptor.hw.completion_addr = address_of(record);
  return descriptor;
}

}  // namespace

Descriptor noop_descriptor(const CompletionRecord* record) { return empty_descriptor(DSA_OPCODE_NOOP, record); }

Descriptor drain_descriptor(const CompletionRecord* record) { return empty_descriptor(DSA_OPCODE_DRAIN, record); }

Descriptor zero_check_descriptor(const void* source, uint32_t size_bytes, const CompletionRecord* record) {
  Descriptor descriptor = empty_descriptor(DSA_OPCODE_COMPVAL, record);
  descriptor.hw.src_addr = address_of(source);
  descriptor.hw.xfer_size = size_bytes;
  return descriptor;
}

Descriptor batch_descriptor(const Descriptor* list, uint32_t count, const CompletionRecord* record) {
  Descriptor descriptor = empty_descriptor(DSA_OPCODE_BATCH, record);
  descriptor.hw.desc_list_addr = address_of(list);
  descriptor.hw.desc_count = count;
  return descriptor;
}

}  // namespace vmsnap::dsa
