// Hashing of a segment and finding what has changed of it since: hashSegment, findChanges.
#include <algorithm>
#include <array>
#include <bit>

#include "../base/limits.h"
#include "../hash/change_finder.h"
#include "arguments.h"
#include "register.h"
#include "segment_arguments.h"

namespace vmsnap::addon {

namespace {

// Indexes of the report of findChanges: CHANGES_* of binding.ts.
constexpr size_t kChangesPages = 0;
constexpr size_t kChangesReadBytes = 1;
constexpr size_t kChangesFailedOffset = 2;
constexpr size_t kChangesLength = 3;

/// The key at `index`, copied: what is used must not change under a call.
std::array<uint8_t, kHashKeyBytes> take_key(Arguments& arguments, size_t index) {
  std::array<uint8_t, kHashKeyBytes> key = {};
  const std::span<const uint8_t> bytes = arguments.bytes(index, "key", kHashKeyBytes);
  if (arguments.ok()) std::copy_n(bytes.data(), kHashKeyBytes, key.data());
  return key;
}

void hash_segment_blocks(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::array<uint8_t, kHashKeyBytes> key = take_key(arguments, 0);
  const SegmentArguments segment(arguments, 1);
  const std::span<uint8_t> hashes = arguments.bytes(6, "hashes", segment.size_bytes() / kBlockBytes * kBlockHashBytes);
  if (arguments.ok()) hash_segment(BlockHasher(key), segment.view(), hashes.data());
}

Napi::Value find_changed_pages(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::array<uint8_t, kHashKeyBytes> key = take_key(arguments, 0);
  const int fd = arguments.file_descriptor(1);
  const uint64_t offset = arguments.position(2, "offset");
  const auto size_bytes =
      static_cast<uint64_t>(arguments.integer(3, "sizeBytes", 0, static_cast<int64_t>(kMaxSegmentBytes)));
  const auto page_bytes = static_cast<size_t>(
      arguments.integer(4, "pageSize", static_cast<int64_t>(kMinPageBytes), static_cast<int64_t>(kMaxPageBytes)));
  if (arguments.ok() && (!std::has_single_bit(page_bytes) || size_bytes % page_bytes != 0)) {
    arguments.range_error("pageSize must be a power of two and sizeBytes a multiple of it");
  }
  const std::span<const uint8_t> hashes = arguments.bytes(5, "hashes", size_bytes / kBlockBytes * kBlockHashBytes);
  const std::span<uint8_t> pages = arguments.bytes(6, "pages", size_bytes);
  const std::span<uint8_t> changed = arguments.bytes(7, "changed", size_bytes / std::max(page_bytes, kMinPageBytes));
  const std::span<double> report_array = arguments.doubles(8, "report", kChangesLength);
  if (!arguments.ok()) return info.Env().Undefined();
  const std::array<Extent, 1> extents = {Extent{.fd = fd, .offset = offset, .size_bytes = size_bytes}};
  ChangeReport report;
  const int status =
      find_changes(BlockHasher(key), extents, page_bytes, hashes.data(), pages.data(), changed.data(), report);
  report_array[kChangesPages] = static_cast<double>(report.changed_pages);
  report_array[kChangesReadBytes] = static_cast<double>(report.read_bytes);
  report_array[kChangesFailedOffset] = static_cast<double>(report.failed_offset);
  return Napi::Number::New(info.Env(), status);
}

}  // namespace

void register_live(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "hashSegment", hash_segment_blocks);
  export_function(env, exports, "findChanges", find_changed_pages);
}

}  // namespace vmsnap::addon
