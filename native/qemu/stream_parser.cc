#include "stream_parser.h"

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdio>

#include "../base/limits.h"
#include "wire.h"

namespace vmsnap::qemu {

namespace {

constexpr size_t kMostMachineBytes = 1024;
constexpr uint32_t kMostCapabilities = 256;
constexpr uint32_t kTargetPageBits = 12;
constexpr size_t kUuidBytes = 16;

constexpr const char* kNewerHint = "use a newer vmsnap";
constexpr const char* kOtherSectionHint =
    "remove the device, or switch off the migration capability that sends it, such as dirty-bitmaps";
constexpr const char* kPostcopyHint = "switch off the migration capability postcopy-ram and make the file again";

uint64_t big_endian(const uint8_t* bytes, size_t count) {
  uint64_t value = 0;
  for (size_t i = 0; i < count; ++i) value = value << 8 | bytes[i];
  return value;
}

std::string hex(uint64_t value) {
  char text[24];
  std::snprintf(text, sizeof text, "0x%" PRIx64, value);
  return text;
}

/// A name out of a stream, fit for a message.
std::string quoted(const std::string& name) {
  std::string text = "\"";
  for (const char c : name) text += c >= ' ' && c < 0x7f && c != '"' ? c : '?';
  return text + '"';
}

}  // namespace

bool StreamParser::corrupt_at(uint64_t offset, std::string what) {
  fault_ = {.kind = FaultKind::kCorrupt, .offset = offset, .what = std::move(what), .hint = {}};
  return false;
}

bool StreamParser::unsupported_at(uint64_t offset, std::string what, std::string hint) {
  fault_ = {.kind = FaultKind::kUnsupported, .offset = offset, .what = std::move(what), .hint = std::move(hint)};
  return false;
}

bool StreamParser::input_fault(int status, const char* what) {
  if (status == kInputEnded)
    return corrupt_at(input_.position(), std::string("it ends where ") + what + " was expected");
  fault_ = {.kind = FaultKind::kSystem, .offset = input_.position(), .what = what, .hint = {}, .error = status};
  return false;
}

const uint8_t* StreamParser::take(size_t count, const char* what) {
  if (const int status = input_.need(count, abort_); status != 0) {
    input_fault(status, what);
    return nullptr;
  }
  const uint8_t* bytes = input_.data();
  if (capturing_) {
    if (head_.bytes.size() + count > kHeadMostBytes) {
      corrupt_at(input_.position(), "more than " + std::to_string(kHeadMostBytes) + " bytes before the first page");
      return nullptr;
    }
    head_.bytes.insert(head_.bytes.end(), bytes, bytes + count);
  }
  input_.consume(count);
  return bytes;
}

bool StreamParser::take_u8(uint8_t& value, const char* what) {
  const uint8_t* bytes = take(1, what);
  if (bytes != nullptr) value = bytes[0];
  return bytes != nullptr;
}

bool StreamParser::take_u16(uint16_t& value, const char* what) {
  const uint8_t* bytes = take(2, what);
  if (bytes != nullptr) value = static_cast<uint16_t>(big_endian(bytes, 2));
  return bytes != nullptr;
}

bool StreamParser::take_u32(uint32_t& value, const char* what) {
  const uint8_t* bytes = take(4, what);
  if (bytes != nullptr) value = static_cast<uint32_t>(big_endian(bytes, 4));
  return bytes != nullptr;
}

bool StreamParser::take_u64(uint64_t& value, const char* what) {
  const uint8_t* bytes = take(8, what);
  if (bytes != nullptr) value = big_endian(bytes, 8);
  return bytes != nullptr;
}

bool StreamParser::take_text(size_t size_bytes, std::string& text, const char* what) {
  const uint8_t* bytes = take(size_bytes, what);
  if (bytes != nullptr) text.assign(bytes, bytes + size_bytes);
  return bytes != nullptr;
}

bool StreamParser::peek_u8(uint8_t& value, const char* what) {
  if (const int status = input_.need(1, abort_); status != 0) return input_fault(status, what);
  value = *input_.data();
  return true;
}

bool StreamParser::read_head(const int32_t* abort) {
  abort_ = abort;
  const uint64_t start = input_.position();
  uint32_t magic = 0;
  uint32_t version = 0;
  if (!take_u32(magic, "the magic \"QEVM\"") || !take_u32(version, "the version")) return false;
  if (magic != kMagic) return corrupt_at(start, "magic " + hex(magic) + ", expected " + hex(kMagic) + " (\"QEVM\")");
  if (version != kVersion) {
    return unsupported_at(start + 4, "version " + std::to_string(version) + ", expected " + std::to_string(kVersion),
                          "make it again with QEMU 0.15 or newer");
  }
  for (;;) {
    const uint64_t at = input_.position();
    uint8_t type = 0;
    if (!take_u8(type, "a section")) return false;
    if (type == kSectionStart) break;
    if (type == kSectionConfiguration && !configured_) {
      if (!read_configuration()) return false;
    } else if (type == kSectionCommand) {
      if (!read_command()) return false;
    } else if (type == kSectionFull) {
      return refuse_section(at);
    } else {
      return corrupt_at(at, "section type " + hex(type) + ", expected the start of the RAM section (0x1)");
    }
  }
  return read_start();
}

bool StreamParser::read_configuration() {
  configured_ = true;
  const uint64_t at = input_.position();
  uint32_t size_bytes = 0;
  if (!take_u32(size_bytes, "the length of the machine's name")) return false;
  if (size_bytes == 0 || size_bytes > kMostMachineBytes) {
    return corrupt_at(at, "a machine name of " + std::to_string(size_bytes) + " bytes, expected 1 to " +
                              std::to_string(kMostMachineBytes));
  }
  if (!take_text(size_bytes, head_.machine, "the machine's name")) return false;
  for (;;) {
    uint8_t type = 0;
    if (!peek_u8(type, "a section")) return false;
    if (type != kSectionSubsection) return true;
    if (!read_subsection()) return false;
  }
}

bool StreamParser::read_subsection() {
  const uint64_t at = input_.position();
  const size_t captured = head_.bytes.size();
  uint8_t name_bytes = 0;
  std::string name;
  uint32_t version = 0;
  if (take(1, "a subsection") == nullptr || !take_u8(name_bytes, "the length of a subsection's name") ||
      !take_text(name_bytes, name, "the name of a subsection") || !take_u32(version, "the version of a subsection")) {
    return false;
  }
  if (name == "configuration/target-page-bits") {
    uint32_t bits = 0;
    if (!take_u32(bits, "the target page bits")) return false;
    if (bits == kTargetPageBits) return true;
    return unsupported_at(input_.position() - 4,
                          "target pages of 2^" + std::to_string(bits) + " bytes, expected 2^12 (4096)", kNewerHint);
  }
  if (name == "configuration/uuid") {
    const uint8_t* bytes = take(kUuidBytes, "the machine's uuid");
    if (bytes != nullptr) head_.uuid.assign(bytes, bytes + kUuidBytes);
    return bytes != nullptr;
  }
  if (name == "configuration/capabilities") {
    if (!read_capabilities()) return false;
    if (!head_.mapped_ram) return true;
    // The head is that of an ordinary stream: the capability that makes the difference is left out.
    head_.bytes.resize(captured);
    if (!head_.ignore_shared) return true;
    static constexpr std::string_view kOnlyIgnoreShared("\0\0\0\1\17x-ignore-shared", 20);
    head_.bytes.push_back(kSectionSubsection);
    head_.bytes.push_back(name_bytes);
    head_.bytes.insert(head_.bytes.end(), name.begin(), name.end());
    for (int shift = 24; shift >= 0; shift -= 8) head_.bytes.push_back(static_cast<uint8_t>(version >> shift));
    head_.bytes.insert(head_.bytes.end(), kOnlyIgnoreShared.begin(), kOnlyIgnoreShared.end());
    return true;
  }
  return unsupported_at(at, "an unknown subsection " + quoted(name) + " of the configuration", kNewerHint);
}

bool StreamParser::read_capabilities() {
  const uint64_t at = input_.position();
  uint32_t count = 0;
  if (!take_u32(count, "the number of capabilities")) return false;
  if (count > kMostCapabilities) {
    return corrupt_at(at,
                      std::to_string(count) + " capabilities, expected at most " + std::to_string(kMostCapabilities));
  }
  for (uint32_t i = 0; i < count; ++i) {
    const uint64_t name_at = input_.position();
    uint8_t size_bytes = 0;
    std::string name;
    if (!take_u8(size_bytes, "the length of a capability") || !take_text(size_bytes, name, "a capability"))
      return false;
    if (name == "x-ignore-shared") {
      head_.ignore_shared = true;
    } else if (name == "mapped-ram") {
      if (!input_.is_file()) {
        return unsupported_at(name_at,
                              "a mapped-ram file, which has its pages at fixed offsets, cannot come from a pipe",
                              "save it from the file");
      }
      head_.mapped_ram = true;
    } else {
      return unsupported_at(name_at, "an unknown capability " + quoted(name), "switch it off and make the file again");
    }
  }
  return true;
}

bool StreamParser::read_command() {
  const uint64_t at = input_.position() - 1;
  uint16_t command = 0;
  uint16_t size_bytes = 0;
  if (!take_u16(command, "a command") || !take_u16(size_bytes, "the length of a command")) return false;
  if (command == kCommandEnableColo) return unsupported_at(at, "a COLO stream", "switch off the capability x-colo");
  const bool of_postcopy =
      (command >= kCommandPostcopyListen && command <= kCommandPackaged) || command == kCommandReceiveBitmap;
  if (of_postcopy)
    return unsupported_at(at, "a postcopy stream (command " + std::to_string(command) + ")", kPostcopyHint);
  const uint8_t* data = take(size_bytes, "the data of a command");
  if (data == nullptr) return false;
  if (command != kCommandPostcopyAdvise || size_bytes != 16) return true;
  // With pages of other sizes among the blocks, sizes stand in the block list, and which blocks have one is not told.
  postcopy_advised_ = big_endian(data, 8) != kPageBytes;
  return true;
}

bool StreamParser::read_start() {
  const uint64_t at = input_.position() - 1;
  uint8_t id_bytes = 0;
  std::string id;
  uint32_t instance = 0;
  uint32_t version = 0;
  if (!take_u32(ram_section_, "a section's number") || !take_u8(id_bytes, "the length of a section's name") ||
      !take_text(id_bytes, id, "a section's name") || !take_u32(instance, "a section's instance") ||
      !take_u32(version, "a section's version")) {
    return false;
  }
  if (id != "ram" || instance != 0) {
    return unsupported_at(at,
                          "section " + std::to_string(ram_section_) + " (" + quoted(id) + ", instance " +
                              std::to_string(instance) + ") before the end of RAM, where only \"ram\" is known",
                          kOtherSectionHint);
  }
  if (version != kRamSectionVersion) {
    return unsupported_at(input_.position() - 4,
                          "version " + std::to_string(version) + " of the RAM section, expected 4", kNewerHint);
  }
  if (!read_block_list() || !read_ram_eos()) return false;
  uint8_t next = 0;
  if (!peek_u8(next, "the end of the RAM section's first part")) return false;
  footers_ = next == kSectionFooter;
  if (footers_ && !read_footer()) return false;
  capturing_ = false;
  return true;
}

bool StreamParser::read_block_list() {
  const uint64_t at = input_.position();
  uint64_t word = 0;
  if (!take_u64(word, "the size of the memory")) return false;
  if ((word & kFlagMask) != kFlagMemSize) {
    return corrupt_at(at, "word " + hex(word) + ", expected the size of the memory (flags 0x4)");
  }
  const uint64_t expected_bytes = word & ~kFlagMask;
  if (expected_bytes >= kMaxPosition)
    return corrupt_at(at, "memory of " + hex(expected_bytes) + " bytes, which is too much");
  uint64_t total_bytes = 0;
  while (total_bytes < expected_bytes) {
    const uint64_t block_at = input_.position();
    if (head_.blocks.size() == kMostBlocks) {
      return corrupt_at(block_at, "more than " + std::to_string(kMostBlocks) + " RAM blocks");
    }
    if (!read_block(total_bytes)) return false;
    if (total_bytes > expected_bytes) {
      return corrupt_at(block_at, "RAM blocks of " + hex(total_bytes) + " bytes or more, expected " +
                                      hex(expected_bytes) + " in all");
    }
  }
  if (head_.blocks.empty()) return corrupt_at(at, "no memory at all, expected at least one RAM block");
  // Keys are views of the ids, so the list must be complete.
  for (uint32_t i = 0; i < head_.blocks.size(); ++i) {
    const RamBlock& block = head_.blocks[i];
    if (!block_of_id_.emplace(block.id, i).second) {
      return corrupt_at(block.listed_at, "a second RAM block " + quoted(block.id));
    }
  }
  return true;
}

bool StreamParser::read_block(uint64_t& total_bytes) {
  RamBlock block;
  block.listed_at = input_.position();
  uint8_t id_bytes = 0;
  if (!take_u8(id_bytes, "a RAM block")) return false;
  if (id_bytes == 0) return corrupt_at(block.listed_at, "a RAM block without a name, expected 1 to 255 bytes");
  if (!take_text(id_bytes, block.id, "the name of a RAM block")) return false;
  if (!take_u64(block.used_bytes, "the size of a RAM block")) return false;
  if (block.used_bytes % kPageBytes != 0 || block.used_bytes >= kMaxPosition) {
    return corrupt_at(block.listed_at, "RAM block " + quoted(block.id) + " of " + hex(block.used_bytes) +
                                           " bytes, expected whole pages and less than 2^53 bytes");
  }
  if (postcopy_advised_) {
    return unsupported_at(block.listed_at, "a block list with page sizes, which postcopy adds for huge pages",
                          kPostcopyHint);
  }
  uint64_t address = 0;
  if (head_.ignore_shared && !take_u64(address, "the address of a RAM block")) return false;
  if (head_.mapped_ram && !read_mapped_ram_header(block)) return false;
  total_bytes += block.used_bytes;
  head_.blocks.push_back(std::move(block));
  return true;
}

bool StreamParser::read_mapped_ram_header(RamBlock& block) {
  const uint64_t at = input_.position();
  capturing_ = false;
  const uint8_t* bytes = take(kMappedRamHeaderBytes, "the mapped-ram header of a RAM block");
  capturing_ = true;
  if (bytes == nullptr) return false;
  const uint64_t version = big_endian(bytes, 4);
  const uint64_t page_bytes = big_endian(bytes + 4, 8);
  block.bitmap_offset = big_endian(bytes + 12, 8);
  block.pages_offset = big_endian(bytes + 20, 8);
  const std::string of = " in the mapped-ram header of RAM block " + quoted(block.id);
  if (version > kMappedRamVersion) {
    return unsupported_at(at, "version " + std::to_string(version) + of + ", expected 1", kNewerHint);
  }
  if (block.bitmap_offset == 0 && block.pages_offset == 0) return true;
  if (version != kMappedRamVersion) return corrupt_at(at, "version 0" + of + ", expected 1");
  if (page_bytes != kPageBytes) {
    return corrupt_at(at + 4, "a page size of " + hex(page_bytes) + of + ", expected 0x1000");
  }
  const uint64_t bitmap_bytes = (block.used_bytes / kPageBytes + 63) / 64 * 8;
  const uint64_t header_end = at + kMappedRamHeaderBytes;
  if (block.bitmap_offset < header_end || block.bitmap_offset > input_.end() ||
      bitmap_bytes > input_.end() - block.bitmap_offset) {
    return corrupt_at(at + 12, "a bitmap at " + hex(block.bitmap_offset) + of +
                                   ", expected it between this header and " + "the end of the file at " +
                                   hex(input_.end()));
  }
  const uint64_t bitmap_end = block.bitmap_offset + bitmap_bytes;
  if (block.pages_offset < bitmap_end || block.pages_offset % kPageBytes != 0 || block.pages_offset > input_.end() ||
      block.used_bytes > input_.end() - block.pages_offset) {
    return corrupt_at(at + 20, "pages at " + hex(block.pages_offset) + of +
                                   ", expected whole pages between the bitmap and " + "the end of the file at " +
                                   hex(input_.end()));
  }
  // So the parts of the blocks lie one behind the other and cannot overlap.
  input_.seek(block.pages_offset + block.used_bytes);
  return true;
}

bool StreamParser::read_ram_eos() {
  for (;;) {
    const uint64_t at = input_.position();
    if (head_.mapped_ram) capturing_ = false;
    uint64_t word = 0;
    const bool taken = take_u64(word, "the end of the RAM section's first part");
    capturing_ = true;
    if (!taken) return false;
    if (word == kFlagEos) {
      if (head_.mapped_ram) head_.bytes.insert(head_.bytes.end(), {0, 0, 0, 0, 0, 0, 0, kFlagEos});
      return true;
    }
    if (word == kFlagMultifdFlush && head_.mapped_ram) continue;
    if ((word & kFlagMask) == kFlagMemSize) return corrupt_at(at, "a second list of RAM blocks");
    if ((word & kFlagMask & (kFlagHook | kFlagMultifdFlush)) != 0) return refuse_word(word & kFlagMask, at);
    return corrupt_at(at, "word " + hex(word) + " behind the list of RAM blocks, expected 0x10");
  }
}

bool StreamParser::read_footer() {
  const uint64_t at = input_.position();
  uint8_t type = 0;
  uint32_t section = 0;
  if (!take_u8(type, "the footer of a section") || !take_u32(section, "the footer of a section")) return false;
  if (type != kSectionFooter) return corrupt_at(at, "byte " + hex(type) + ", expected the footer of a section (0x7e)");
  if (section == ram_section_) return true;
  return corrupt_at(at,
                    "the footer of section " + std::to_string(section) + ", expected " + std::to_string(ram_section_));
}

Next StreamParser::next(PageRecord& record, const int32_t* abort) {
  abort_ = abort;
  for (;;) {
    if (!in_section_) {
      if (in_end_section_) return Next::kRamEnd;
      if (!enter_section()) return Next::kFault;
      continue;
    }
    const uint64_t at = input_.position();
    uint64_t word = 0;
    if (!take_u64(word, "a page")) return Next::kFault;
    bool is_page = false;
    if (!read_word(word, at, record, is_page)) return Next::kFault;
    if (is_page) return Next::kPage;
  }
}

bool StreamParser::enter_section() {
  const uint64_t at = input_.position();
  uint8_t type = 0;
  if (!take_u8(type, "a section")) return false;
  switch (type) {
    case kSectionCommand:
      return read_command();
    case kSectionPart:
    case kSectionEnd: {
      uint32_t section = 0;
      if (!take_u32(section, "a section's number")) return false;
      if (section != ram_section_) {
        return corrupt_at(at, "a part of section " + std::to_string(section) + ", expected " +
                                  std::to_string(ram_section_) + " (\"ram\")");
      }
      in_section_ = true;
      in_end_section_ = type == kSectionEnd;
      return true;
    }
    case kSectionStart:
    case kSectionFull:
      return refuse_section(at);
    case kSectionEof:
      return corrupt_at(at, "the end of the stream (0x0) before the end of RAM (0x3)");
    default:
      return corrupt_at(at, "section type " + hex(type) + ", expected a part of the RAM section (0x2 or 0x3)");
  }
}

bool StreamParser::refuse_section(uint64_t at) {
  uint32_t section = 0;
  uint8_t id_bytes = 0;
  std::string id;
  if (!take_u32(section, "a section's number") || !take_u8(id_bytes, "the length of a section's name") ||
      !take_text(id_bytes, id, "a section's name")) {
    return false;
  }
  return unsupported_at(at, "section " + std::to_string(section) + " (" + quoted(id) + ") before the end of RAM",
                        kOtherSectionHint);
}

bool StreamParser::read_word(uint64_t word, uint64_t at, PageRecord& record, bool& is_page) {
  const uint64_t flags = word & kFlagMask;
  const uint64_t kind = flags & ~kFlagContinue;
  if (flags == kFlagEos) {
    if (word != kFlagEos) return corrupt_at(at, "word " + hex(word) + ", expected 0x10 at the end of a part");
    in_section_ = false;
    return !footers_ || read_footer();
  }
  if (kind != kFlagPage && kind != kFlagZero) {
    if (word == kFlagMultifdFlush && head_.mapped_ram) return true;
    return refuse_word(flags, at);
  }
  if (head_.mapped_ram) return corrupt_at(at, "a page (word " + hex(word) + ") in the stream of a mapped-ram file");
  if (!read_block_id(flags, at)) return false;
  const RamBlock& block = head_.blocks[current_block_];
  record = {.block = current_block_, .offset = word & ~kFlagMask, .is_zero = kind == kFlagZero};
  if (record.offset >= block.used_bytes) {
    return corrupt_at(at, "a page at " + hex(record.offset) + " of RAM block " + quoted(block.id) + ", which has " +
                              hex(block.used_bytes) + " bytes");
  }
  is_page = true;
  if (!record.is_zero) return true;
  uint8_t fill = 0;
  if (!take_u8(fill, "the fill byte of a zero page")) return false;
  return fill == 0 || corrupt_at(at + 8, "fill byte " + hex(fill) + " of a zero page, expected 0x0");
}

bool StreamParser::read_block_id(uint64_t flags, uint64_t at) {
  if ((flags & kFlagContinue) != 0) {
    return has_current_block_ || corrupt_at(at, "a page of \"the same RAM block\" before any block was named");
  }
  const uint64_t id_at = input_.position();
  uint8_t id_bytes = 0;
  if (!take_u8(id_bytes, "the name of a RAM block")) return false;
  const uint8_t* id = take(id_bytes, "the name of a RAM block");
  if (id == nullptr) return false;
  const auto found = block_of_id_.find(std::string_view(reinterpret_cast<const char*>(id), id_bytes));
  if (found == block_of_id_.end()) {
    return corrupt_at(id_at, "RAM block " + quoted(std::string(id, id + id_bytes)) + ", which the list does not have");
  }
  current_block_ = found->second;
  has_current_block_ = true;
  return true;
}

bool StreamParser::refuse_word(uint64_t flags, uint64_t at) {
  if ((flags & kFlagHook) != 0) return unsupported_at(at, "an RDMA migration (flag 0x80)", "migrate to a file instead");
  if (flags == kFlagMultifdFlush) {
    return unsupported_at(at, "a multifd migration (flag 0x200), whose pages go through other channels",
                          "switch off the migration capability multifd, or use it with mapped-ram");
  }
  if ((flags & ~kFlagContinue) == kFlagXbzrle) {
    return unsupported_at(at, "a page as difference to an earlier one (XBZRLE, flag 0x40)",
                          "switch off the migration capability xbzrle and make the file again");
  }
  if ((flags & ~kFlagContinue) == kFlagCompressPage) {
    return unsupported_at(at, "a compressed page (flag 0x100)",
                          "switch off the migration capability compress and make the file again");
  }
  if (flags == kFlagMemSize) return corrupt_at(at, "a second list of RAM blocks");
  return corrupt_at(at, "flags " + hex(flags) + ", expected 0x8 (page), 0x2 (zero page) or 0x10 (end of a part)");
}

}  // namespace vmsnap::qemu
