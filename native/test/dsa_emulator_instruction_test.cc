// Decoding of MOVDIR64B and ENQCMD in every form of their operands, against encodings written down by hand.
#if defined(__x86_64__)

#include <vector>

#include "../dsa/emulator/portal_instruction.h"
#include "support/check.h"

namespace vmsnap::test {

using namespace dsa;

namespace {

/// Each register holds its number times 0x1000.
GeneralRegisters numbered_registers() {
  GeneralRegisters registers;
  for (size_t i = 0; i < registers.size(); ++i) registers[i] = i * 0x1000;
  return registers;
}

constexpr uint64_t kRip = 0x400000;

struct Form {
  std::vector<uint8_t> code;
  uint64_t destination;
  uint64_t source;
};

std::optional<PortalInstruction> decode(const std::vector<uint8_t>& code) {
  return decode_portal_instruction(code, kRip, numbered_registers());
}

const std::vector<Form>& forms() {
  static const std::vector<Form> all = {
      {{0x66, 0x0f, 0x38, 0xf8, 0x02}, 0x0000, 0x2000},                                 // rax, [rdx]
      {{0x66, 0x0f, 0x38, 0xf8, 0x3e}, 0x7000, 0x6000},                                 // rdi, [rsi]
      {{0x66, 0x0f, 0x38, 0xf8, 0x42, 0x7f}, 0x0000, 0x207f},                           // rax, [rdx + 0x7f]
      {{0x66, 0x0f, 0x38, 0xf8, 0x42, 0x80}, 0x0000, 0x1f80},                           // rax, [rdx - 0x80]
      {{0x66, 0x0f, 0x38, 0xf8, 0x9a, 0x00, 0x10, 0x00, 0x00}, 0x3000, 0x3000},         // rbx, [rdx + 0x1000]
      {{0x66, 0x0f, 0x38, 0xf8, 0x9a, 0x00, 0xf0, 0xff, 0xff}, 0x3000, 0x1000},         // rbx, [rdx - 0x1000]
      {{0x66, 0x0f, 0x38, 0xf8, 0x05, 0x10, 0x00, 0x00, 0x00}, 0x0000, kRip + 9 + 16},  // rax, [rip + 16]
      {{0x66, 0x0f, 0x38, 0xf8, 0x0c, 0x24}, 0x1000, 0x4000},                           // rcx, [rsp]
      {{0x66, 0x0f, 0x38, 0xf8, 0x4c, 0x24, 0x40}, 0x1000, 0x4040},                     // rcx, [rsp + 0x40]
      {{0x66, 0x0f, 0x38, 0xf8, 0x45, 0x00}, 0x0000, 0x5000},                           // rax, [rbp]
      {{0x66, 0x0f, 0x38, 0xf8, 0x04, 0xca}, 0x0000, 0x2000 + 8 * 0x1000},              // rax, [rdx + 8 rcx]
      {{0x66, 0x0f, 0x38, 0xf8, 0x44, 0x4d, 0x08}, 0x0000, 0x5000 + 2 * 0x1000 + 8},    // rax, [rbp + 2 rcx + 8]
      {{0x66, 0x0f, 0x38, 0xf8, 0x84, 0x8b, 0, 1, 0, 0},
       0x0000,
       0x3000 + 4 * 0x1000 + 256},                                                // rax, [rbx + 4 rcx + 256]
      {{0x66, 0x0f, 0x38, 0xf8, 0x04, 0x0d, 0x20, 0, 0, 0}, 0x0000, 0x1020},      // rax, [rcx + 0x20], no base
      {{0x66, 0x0f, 0x38, 0xf8, 0x04, 0x25, 0x20, 0, 0, 0}, 0x0000, 0x0020},      // rax, [0x20]
      {{0x66, 0x44, 0x0f, 0x38, 0xf8, 0x02}, 0x8000, 0x2000},                     // r8, [rdx]
      {{0x66, 0x41, 0x0f, 0x38, 0xf8, 0x02}, 0x0000, 0xa000},                     // rax, [r10]
      {{0x66, 0x4d, 0x0f, 0x38, 0xf8, 0x3b}, 0xf000, 0xb000},                     // r15, [r11], REX.W too
      {{0x66, 0x41, 0x0f, 0x38, 0xf8, 0x45, 0x00}, 0x0000, 0xd000},               // rax, [r13]
      {{0x66, 0x41, 0x0f, 0x38, 0xf8, 0x04, 0x24}, 0x0000, 0xc000},               // rax, [r12]
      {{0x66, 0x43, 0x0f, 0x38, 0xf8, 0x04, 0xca}, 0x0000, 0xa000 + 8 * 0x9000},  // rax, [r10 + 8 r9]
      {{0x66, 0x42, 0x0f, 0x38, 0xf8, 0x04, 0x22}, 0x0000, 0x2000 + 0xc000},      // rax, [rdx + r12]
      {{0x3e, 0x66, 0x0f, 0x38, 0xf8, 0x02}, 0x0000, 0x2000},                     // a prefix that means nothing
  };
  return all;
}

}  // namespace

TEST(dsa_emulator_decodes_every_form_of_both_instructions) {
  for (const Form& form : forms()) {
    std::vector<uint8_t> code = form.code;
    for (const bool is_enqcmd : {false, true}) {
      if (is_enqcmd) code[code[0] == 0x3e ? 1 : 0] = 0xf2;
      const auto instruction = decode(code);
      CHECK(instruction.has_value());
      if (!instruction) continue;
      CHECK_EQ(instruction->is_enqcmd, is_enqcmd);
      CHECK_EQ(instruction->size_bytes, code.size());
      CHECK_EQ(instruction->destination, form.destination);
      CHECK_EQ(instruction->source, form.source);
    }
  }
}

TEST(dsa_emulator_decodes_nothing_that_is_cut_off) {
  for (const Form& form : forms()) {
    for (size_t size = 0; size < form.code.size(); ++size) {
      CHECK(!decode({form.code.begin(), form.code.begin() + static_cast<ptrdiff_t>(size)}).has_value());
    }
  }
}

TEST(dsa_emulator_leaves_other_instructions_alone) {
  CHECK(!decode({0x0f, 0x38, 0xf8, 0x02}).has_value());                    // no prefix
  CHECK(!decode({0xf3, 0x0f, 0x38, 0xf8, 0x02}).has_value());              // ENQCMDS
  CHECK(!decode({0x66, 0x0f, 0x38, 0xf8, 0xc2}).has_value());              // a register for the source
  CHECK(!decode({0x66, 0x0f, 0x38, 0xf9, 0x02}).has_value());              // another opcode
  CHECK(!decode({0x66, 0x0f, 0x3a, 0xf8, 0x02}).has_value());              // another map
  CHECK(!decode({0x64, 0x66, 0x0f, 0x38, 0xf8, 0x02}).has_value());        // relative to FS
  CHECK(!decode({0xf0, 0x66, 0x0f, 0x38, 0xf8, 0x02}).has_value());        // lock
  CHECK(!decode({0x44, 0x66, 0x0f, 0x38, 0xf8, 0x02, 0x90}).has_value());  // REX not right before the opcode
  CHECK(!decode(std::vector<uint8_t>(15, 0x66)).has_value());
  CHECK(!decode({0xc7, 0x00, 0, 0, 0, 0}).has_value());  // mov [rax], 0
}

TEST(dsa_emulator_takes_short_addresses_modulo_four_gigabytes) {
  GeneralRegisters registers{};
  registers[0] = 0x1'0000'3000;
  registers[2] = 0xffff'ffff'0000'2000;
  const std::vector<uint8_t> code = {0x67, 0xf2, 0x0f, 0x38, 0xf8, 0x02};
  const auto instruction = decode_portal_instruction(code, kRip, registers);
  CHECK(instruction && instruction->destination == 0x3000 && instruction->source == 0x2000);
}

}  // namespace vmsnap::test

#endif
