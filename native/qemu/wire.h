// Numbers of QEMU's migration stream (migration/savevm.c, migration/ram.c, migration/qemu-file-types.h of QEMU 10). All
// of it is big endian.
#pragma once

#include <cstddef>
#include <cstdint>

namespace vmsnap::qemu {

inline constexpr uint32_t kMagic = 0x5145564d;
inline constexpr uint32_t kVersion = 3;

// Section types.
inline constexpr uint8_t kSectionEof = 0x00;
inline constexpr uint8_t kSectionStart = 0x01;
inline constexpr uint8_t kSectionPart = 0x02;
inline constexpr uint8_t kSectionEnd = 0x03;
inline constexpr uint8_t kSectionFull = 0x04;
inline constexpr uint8_t kSectionSubsection = 0x05;
inline constexpr uint8_t kSectionConfiguration = 0x07;
inline constexpr uint8_t kSectionCommand = 0x08;
inline constexpr uint8_t kSectionFooter = 0x7e;

// Commands.
inline constexpr uint16_t kCommandPostcopyAdvise = 3;
inline constexpr uint16_t kCommandPostcopyListen = 4;
inline constexpr uint16_t kCommandPackaged = 7;
inline constexpr uint16_t kCommandEnableColo = 8;
inline constexpr uint16_t kCommandReceiveBitmap = 10;

// The RAM section: words of address | flags.
inline constexpr uint32_t kRamSectionVersion = 4;
inline constexpr size_t kPageBytes = 4096;
inline constexpr uint64_t kFlagMask = kPageBytes - 1;
inline constexpr uint64_t kFlagZero = 0x02;
inline constexpr uint64_t kFlagMemSize = 0x04;
inline constexpr uint64_t kFlagPage = 0x08;
inline constexpr uint64_t kFlagEos = 0x10;
inline constexpr uint64_t kFlagContinue = 0x20;
inline constexpr uint64_t kFlagXbzrle = 0x40;
inline constexpr uint64_t kFlagHook = 0x80;
inline constexpr uint64_t kFlagCompressPage = 0x100;
inline constexpr uint64_t kFlagMultifdFlush = 0x200;

// mapped-ram.
inline constexpr uint32_t kMappedRamVersion = 1;
inline constexpr size_t kMappedRamHeaderBytes = 28;

}  // namespace vmsnap::qemu
