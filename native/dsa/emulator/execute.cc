// Operations work piece by piece through buffers of the engine, so that whatever happens to the memory meanwhile is a
// short count and never a signal.
#include "execute.h"

#include <algorithm>
#include <cstring>

#include "../../base/word.h"
#include "../../crc32c/crc32c.h"

namespace vmsnap::dsa {

namespace {

constexpr size_t kFirstPieceBytes = 4096;

bool blocks(const dsa_hw_desc& descriptor) { return (descriptor.flags & IDXD_OP_FLAG_BOF) != 0; }

/// A small first piece: most memory that differs does so at once.
size_t piece_at(uint64_t done, uint64_t end) {
  return std::min<uint64_t>(done == 0 ? kFirstPieceBytes : Workspace::kPieceBytes, end - done);
}

Outcome fault(const dsa_hw_desc& descriptor, uint64_t done, uint64_t address, Operand operand, bool is_write) {
  const uint8_t code = blocks(descriptor) ? DSA_COMP_PAGE_FAULT_IR : DSA_COMP_PAGE_FAULT_NOBOF;
  Outcome outcome;
  outcome.status = static_cast<uint8_t>(code | (is_write ? DSA_COMP_STATUS_WRITE : 0));
  outcome.bytes_completed = static_cast<uint32_t>(done);
  outcome.fault_address = address & ~(kDevicePageBytes - 1);
  outcome.operand = operand;
  outcome.bytes_moved = done;
  return outcome;
}

Outcome inject(const dsa_hw_desc& descriptor, uint64_t done, const InjectedFault& injected) {
  Outcome outcome = fault(descriptor, done, descriptor.src_addr + done, Operand::source, injected.is_write);
  outcome.status = static_cast<uint8_t>(DSA_COMP_PAGE_FAULT_NOBOF | (injected.is_write ? DSA_COMP_STATUS_WRITE : 0));
  return outcome;
}

/// Bytes to look at before the injected fault, or all.
uint64_t end_of_compare(const dsa_hw_desc& descriptor, const InjectedFault& injected) {
  const uint64_t size = descriptor.xfer_size;
  return injected.present ? std::min(injected.at_byte, size - 1) : size;
}

/// Index of the first byte that is not the pattern's, or `size_bytes`. Steps that the compiler makes vectors of.
size_t first_difference(const uint8_t* bytes, size_t size_bytes, uint64_t pattern) {
  constexpr size_t kStepWords = 32;
  size_t at = 0;
  for (; at + kStepWords * 8 <= size_bytes; at += kStepWords * 8) {
    uint64_t difference = 0;
    for (size_t i = 0; i < kStepWords; ++i) difference |= load_word(bytes + at + i * 8) ^ pattern;
    if (difference != 0) break;
  }
  uint8_t repeated[8];
  std::memcpy(repeated, &pattern, sizeof repeated);
  while (at < size_bytes && bytes[at] == repeated[at % 8]) ++at;
  return at;
}

size_t first_difference(const uint8_t* left, const uint8_t* right, size_t size_bytes) {
  if (std::memcmp(left, right, size_bytes) == 0) return size_bytes;
  size_t at = 0;
  while (left[at] == right[at]) ++at;
  return at;
}

/// Result of a compare that came to its end or to a difference.
Outcome compared(const dsa_hw_desc& descriptor, bool differs, uint64_t position, uint64_t looked_at) {
  Outcome outcome;
  outcome.result = differs ? 1 : 0;
  outcome.bytes_completed = differs ? static_cast<uint32_t>(position) : 0;
  outcome.bytes_moved = looked_at;
  const bool checked = (descriptor.flags & IDXD_OP_FLAG_CR) != 0;
  if (checked && outcome.result != (descriptor.expected_res & 1)) outcome.status = DSA_COMP_SUCCESS_PRED;
  return outcome;
}

}  // namespace

Outcome Executor::execute(const dsa_hw_desc& descriptor, const InjectedFault& injected, Workspace& workspace) const {
  switch (descriptor.opcode) {
    case DSA_OPCODE_MEMMOVE:
      return move(descriptor, workspace);
    case DSA_OPCODE_MEMFILL:
      return fill(descriptor, workspace);
    case DSA_OPCODE_COMPARE:
      return compare(descriptor, injected, workspace);
    case DSA_OPCODE_COMPVAL:
      return compare_pattern(descriptor, injected, workspace);
    case DSA_OPCODE_CRCGEN:
      return generate_crc(descriptor, workspace);
    default:
      return {};  // NOOP
  }
}

Outcome Executor::move(const dsa_hw_desc& descriptor, Workspace& workspace) const {
  const uint64_t source = descriptor.src_addr;
  const uint64_t destination = descriptor.dst_addr;
  const uint64_t size = descriptor.xfer_size;
  if (source < destination && destination - source < size) return move_backwards(descriptor, workspace);
  uint64_t done = 0;
  while (done < size) {
    const size_t piece = piece_at(done, size);
    const size_t got = memory_.read(source + done, workspace.first.data(), piece, blocks(descriptor));
    const size_t put = memory_.write(destination + done, workspace.first.data(), got, blocks(descriptor));
    done += put;
    if (put < got) return fault(descriptor, done, destination + done, Operand::destination, true);
    if (got < piece) return fault(descriptor, done, source + done, Operand::source, false);
  }
  Outcome outcome;
  outcome.bytes_moved = size;
  return outcome;
}

// Pieces lie in one page of the source and one of the destination, so that each succeeds or fails as a whole. Bytes
// completed count from the end then, which the result 1 says.
Outcome Executor::move_backwards(const dsa_hw_desc& descriptor, Workspace& workspace) const {
  const uint64_t source = descriptor.src_addr;
  const uint64_t destination = descriptor.dst_addr;
  uint64_t left = descriptor.xfer_size;
  while (left > 0) {
    const uint64_t in_source = (source + left - 1) % kDevicePageBytes + 1;
    const uint64_t in_destination = (destination + left - 1) % kDevicePageBytes + 1;
    const size_t piece = std::min({left, in_source, in_destination});
    const uint64_t from = left - piece;
    const bool read = memory_.read(source + from, workspace.first.data(), piece, blocks(descriptor)) == piece;
    if (!read || memory_.write(destination + from, workspace.first.data(), piece, blocks(descriptor)) != piece) {
      const uint64_t address = (read ? destination : source) + from;
      Outcome outcome =
          fault(descriptor, descriptor.xfer_size - left, address, read ? Operand::destination : Operand::source, read);
      outcome.result = 1;
      return outcome;
    }
    left = from;
  }
  Outcome outcome;
  outcome.bytes_moved = descriptor.xfer_size;
  return outcome;
}

Outcome Executor::fill(const dsa_hw_desc& descriptor, Workspace& workspace) const {
  fill_words(workspace.first.data(),
             std::min<uint64_t>(Workspace::kPieceBytes, (descriptor.xfer_size + 7) & ~uint64_t{7}), descriptor.pattern);
  uint64_t done = 0;
  while (done < descriptor.xfer_size) {
    const size_t piece = piece_at(done, descriptor.xfer_size);
    const size_t put = memory_.write(descriptor.dst_addr + done, workspace.first.data(), piece, blocks(descriptor));
    done += put;
    if (put < piece) return fault(descriptor, done, descriptor.dst_addr + done, Operand::destination, true);
  }
  Outcome outcome;
  outcome.bytes_moved = done;
  return outcome;
}

Outcome Executor::compare(const dsa_hw_desc& descriptor, const InjectedFault& injected, Workspace& workspace) const {
  const uint64_t end = end_of_compare(descriptor, injected);
  uint64_t done = 0;
  while (done < end) {
    const size_t piece = piece_at(done, end);
    const size_t left = memory_.read(descriptor.src_addr + done, workspace.first.data(), piece, blocks(descriptor));
    const size_t right = memory_.read(descriptor.src2_addr + done, workspace.second.data(), left, blocks(descriptor));
    const size_t position = first_difference(workspace.first.data(), workspace.second.data(), right);
    done += position;
    if (position < right) return compared(descriptor, true, done, done);
    if (right < left) return fault(descriptor, done, descriptor.src2_addr + done, Operand::second_source, false);
    if (left < piece) return fault(descriptor, done, descriptor.src_addr + done, Operand::source, false);
  }
  return injected.present ? inject(descriptor, done, injected) : compared(descriptor, false, 0, done);
}

Outcome Executor::compare_pattern(const dsa_hw_desc& descriptor, const InjectedFault& injected,
                                  Workspace& workspace) const {
  const uint64_t source = descriptor.src_addr;
  const uint64_t end = end_of_compare(descriptor, injected);
  uint64_t done = 0;
  // Pieces are multiples of the pattern until the last, so each begins with the pattern's first byte.
  while (done < end) {
    const size_t piece = piece_at(done, end);
    const size_t got = memory_.read(source + done, workspace.first.data(), piece, blocks(descriptor));
    const size_t position = first_difference(workspace.first.data(), got, descriptor.comp_pattern);
    done += position;
    if (position < got) {
      const uint64_t told = std::max(source, (source + done) / granularity_ * granularity_) - source;
      return compared(descriptor, true, told, done);
    }
    if (got < piece) return fault(descriptor, done, source + done, Operand::source, false);
  }
  return injected.present ? inject(descriptor, done, injected) : compared(descriptor, false, 0, done);
}

Outcome Executor::generate_crc(const dsa_hw_desc& descriptor, Workspace& workspace) const {
  uint32_t crc = descriptor.crc_seed;
  if ((descriptor.flags & kFlagReadSeed) != 0) {
    const size_t got = memory_.read(descriptor.seed_addr, &crc, sizeof crc, blocks(descriptor));
    if (got != sizeof crc) return fault(descriptor, 0, descriptor.seed_addr, Operand::unknown, false);
  }
  uint64_t done = 0;
  while (done < descriptor.xfer_size) {
    const size_t piece = piece_at(done, descriptor.xfer_size);
    const size_t got = memory_.read(descriptor.src_addr + done, workspace.first.data(), piece, blocks(descriptor));
    crc = crc32c(workspace.first.data(), got, crc);
    done += got;
    if (got == piece) continue;
    Outcome outcome = fault(descriptor, done, descriptor.src_addr + done, Operand::source, false);
    outcome.specific = crc;
    return outcome;
  }
  Outcome outcome;
  outcome.specific = crc;
  outcome.bytes_moved = done;
  return outcome;
}

bool write_record(const DeviceMemory& memory, uint64_t address, const Outcome& outcome, const Rules& rules) {
  const bool has_fault_info = outcome.fault_address != 0 && (rules.general_capability & kCapabilityFaultInfo) != 0;
  uint8_t record[kRecordBytes] = {outcome.status, outcome.result};
  // Bit 0: the low bits of the address are not told.
  if (has_fault_info) record[2] = static_cast<uint8_t>(1 | (static_cast<unsigned>(outcome.operand) << 1));
  std::memcpy(record + 4, &outcome.bytes_completed, 4);
  std::memcpy(record + 8, &outcome.fault_address, 8);
  std::memcpy(record + 16, &outcome.specific, 8);
  if (memory.write(address + 1, record + 1, kRecordBytes - 1, rules.page_requests) != kRecordBytes - 1) return false;
#if defined(__aarch64__)
  asm volatile("dmb ish" ::: "memory");
#else
  asm volatile("" ::: "memory");  // stores of x86 keep their order
#endif
  return memory.write(address, record, 1, rules.page_requests) == 1;
}

}  // namespace vmsnap::dsa
