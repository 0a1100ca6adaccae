// Each kernel in turn against a plain loop, with guard bytes around the page that must not matter.
#include <vector>

#include "../scan/kernel.h"
#include "support/check.h"
#include "support/random.h"

namespace vmsnap::test {

namespace {

constexpr size_t kGuardBytes = 64;
constexpr size_t kMaxOffset = 64;

bool plain(const uint8_t* bytes, size_t size_bytes) {
  for (size_t i = 8; i < size_bytes; ++i) {
    if (bytes[i] != bytes[i - 8]) return false;
  }
  return true;
}

template <class Visit>
void for_each_kernel(Visit&& visit) {
  for (const Kernel& kernel : kernels()) {
    if (kernel.available) visit(kernel);
  }
}

}  // namespace

TEST(kernels_are_listed_best_first_with_a_reason) {
  CHECK_EQ(kernels().size(), size_t{3});
  CHECK_EQ(kernels().back().name, "scalar");
  CHECK(kernels().back().available);
  for (const Kernel& kernel : kernels()) {
    CHECK(kernel.reason[0] != '\0');
    CHECK(!kernel.available || kernel.repeats_first_word != nullptr);
    CHECK_EQ(find_kernel(kernel.name), &kernel);
  }
  CHECK(find_kernel("auto") != nullptr && find_kernel("auto")->available);
  CHECK(find_kernel("mmx") == nullptr);
#if defined(__aarch64__)
  CHECK_EQ(find_kernel("auto")->name, "neon");
#endif
}

TEST(kernel_accepts_every_length_at_every_alignment_whatever_lies_around) {
  for_each_kernel([](const Kernel& kernel) {
    for (const uint8_t fill : {uint8_t{0}, uint8_t{0xA5}}) {
      for (size_t size_bytes = 8; size_bytes <= 1024; size_bytes += 8) {
        for (size_t offset = 0; offset < kMaxOffset; ++offset) {
          std::vector<uint8_t> buffer(kGuardBytes + kMaxOffset + size_bytes + kGuardBytes, static_cast<uint8_t>(~fill));
          uint8_t* page = buffer.data() + kGuardBytes + offset;
          std::fill_n(page, size_bytes, fill);
          CHECK(kernel.repeats_first_word(page, size_bytes));
        }
      }
    }
  });
}

TEST(kernel_accepts_words_of_eight_different_bytes) {
  for_each_kernel([](const Kernel& kernel) {
    std::vector<uint8_t> page(4096);
    fill_words(page.data(), page.size(), 0x0123456789ABCDEF);
    CHECK(kernel.repeats_first_word(page.data(), page.size()));
  });
}

TEST(kernel_finds_a_marker_at_every_byte) {
  for_each_kernel([](const Kernel& kernel) {
    Random random(1);
    for (const uint64_t word : {uint64_t{0}, uint64_t{0xFFFFFFFFFFFFFFFF}, random.next()}) {
      for (const size_t size_bytes : {16U, 24U, 32U, 40U, 64U, 120U, 128U, 136U, 256U, 264U, 1016U, 4096U, 8192U}) {
        for (const size_t offset : {0U, 1U, 7U, 8U, 31U}) {
          std::vector<uint8_t> buffer(kGuardBytes + offset + size_bytes + kGuardBytes, 0x5A);
          uint8_t* page = buffer.data() + kGuardBytes + offset;
          fill_words(page, size_bytes, word);
          for (size_t marker = 0; marker < size_bytes; ++marker) {
            page[marker] ^= 1;
            CHECK(!kernel.repeats_first_word(page, size_bytes));
            page[marker] ^= 0x81;
            CHECK(!kernel.repeats_first_word(page, size_bytes));
            page[marker] ^= 0x80;
          }
        }
      }
    }
  });
}

TEST(kernel_agrees_with_a_plain_loop_on_near_misses) {
  for_each_kernel([](const Kernel& kernel) {
    Random random(2);
    std::vector<uint8_t> buffer(4096 + 64);
    for (int round = 0; round < 20000; ++round) {
      const size_t size_bytes = 8 + random.below(512) * 8;
      uint8_t* page = buffer.data() + random.below(64);
      fill_words(page, size_bytes, random.below(2) == 0 ? 0 : random.next());
      // Two equal markers eight bytes apart, or a word moved by a byte, must not cancel out.
      const uint64_t changes = random.below(3);
      const auto bit = static_cast<uint8_t>(1U << random.below(8));
      for (uint64_t i = 0; i < changes; ++i) page[random.below(size_bytes)] ^= bit;
      CHECK_EQ(kernel.repeats_first_word(page, size_bytes), plain(page, size_bytes));
    }
  });
}

}  // namespace vmsnap::test
