// Decodes the two instructions that write 64 bytes to a portal (Intel SDM, volume 2: MOVDIR64B and ENQCMD).
#pragma once

#if defined(__x86_64__)

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace vmsnap::dsa {

inline constexpr size_t kMaxInstructionBytes = 15;

/// General registers by their number in an instruction: rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8 to r15.
using GeneralRegisters = std::array<uint64_t, 16>;

struct PortalInstruction {
  bool is_enqcmd;
  size_t size_bytes;
  uint64_t destination;
  uint64_t source;
};

/// `code` begins at `rip`. Empty for every other instruction, for one that is cut off, and for sources relative to FS
/// or GS.
std::optional<PortalInstruction> decode_portal_instruction(std::span<const uint8_t> code, uint64_t rip,
                                                           const GeneralRegisters& registers);

}  // namespace vmsnap::dsa

#endif
