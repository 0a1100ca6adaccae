// Reads a QEMU migration stream (native/qemu/wire.h) up to the end of its RAM: the head with the list of RAM blocks,
// then one page record after the other.
//
// Nothing is believed: every flag, length and address is checked against what may stand there before it is used, and
// what is kept is bounded (kHeadMostBytes, kMostBlocks), whatever the stream claims. What follows the end of RAM, the
// state of devices, has no lengths and is left to the caller as it stands.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "byte_input.h"
#include "fault.h"

namespace vmsnap::qemu {

inline constexpr size_t kMostBlocks = 65535;
inline constexpr size_t kHeadMostBytes = size_t{32} << 20;

struct RamBlock {
  std::string id;
  uint64_t used_bytes = 0;
  /// Where its size stands, for messages.
  uint64_t listed_at = 0;
  /// mapped-ram only; both 0: its pages are not in the file.
  uint64_t bitmap_offset = 0;
  uint64_t pages_offset = 0;
};

struct StreamHead {
  /// As CONFIGURATION has them; '' and no uuid where it has not.
  std::string machine;
  std::vector<uint8_t> uuid;
  bool ignore_shared = false;
  bool mapped_ram = false;
  std::vector<RamBlock> blocks;
  /// The stream as it stands up to the end of the RAM section's first part. Of mapped-ram the bytes that an ordinary
  /// stream would have there: without the capability and the places of the pages.
  std::vector<uint8_t> bytes;
};

struct PageRecord {
  uint32_t block = 0;
  /// In the block.
  uint64_t offset = 0;
  bool is_zero = false;
};

enum class Next : uint8_t { kPage, kRamEnd, kFault };

class StreamParser {
 public:
  /// The stream begins at the input's position.
  explicit StreamParser(ByteInput input) : input_(std::move(input)) {}
  StreamParser(const StreamParser&) = delete;
  StreamParser& operator=(const StreamParser&) = delete;

  /// First of all. Returns whether it worked; else fault() says why not.
  bool read_head(const int32_t* abort);
  const StreamHead& head() const { return head_; }

  /// The next page. Behind a record with data the input stands at the page, which must be read or skipped. After
  /// kRamEnd the input stands at the first byte behind the RAM section.
  Next next(PageRecord& record, const int32_t* abort);

  ByteInput& input() { return input_; }
  const Fault& fault() const { return fault_; }
  /// Notes that the input failed with `status` where `what` was expected. Returns false.
  bool input_fault(int status, const char* what);

 private:
  bool corrupt_at(uint64_t offset, std::string what);
  bool unsupported_at(uint64_t offset, std::string what, std::string hint);
  /// The next `count` bytes, which stay valid until the next call, or null.
  const uint8_t* take(size_t count, const char* what);
  bool take_u8(uint8_t& value, const char* what);
  bool take_u16(uint16_t& value, const char* what);
  bool take_u32(uint32_t& value, const char* what);
  bool take_u64(uint64_t& value, const char* what);
  bool take_text(size_t size_bytes, std::string& text, const char* what);
  bool peek_u8(uint8_t& value, const char* what);

  bool read_configuration();
  bool read_subsection();
  bool read_capabilities();
  bool read_command();
  bool read_start();
  bool read_block_list();
  bool read_block(uint64_t& total_bytes);
  bool read_mapped_ram_header(RamBlock& block);
  bool read_ram_eos();
  bool read_footer();
  bool enter_section();
  bool refuse_section(uint64_t at);
  bool read_word(uint64_t word, uint64_t at, PageRecord& record, bool& is_page);
  bool read_block_id(uint64_t flags, uint64_t at);
  bool refuse_word(uint64_t flags, uint64_t at);

  ByteInput input_;
  const int32_t* abort_ = nullptr;
  StreamHead head_;
  Fault fault_;
  std::unordered_map<std::string_view, uint32_t> block_of_id_;
  bool capturing_ = true;
  bool configured_ = false;
  bool postcopy_advised_ = false;
  bool footers_ = false;
  bool in_section_ = false;
  bool in_end_section_ = false;
  bool has_current_block_ = false;
  uint32_t current_block_ = 0;
  uint32_t ram_section_ = 0;
};

}  // namespace vmsnap::qemu
