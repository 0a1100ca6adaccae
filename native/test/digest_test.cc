// XXH3 against published values and the vendor's plain code; leaves and sums against the plain model.
#include <vector>

// The plain code of xxhash.h: what the library uses is its vector code.
#define XXH_INLINE_ALL
#define XXH_VECTOR XXH_SCALAR
#include <xxhash.h>

#include "../digest/leaf_digester.h"
#include "../digest/memory_digest.h"
#include "../digest/xxh3.h"
#include "../segment/segment_view.h"
#include "support/check.h"
#include "support/memory_image.h"
#include "support/model.h"

namespace vmsnap::test {

namespace {

struct Vector {
  size_t size_bytes;
  uint64_t low;
  uint64_t high;
};

/// From xxHash's own sanity test (seed 0), over the buffer that sanity_buffer() makes.
constexpr Vector kPublished[] = {
    {0, 0x6001C324468D497F, 0x99AA06D3014798D8},    {1, 0xC44BDFF4074EECDB, 0xA6CD5E9392000F6A},
    {6, 0x3E7039BDDA43CFC6, 0x082AFE0B8162D12A},    {12, 0x061A192713F69AD9, 0x6E3EFD8FC7802B18},
    {24, 0x1E7044D28B1B901D, 0x0CE966E4678D3761},   {48, 0xF942219AED80F67B, 0xA002AC4E5478227E},
    {81, 0x5E8BAFB9F95FB803, 0x4952F58181AB0042},   {222, 0xF1AEBD597CEC6B3A, 0x337E09641B948717},
    {403, 0xCDEB804D65C6DEA4, 0x1B6DE21E332DD73D},  {512, 0x617E49599013CB6B, 0x18D2D110DCC9BCA1},
    {2048, 0xDD59E2C3A5F038E0, 0xF736557FD47073A5}, {2240, 0x6E73A90539CF2948, 0xCCB134FBFA7CE49D},
    {2367, 0xCB37AEB9E5D361ED, 0xE89C0F6FF369B427},
};

std::vector<uint8_t> sanity_buffer(size_t size_bytes) {
  std::vector<uint8_t> buffer;
  uint64_t generator = 2654435761U;
  for (size_t i = 0; i < size_bytes; ++i, generator *= 11400714785074694797U) {
    buffer.push_back(static_cast<uint8_t>(generator >> 56));
  }
  return buffer;
}

__extension__ using Wide = unsigned __int128;

uint64_t big_endian(const uint8_t* bytes) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) value = value * 256 + bytes[i];
  return value;
}

}  // namespace

TEST(xxh3_gives_the_published_values) {
  const std::vector<uint8_t> buffer = sanity_buffer(2367);
  for (const Vector& vector : kPublished) {
    const Digest digest = xxh3_128(buffer.data(), vector.size_bytes);
    CHECK_EQ(big_endian(digest.data()), vector.high);
    CHECK_EQ(big_endian(digest.data() + 8), vector.low);
  }
  CHECK_EQ(xxh3_128(nullptr, 0), xxh3_128(buffer.data(), 0));
}

TEST(xxh3_agrees_with_plain_code) {
  Random random(6);
  const std::vector<uint8_t> bytes = random.bytes(70'000);
  for (size_t size_bytes = 0; size_bytes < bytes.size(); size_bytes += size_bytes < 600 ? 1 : 331) {
    const uint8_t* from = bytes.data() + random.below(bytes.size() - size_bytes + 1);
    const XXH128_hash_t expected = XXH3_128bits(from, size_bytes);
    const Digest digest = xxh3_128(from, size_bytes);
    CHECK_EQ(big_endian(digest.data()), expected.high64);
    CHECK_EQ(big_endian(digest.data() + 8), expected.low64);
  }
}

TEST(leaf_digests_follow_the_model_for_any_page_size) {
  for (size_t page_bytes = kMinPageBytes; page_bytes <= kMaxPageBytes; page_bytes *= 8) {
    Random random(7);
    const std::vector<uint8_t> memory = memory_image(random, (6 << 20) + page_bytes, page_bytes);
    const Scanned scanned = model_scan(memory, page_bytes);
    std::vector<uint8_t> leaves(scanned.leaves.size());
    digest_segment({scanned.states, page_bytes, scanned.data.data(), scanned.words.data()}, leaves.data());
    CHECK_EQ(leaves, scanned.leaves);
  }
}

TEST(a_zero_leaf_is_one_constant_however_its_zeros_are_told) {
  const std::vector<uint8_t> zeros(kLeafBytes);
  const std::vector<uint8_t> expected = model_leaves(zeros);
  CHECK(std::equal(expected.begin(), expected.end(), zero_leaf_digest().begin()));
  const auto finished = [](auto&& fill) {
    Digest leaf;
    LeafDigester digester(leaf.data());
    fill(digester);
    digester.finish();
    return leaf;
  };
  CHECK_EQ(finished([&](LeafDigester& digester) { digester.add_zero(kLeafBytes); }), zero_leaf_digest());
  CHECK_EQ(finished([&](LeafDigester& digester) { digester.add_zero(4096); }), zero_leaf_digest());
  CHECK_EQ(finished([&](LeafDigester& digester) { digester.add_data(zeros.data(), 8192); }), zero_leaf_digest());
  CHECK_EQ(finished([&](LeafDigester& digester) { digester.add_uniform(0, kLeafBytes); }), zero_leaf_digest());
}

TEST(sum_takes_leaves_in_any_order_and_skips_zero_leaves) {
  Random random(8);
  std::vector<uint8_t> leaves = random.bytes(64 * kDigestBytes);
  std::copy_n(zero_leaf_digest().begin(), kDigestBytes, leaves.begin() + 5 * kDigestBytes);
  Sum128 whole;
  add_leaves(whole, 3, 1000, leaves.data(), 64);

  Wide expected = 0;
  for (uint64_t i = 0; i < 64; ++i) {
    if (i == 5) continue;
    std::vector<uint8_t> message = {3, 0, 0, 0, 0, 0, 0, 0};
    for (int byte = 0; byte < 8; ++byte) message.push_back(static_cast<uint8_t>((1000 + i) >> (8 * byte)));
    const auto leaf = leaves.begin() + static_cast<ptrdiff_t>(i * kDigestBytes);
    message.insert(message.end(), leaf, leaf + kDigestBytes);
    const Digest digest = xxh3_128(message.data(), message.size());
    Wide value = 0;
    for (const uint8_t byte : digest) value = value * 256 + byte;
    expected += value;
  }
  CHECK_EQ(whole.low, static_cast<uint64_t>(expected));
  CHECK_EQ(whole.high, static_cast<uint64_t>(expected >> 64));

  Sum128 backwards;
  for (uint64_t i = 64; i-- > 0;) add_leaves(backwards, 3, 1000 + i, leaves.data() + i * kDigestBytes, 1);
  CHECK_EQ(backwards.low, whole.low);
  CHECK_EQ(backwards.high, whole.high);
  Sum128 none;
  add_leaves(none, 3, 1005, leaves.data() + 5 * kDigestBytes, 1);
  CHECK_EQ(none.low | none.high, uint64_t{0});
}

}  // namespace vmsnap::test
