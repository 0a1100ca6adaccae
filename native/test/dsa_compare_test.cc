// Compares of many sizes, at many alignments, with the difference at many places, as DML's and idxd-config's tests have
// them, through the driver over every back end.
#include "support/dsa_answers.h"
#include "support/dsa_backend.h"
#include "support/emulated.h"
#include "support/random.h"

namespace vmsnap::test {

namespace {

using dsa::Answer;
using dsa::Offload;
using dsa::PageCheck;

constexpr size_t kMiB = size_t{1} << 20;

/// A buffer in the middle of others that are not zero, byte by byte up to it.
struct Buffer {
  uint8_t* address;
  size_t size_bytes;

  Buffer(const Pages& pages, size_t alignment, size_t size) : address(pages.at(4096 + alignment)), size_bytes(size) {
    std::memset(pages.at(), 0xff, pages.size_bytes());
    std::memset(address, 0, size);
  }
};

bool answer_is(Offload& offload, const Buffer& buffer, Answer expected) {
  PageCheck check = check_of(buffer.address, 1, buffer.size_bytes);
  return offload.check_now(check) && check.answers()[0] == expected;
}

std::vector<size_t> first_middle_last(size_t size_bytes) { return {0, size_bytes / 2, size_bytes - 1}; }

}  // namespace

// DML: sizes 1 to 1024 that are no multiples of anything, alignments 1 to 8, the difference first, in the middle, last.
DSA_CASE(compare_of_dml_sizes_alignments_and_differences) {
  const auto offload = backend.open();
  const Pages pages(4);
  for (const size_t size_bytes : {1, 3, 8, 15, 64, 255, 1024}) {
    for (const size_t alignment : {0, 1, 2, 4, 8, 3, 7, 31, 63}) {
      const Buffer buffer(pages, alignment, size_bytes);
      CHECK(answer_is(*offload, buffer, Answer::zero));
      for (const size_t at : first_middle_last(size_bytes)) {
        buffer.address[at] = 0x80;
        CHECK(answer_is(*offload, buffer, Answer::not_zero));
        buffer.address[at] = 0;
      }
    }
  }
}

// idxd-config: 1 byte, 4 KiB, 64 KiB, 1 MiB, 2 MiB.
DSA_CASE(compare_of_idxd_config_sizes) {
  const auto offload = backend.open();
  const Pages pages(2 * kMiB / 4096 + 2);
  for (const size_t size_bytes : {size_t{1}, size_t{4096}, size_t{65536}, kMiB, 2 * kMiB}) {
    for (const size_t alignment : {0, 5}) {
      const Buffer buffer(pages, alignment * (size_bytes < 2 * kMiB), size_bytes);
      CHECK(answer_is(*offload, buffer, Answer::zero));
      for (const size_t at : first_middle_last(size_bytes)) {
        buffer.address[at] = 1;
        CHECK(answer_is(*offload, buffer, Answer::not_zero));
        buffer.address[at] = 0;
      }
    }
  }
}

// QEMU's own zero check is tested so: a marker at every byte in turn.
DSA_CASE(compare_finds_one_byte_anywhere_in_a_page) {
  const auto offload = backend.open();
  constexpr size_t kStep = 7;
  Pages pages(4096 / kStep + 1);
  pages.fill(0);
  PageCheck check;
  check.reset(4096);
  const size_t count = pages.size_bytes() / 4096;
  for (size_t page = 0; page < count; ++page) {
    pages.at(page * 4096)[page * kStep % 4096] = static_cast<uint8_t>(1U << (page % 8));
    check.add(pages.at(page * 4096), 1);
  }
  CHECK(offload->check_now(check));
  CHECK(all_are(check, Answer::not_zero));
}

// One page with data somewhere in a large zero area, which is compared in large pieces: it alone is not zero.
DSA_CASE(compare_of_large_areas_finds_the_one_page) {
  const auto offload = backend.open();
  Pages pages(1024);
  pages.fill(0);
  // Learns that memory is zero here.
  for (int round = 0; round < 4; ++round) CHECK(answers_rightly(*offload, pages.at(), 1024));
  Random random(1);
  for (int round = 0; round < 24; ++round) {
    const size_t at = round == 0 ? 0 : round == 1 ? pages.size_bytes() - 1 : random.below(pages.size_bytes());
    pages.at()[at] = 1;
    CHECK(answers_rightly(*offload, pages.at(), 1024));
    pages.at()[at] = 0;
    CHECK(answers_rightly(*offload, pages.at(), 1024));
  }
}

// Runs that begin and end anywhere, in any order, some twice.
DSA_CASE(compare_of_scattered_runs) {
  const auto offload = backend.open();
  Random random(2);
  Pages pages(600);
  pages.fill(0);
  for (size_t page = 0; page < 600; ++page) {
    if (random.below(4) == 0) pages.at(page * 4096)[random.below(4096)] = 1;
  }
  for (int round = 0; round < 20; ++round) {
    PageCheck check;
    check.reset(size_t{4096} << random.below(3));
    while (check.answers().size() < 100) {
      const size_t most = pages.size_bytes() / check.page_bytes();
      const size_t first = random.below(most);
      check.add(pages.at(first * check.page_bytes()), random.below(std::min<size_t>(most - first, 40) + 1));
    }
    CHECK(offload->check_now(check));
    CHECK(all_right(check));
  }
}

}  // namespace vmsnap::test
