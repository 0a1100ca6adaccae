// The block hash: every kernel against the definition in words, what it must tell apart, and how rarely it collides
// where a weak hash would; then hashing a segment and finding what has changed since.
#include <algorithm>
#include <array>
#include <vector>

#include "../base/word.h"
#include "../hash/block_hash.h"
#include "../hash/change_finder.h"
#include "support/check.h"
#include "support/random.h"
#include "support/temp_file.h"

namespace vmsnap::test {

namespace {

using Key = std::array<uint8_t, kHashKeyBytes>;

Key random_key(Random& random) {
  Key key;
  for (uint8_t& byte : key) byte = static_cast<uint8_t>(random.next());
  return key;
}

uint64_t word_32(const uint8_t* bytes, size_t number) {
  const uint8_t* at = bytes + 4 * number;
  return uint64_t{at[0]} | uint64_t{at[1]} << 8 | uint64_t{at[2]} << 16 | uint64_t{at[3]} << 24;
}

/// The definition in block_hash.h, word by word.
uint64_t slow_sum(const uint8_t* key, const uint8_t* block, size_t shift_pairs) {
  constexpr uint64_t kModulus = uint64_t{1} << 32;
  uint64_t sum = 0;
  for (size_t pair = 0; pair < 512; ++pair) {
    const size_t key_pair = pair + shift_pairs;
    const uint64_t a = (word_32(block, 2 * pair) + word_32(key, 2 * key_pair)) % kModulus;
    const uint64_t b = (word_32(block, 2 * pair + 1) + word_32(key, 2 * key_pair + 1)) % kModulus;
    sum += a * b;
  }
  return sum;
}

template <class Visit>
void for_each_kernel(Visit&& visit) {
  for (const HashKernel& kernel : hash_kernels()) {
    if (kernel.available) visit(kernel);
  }
}

}  // namespace

TEST(hash_has_a_kernel_everywhere_and_takes_the_best) {
  CHECK_EQ(hash_kernels().back().name, "scalar");
  CHECK(hash_kernels().back().available);
  CHECK(best_hash_kernel().available);
#if defined(__aarch64__)
  CHECK_EQ(best_hash_kernel().name, "neon");
#endif
}

TEST(hash_kernels_give_what_the_definition_says) {
  Random random(1);
  for_each_kernel([&](const HashKernel& kernel) {
    for (int round = 0; round < 200; ++round) {
      const Key key = random_key(random);
      std::vector<uint8_t> block = random.bytes(kBlockBytes + 64);
      // Sums that carry: all ones, and words at the edge of 32 bits.
      if (round % 4 == 1) std::fill(block.begin(), block.end(), uint8_t{0xFF});
      if (round % 4 == 2) std::fill(block.begin(), block.end(), uint8_t{0});
      const uint8_t* at = block.data() + random.below(64);
      const BlockHash sum = kernel.sum_block(key.data(), at);
      CHECK_EQ(sum.first, slow_sum(key.data(), at, 0));
      CHECK_EQ(sum.second, slow_sum(key.data(), at, 4));
    }
  });
}

TEST(hash_has_known_answers) {
  // Worked out by hand: with a key of zeros but for single words, a block of single words.
  Key key = {};
  std::vector<uint8_t> block(kBlockBytes);
  block[0] = 3;                  // a[0]
  block[4] = 5;                  // b[0]
  key[0] = 1;                    // x[0]
  key[kHashShiftBytes] = 2;      // x[4]
  key[kHashShiftBytes + 4] = 4;  // y[4]
  for_each_kernel([&](const HashKernel& kernel) {
    // First sum: (3 + 1) * 5, and pair 4 of zeros with the key (2, 4): 8. Second: (3 + 2) * (5 + 4).
    CHECK_EQ(kernel.sum_block(key.data(), block.data()).first, uint64_t{28});
    CHECK_EQ(kernel.sum_block(key.data(), block.data()).second, uint64_t{45});
    // A block of zeros has the sums 8 and 8.
    const BlockHash hash = BlockHasher(key, kernel).hash(block.data());
    CHECK_EQ(hash.first, uint64_t{20});
    CHECK_EQ(hash.second, uint64_t{37});
  });
}

TEST(hash_of_zeros_is_zero_and_repeated_words_are_as_their_bytes) {
  Random random(2);
  for_each_kernel([&](const HashKernel& kernel) {
    const BlockHasher hasher(random_key(random), kernel);
    const std::vector<uint8_t> zeros(kBlockBytes);
    CHECK(hasher.hash(zeros.data()) == BlockHash{});
    CHECK(hasher.hash_repeated(0) == BlockHash{});
    const uint64_t word = random.next();
    std::vector<uint8_t> block(kBlockBytes);
    fill_words(block.data(), block.size(), word);
    CHECK(hasher.hash_repeated(word) == hasher.hash(block.data()));
  });
}

TEST(hash_sees_every_single_bit) {
  Random random(3);
  for_each_kernel([&](const HashKernel& kernel) {
    const BlockHasher hasher(random_key(random), kernel);
    std::vector<uint8_t> block = random.bytes(kBlockBytes);
    const BlockHash before = hasher.hash(block.data());
    for (size_t bit = 0; bit < 8 * kBlockBytes; ++bit) {
      block[bit / 8] ^= static_cast<uint8_t>(1U << bit % 8);
      CHECK(hasher.hash(block.data()) != before);
      block[bit / 8] ^= static_cast<uint8_t>(1U << bit % 8);
    }
    CHECK(hasher.hash(block.data()) == before);
  });
}

TEST(hash_sees_exchanges_moves_and_opposite_changes) {
  Random random(4);
  const BlockHasher hasher(random_key(random));
  for (int round = 0; round < 2000; ++round) {
    const std::vector<uint8_t> block = random.bytes(kBlockBytes);
    const BlockHash before = hasher.hash(block.data());
    std::vector<uint8_t> other = block;
    const size_t words = kBlockBytes / 4;
    const size_t i = random.below(words);
    const size_t j = (i + 1 + random.below(words - 1)) % words;
    switch (round % 4) {
      case 0:
        std::swap_ranges(other.begin() + 4 * static_cast<long>(i), other.begin() + 4 * static_cast<long>(i) + 4,
                         other.begin() + 4 * static_cast<long>(j));
        break;
      case 1:
        std::rotate(other.begin(), other.begin() + 4, other.end());
        break;
      case 2:
        // A sum of the words stays what it was.
        other[4 * i] = static_cast<uint8_t>(other[4 * i] + 1);
        other[4 * j] = static_cast<uint8_t>(other[4 * j] - 1);
        break;
      default:
        // So does their exclusive or.
        other[4 * i] ^= 0x80;
        other[4 * j] ^= 0x80;
    }
    if (other == block) continue;
    CHECK(hasher.hash(other.data()) != before);
  }
}

TEST(hash_with_another_key_is_another_hash) {
  Random random(5);
  const std::vector<uint8_t> block = random.bytes(kBlockBytes);
  std::vector<uint64_t> seen;
  for (int round = 0; round < 1000; ++round) {
    const BlockHash hash = BlockHasher(random_key(random)).hash(block.data());
    seen.push_back(hash.first);
    seen.push_back(hash.second);
  }
  std::sort(seen.begin(), seen.end());
  CHECK(std::adjacent_find(seen.begin(), seen.end()) == seen.end());
}

TEST(changes_are_found_and_taken_whatever_they_are) {
  Random random(6);
  for (const size_t page_bytes : {size_t{4096}, size_t{16384}}) {
    constexpr size_t kPages = 64;
    for (int round = 0; round < 30; ++round) {
      // Pages of zeros, of a word, and of data; in the compacted form that a scan gives.
      std::vector<uint8_t> states;
      std::vector<uint8_t> data;
      std::vector<uint64_t> words;
      std::vector<uint8_t> memory;
      for (size_t page = 0; page < kPages; ++page) {
        const auto state = static_cast<uint8_t>(random.below(3));
        states.push_back(state);
        std::vector<uint8_t> bytes(page_bytes);
        if (state == kPageData) {
          bytes = random.bytes(page_bytes);
          data.insert(data.end(), bytes.begin(), bytes.end());
        } else if (state == kPageUniform) {
          words.push_back(random.next());
          fill_words(bytes.data(), page_bytes, words.back());
        }
        memory.insert(memory.end(), bytes.begin(), bytes.end());
      }
      const BlockHasher hasher(random_key(random));
      std::vector<uint8_t> hashes(kPages * page_bytes / kBlockBytes * kBlockHashBytes, 0xEE);
      hash_segment(hasher, {.states = states, .page_bytes = page_bytes, .data = data.data(), .words = words.data()},
                   hashes.data());

      std::vector<uint8_t> expected;
      std::vector<uint8_t> expected_changed(kPages);
      for (size_t page = 0; page < kPages; ++page) {
        uint8_t* bytes = memory.data() + page * page_bytes;
        const std::vector<uint8_t> before(bytes, bytes + page_bytes);
        const uint64_t what = random.below(5);
        if (what == 0) bytes[random.below(page_bytes)] ^= 1;
        if (what == 1) std::fill_n(bytes, page_bytes, uint8_t{0});
        expected_changed[page] = std::equal(before.begin(), before.end(), bytes) ? 0 : 1;
        if (expected_changed[page] != 0) expected.insert(expected.end(), bytes, bytes + page_bytes);
      }

      // At an offset that is no multiple of a page, with a hole where the memory is zero at its end.
      const UniqueFd file = temp_file();
      constexpr size_t kOffset = 777;
      size_t used = memory.size();
      while (used > 0 && memory[used - 1] == 0) --used;
      write_at(file.get(), {memory.data(), used}, kOffset);
      CHECK_EQ(ftruncate(file.get(), static_cast<off_t>(kOffset + memory.size())), 0);
      const std::array<Extent, 1> extents = {Extent{.fd = file.get(), .offset = kOffset, .size_bytes = memory.size()}};
      std::vector<uint8_t> pages(memory.size());
      std::vector<uint8_t> changed(kPages, 7);
      ChangeReport report;
      CHECK_EQ(find_changes(hasher, extents, page_bytes, hashes.data(), pages.data(), changed.data(), report), 0);
      CHECK(changed == expected_changed);
      CHECK_EQ(report.changed_pages * page_bytes, expected.size());
      CHECK(std::equal(expected.begin(), expected.end(), pages.begin()));
    }
  }
}

TEST(changes_of_a_hole_are_its_pages_that_were_not_zero) {
  Random random(7);
  constexpr size_t kPageBytes = 4096;
  const BlockHasher hasher(random_key(random));
  const std::vector<uint8_t> data = random.bytes(kPageBytes);
  const std::vector<uint8_t> states = {kPageZero, kPageData, kPageZero, kPageZero};
  std::vector<uint8_t> hashes(states.size() * kBlockHashBytes);
  hash_segment(hasher, {.states = states, .page_bytes = kPageBytes, .data = data.data(), .words = nullptr},
               hashes.data());
  const std::array<Extent, 1> extents = {Extent{.fd = -1, .offset = 0, .size_bytes = 4 * kPageBytes}};
  std::vector<uint8_t> pages(4 * kPageBytes, 0xAA);
  std::vector<uint8_t> changed(4);
  ChangeReport report;
  CHECK_EQ(find_changes(hasher, extents, kPageBytes, hashes.data(), pages.data(), changed.data(), report), 0);
  CHECK(changed == (std::vector<uint8_t>{0, 1, 0, 0}));
  CHECK(std::all_of(pages.begin(), pages.begin() + kPageBytes, [](uint8_t byte) { return byte == 0; }));
  CHECK_EQ(report.read_bytes, uint64_t{0});
}

TEST(changes_are_not_found_in_a_file_that_became_shorter) {
  Random random(8);
  const BlockHasher hasher(random_key(random));
  const UniqueFd file = temp_file();
  write_at(file.get(), random.bytes(4096), 0);
  const std::array<Extent, 1> extents = {Extent{.fd = file.get(), .offset = 0, .size_bytes = 8192}};
  std::vector<uint8_t> hashes(2 * kBlockHashBytes);
  std::vector<uint8_t> pages(8192);
  std::vector<uint8_t> changed(2);
  ChangeReport report;
  CHECK_EQ(find_changes(hasher, extents, 4096, hashes.data(), pages.data(), changed.data(), report), kScanTruncated);
  CHECK_EQ(report.failed_offset, uint64_t{4096});
}

}  // namespace vmsnap::test
