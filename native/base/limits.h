// Sizes that formats/vmsnap/SPEC.md fixes.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

namespace vmsnap {

static_assert(std::endian::native == std::endian::little, "words and digests are taken from memory as they lie there");
static_assert(sizeof(size_t) == 8, "segments and file offsets are 64 bits");

inline constexpr size_t kMinPageBytes = size_t{4} << 10;
inline constexpr size_t kMaxPageBytes = size_t{2} << 20;
inline constexpr size_t kMinSegmentBytes = size_t{1} << 20;
inline constexpr size_t kMaxSegmentBytes = size_t{64} << 20;
inline constexpr size_t kMaxSegmentPages = kMaxSegmentBytes / kMinPageBytes;

/// Memory digest: a block is hashed by itself, a leaf is the hash of its blocks' digests.
inline constexpr size_t kBlockBytes = 4096;
inline constexpr size_t kLeafBytes = size_t{1} << 20;
inline constexpr size_t kBlocksPerLeaf = kLeafBytes / kBlockBytes;
inline constexpr size_t kDigestBytes = 16;

/// Largest integer that a JavaScript number holds exactly, plus one: every position and length stays below it.
inline constexpr uint64_t kMaxPosition = uint64_t{1} << 53;

}  // namespace vmsnap
