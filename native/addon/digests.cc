// crc32c, xxh3, addLeaves.
#include <cstring>
#include <limits>

#include "../base/limits.h"
#include "../crc32c/crc32c.h"
#include "../digest/memory_digest.h"
#include "../digest/xxh3.h"
#include "arguments.h"
#include "register.h"

namespace vmsnap::addon {

namespace {

constexpr int64_t kMaxU32 = std::numeric_limits<uint32_t>::max();

Napi::Value crc32c_implementation_name(const Napi::CallbackInfo& info) {
  const std::string_view name = crc32c_implementation().name;
  return Napi::String::New(info.Env(), name.data(), name.size());
}

Napi::Value crc32c_of(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::span<const uint8_t> bytes = arguments.byte_range(0, "bytes");
  const auto seed = static_cast<uint32_t>(arguments.integer(3, "seed", 0, kMaxU32));
  if (!arguments.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), crc32c(bytes.data(), bytes.size(), seed));
}

void xxh3_of(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::span<const uint8_t> bytes = arguments.byte_range(0, "bytes");
  const std::span<uint8_t> out = arguments.bytes(3, "out");
  const uint64_t out_offset = arguments.position(4, "outOffset");
  if (arguments.ok() && (out.size() < kDigestBytes || out_offset > out.size() - kDigestBytes)) {
    arguments.range_error("out must have 16 bytes from outOffset on");
  }
  if (!arguments.ok()) return;
  const Digest digest = xxh3_128(bytes.data(), bytes.size());
  std::memcpy(out.data() + out_offset, digest.data(), digest.size());
}

void add_leaves_to_sum(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const auto region = static_cast<uint32_t>(arguments.integer(0, "region", 0, kMaxU32));
  const uint64_t first_leaf = arguments.position(1, "firstLeaf");
  const std::span<const uint8_t> leaves = arguments.bytes(2, "leaves");
  const uint64_t leaf_count = arguments.position(3, "leafCount");
  const std::span<uint64_t> sum = arguments.words(4, "sum", 2);
  if (arguments.ok() && leaf_count > leaves.size() / kDigestBytes) {
    arguments.range_error("leaves must have 16 bytes for each leaf");
  }
  if (!arguments.ok()) return;
  Sum128 total = {.low = sum[0], .high = sum[1]};
  add_leaves(total, region, first_leaf, leaves.data(), leaf_count);
  sum[0] = total.low;
  sum[1] = total.high;
}

}  // namespace

void register_digests(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "crc32cImplementation", crc32c_implementation_name);
  export_function(env, exports, "crc32c", crc32c_of);
  export_function(env, exports, "xxh3", xxh3_of);
  export_function(env, exports, "addLeaves", add_leaves_to_sum);
}

}  // namespace vmsnap::addon
