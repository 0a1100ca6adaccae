// 66 [REX] 0F 38 F8 /r is MOVDIR64B, F2 [REX] 0F 38 F8 /r is ENQCMD: the register of ModRM holds the destination, its
// memory operand is the source. Other prefixes may stand before REX.
#if defined(__x86_64__)

#include "portal_instruction.h"

namespace vmsnap::dsa {

namespace {

struct Prefixes {
  bool operand_size = false;
  bool repeat_ne = false;
  bool short_address = false;
  uint8_t rex = 0;
};

/// Reads the code byte by byte; beyond its end everything is 0 and `ran_out` is set.
class Reader {
 public:
  explicit Reader(std::span<const uint8_t> code) : code_(code) {}

  uint8_t peek() const { return at_ < code_.size() ? code_[at_] : 0; }
  uint8_t byte() {
    const uint8_t value = peek();
    ran_out_ = ran_out_ || at_ >= code_.size();
    ++at_;
    return value;
  }
  uint64_t signed_byte() { return static_cast<uint64_t>(int64_t{static_cast<int8_t>(byte())}); }
  uint64_t signed_word() {
    uint32_t value = 0;
    for (unsigned shift = 0; shift < 32; shift += 8) value |= uint32_t{byte()} << shift;
    return static_cast<uint64_t>(int64_t{static_cast<int32_t>(value)});
  }
  size_t position() const { return at_; }
  bool ran_out() const { return ran_out_; }

 private:
  std::span<const uint8_t> code_;
  size_t at_ = 0;
  bool ran_out_ = false;
};

/// False for a prefix that makes it another instruction, or an address that we do not work out.
bool read_prefixes(Reader& reader, Prefixes& prefixes) {
  for (;;) {
    const uint8_t byte = reader.peek();
    switch (byte) {
      case 0x66:
        prefixes.operand_size = true;
        break;
      case 0x67:
        prefixes.short_address = true;
        break;
      case 0xf2:
        prefixes.repeat_ne = true;
        break;
      case 0x26:
      case 0x2e:
      case 0x36:
      case 0x3e:
        break;  // segments that mean nothing in 64-bit code
      default:
        if ((byte & 0xf0) == 0x40) prefixes.rex = reader.byte();
        return true;
      case 0x64:
      case 0x65:
      case 0xf0:
      case 0xf3:
        return false;
    }
    reader.byte();
  }
}

uint64_t scaled_address(Reader& reader, unsigned mod, uint8_t rex, const GeneralRegisters& registers) {
  const uint8_t sib = reader.byte();
  const unsigned index = ((sib >> 3) & 7) | ((rex & 2) << 2);
  const unsigned base = sib & 7;
  uint64_t address = index == 4 ? 0 : registers[index] << (sib >> 6);
  if (base == 5 && mod == 0) return address + reader.signed_word();
  return address + registers[base | ((rex & 1U) << 3)];
}

}  // namespace

std::optional<PortalInstruction> decode_portal_instruction(std::span<const uint8_t> code, uint64_t rip,
                                                           const GeneralRegisters& registers) {
  Reader reader(code);
  Prefixes prefixes;
  if (!read_prefixes(reader, prefixes)) return std::nullopt;
  if (!prefixes.operand_size && !prefixes.repeat_ne) return std::nullopt;
  if (reader.byte() != 0x0f || reader.byte() != 0x38 || reader.byte() != 0xf8) return std::nullopt;

  const uint8_t modrm = reader.byte();
  const unsigned mod = modrm >> 6;
  const unsigned memory = modrm & 7;
  if (mod == 3) return std::nullopt;
  uint64_t source = 0;
  bool relative = false;
  if (memory == 4) {
    source = scaled_address(reader, mod, prefixes.rex, registers);
  } else if (memory == 5 && mod == 0) {
    source = reader.signed_word();
    relative = true;
  } else {
    source = registers[memory | ((prefixes.rex & 1U) << 3)];
  }
  if (mod == 1) source += reader.signed_byte();
  if (mod == 2) source += reader.signed_word();
  if (reader.ran_out() || reader.position() > kMaxInstructionBytes) return std::nullopt;
  if (relative) source += rip + reader.position();

  uint64_t destination = registers[((modrm >> 3) & 7) | ((prefixes.rex & 4U) << 1)];
  if (prefixes.short_address) {
    source &= UINT32_MAX;
    destination &= UINT32_MAX;
  }
  return PortalInstruction{prefixes.repeat_ne, reader.position(), destination, source};
}

}  // namespace vmsnap::dsa

#endif
