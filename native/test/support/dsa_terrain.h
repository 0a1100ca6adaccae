// Random memory to ask the driver about, with a copy of what is in it: pages of every kind, and some that no device can
// read.
#pragma once

#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include <sys/mman.h>
#include <unistd.h>

#include "../../dsa/page_check.h"
#include "../../file/unique_fd.h"
#include "dsa_world.h"
#include "random.h"

namespace vmsnap::test {

class Terrain {
 public:
  /// With `with_gone` some pages may be out of reach.
  Terrain(Random& random, bool with_gone) : pages_(1 + random.below(500)), copy_(pages_ * kPageBytes), gone_(pages_) {
    const bool of_file = chance(random, 50);
    if (of_file) {
      file_ = UniqueFd(memfd_create("vmsnap-test", MFD_CLOEXEC));
      if (!file_.is_open() || ftruncate(file_.get(), static_cast<off_t>(size_bytes())) != 0) std::abort();
    }
    void* const memory = mmap(nullptr, size_bytes(), PROT_READ | PROT_WRITE,
                              of_file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, of_file ? file_.get() : -1, 0);
    if (memory == MAP_FAILED) std::abort();
    bytes_ = static_cast<uint8_t*>(memory);
    madvise(bytes_, size_bytes(), MADV_NOHUGEPAGE);
    make_pages(random);
    if (chance(random, 40)) drop_pages(random);
    if (!with_gone) return;
    if (chance(random, 30)) protect_pages(random);
    if (of_file && chance(random, 50)) cut(random);
  }
  ~Terrain() { munmap(bytes_, size_bytes()); }
  Terrain(const Terrain&) = delete;
  Terrain& operator=(const Terrain&) = delete;

  size_t size_bytes() const { return pages_ * kPageBytes; }
  const uint8_t* at(size_t offset) const { return bytes_ + offset; }
  /// Some pages are not in the page tables.
  bool has_untouched() const { return has_untouched_; }
  bool has_gone() const { return has_gone_; }

  /// Whether a device may say so. Of a page that lies partly out of reach it can only see that it is not zero.
  bool allows(dsa::Answer answer, const uint8_t* address, size_t page_bytes) const {
    if (answer == dsa::Answer::unknown) return true;
    const auto start = static_cast<size_t>(address - bytes_);
    bool differs = false;
    bool all_seen = true;
    for (size_t i = start; i < start + page_bytes; ++i) {
      const bool is_gone = gone_[i / kPageBytes];
      all_seen = all_seen && !is_gone;
      differs = differs || (!is_gone && copy_[i] != 0);
    }
    return answer == dsa::Answer::zero ? all_seen && !differs : differs;
  }

 private:
  static constexpr size_t kPageBytes = 4096;

  uint8_t* page(size_t number) const { return bytes_ + number * kPageBytes; }

  void make_pages(Random& random) {
    // Runs of one kind, and single pages.
    const uint64_t share_of_data = pick<uint64_t>(random, {0, 2, 20, 50, 100});
    const uint64_t longest_run = pick<uint64_t>(random, {1, 4, 200});
    size_t left = 0;
    bool has_data = false;
    for (size_t number = 0; number < pages_; ++number) {
      if (left == 0) {
        left = 1 + random.below(longest_run);
        has_data = chance(random, share_of_data);
      }
      --left;
      uint8_t* const copy = copy_.data() + number * kPageBytes;
      if (has_data) fill(random, copy);
      std::memcpy(page(number), copy, kPageBytes);
    }
  }

  static void fill(Random& random, uint8_t* copy) {
    const uint64_t kind = random.below(4);
    const uint64_t word = random.next() | 1;
    if (kind == 0) {
      const std::vector<uint8_t> data = random.bytes(kPageBytes);
      std::memcpy(copy, data.data(), kPageBytes);
    } else if (kind == 1) {
      for (size_t i = 0; i < kPageBytes; i += sizeof word) std::memcpy(copy + i, &word, sizeof word);
    } else {
      copy[pick<size_t>(random, {0, kPageBytes - 1, random.below(kPageBytes)})] = 0x40;
    }
  }

  /// Out of the page tables; what a file holds stays.
  void drop_pages(Random& random) {
    has_untouched_ = true;
    for (size_t number = 0; number < pages_; ++number) {
      if (!chance(random, 30)) continue;
      madvise(page(number), kPageBytes, MADV_DONTNEED);
      if (!file_.is_open()) std::memset(copy_.data() + number * kPageBytes, 0, kPageBytes);
    }
  }

  void protect_pages(Random& random) {
    const uint64_t share = pick<uint64_t>(random, {1, 10});
    for (size_t number = 0; number < pages_; ++number) {
      if (!chance(random, share)) continue;
      mprotect(page(number), kPageBytes, PROT_NONE);
      gone_[number] = true;
      has_gone_ = true;
    }
  }

  /// Somewhere in a page, the rest of which is zero then.
  void cut(Random& random) {
    const size_t end = random.below(size_bytes());
    if (ftruncate(file_.get(), static_cast<off_t>(end)) != 0) std::abort();
    has_gone_ = true;
    for (size_t number = (end + kPageBytes - 1) / kPageBytes; number < pages_; ++number) gone_[number] = true;
    const size_t rest = (kPageBytes - end % kPageBytes) % kPageBytes;
    std::memset(copy_.data() + end, 0, rest);
  }

  size_t pages_;
  uint8_t* bytes_ = nullptr;
  UniqueFd file_;
  std::vector<uint8_t> copy_;
  std::vector<bool> gone_;
  bool has_untouched_ = false;
  bool has_gone_ = false;
};

}  // namespace vmsnap::test
