#include "change_finder.h"

#include <algorithm>
#include <cstring>

#include "../base/word.h"
#include "../file/take_pages.h"
#include "../scan/kernel.h"

namespace vmsnap {

namespace {

void put_hash(const BlockHash& hash, uint8_t* to) { std::memcpy(to, &hash, kBlockHashBytes); }

bool is_hash(const BlockHash& hash, const uint8_t* at) { return std::memcmp(&hash, at, kBlockHashBytes) == 0; }

/// Compares pages with their hashes, in page order. A page whose hashes are zero was zero, or is taken for changed:
/// that it is zero still is told without a hash.
class PageComparer {
 public:
  PageComparer(const BlockHasher& hasher, size_t page_bytes, const uint8_t* hashes, uint8_t* pages, uint8_t* changed)
      : hasher_(hasher),
        repeats_first_word_(find_kernel("auto")->repeats_first_word),
        page_bytes_(page_bytes),
        next_hash_(hashes),
        next_page_(pages),
        next_changed_(changed) {}

  /// Where the next changed page belongs. Pages may be read to here and then given to add_pages.
  uint8_t* next_page() const { return next_page_; }

  void add_pages(const uint8_t* pages, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const uint8_t* page = pages + i * page_bytes_;
      const bool is_changed = !(has_zero_hashes() ? is_zero(page) : has_hashes(page));
      if (is_changed) keep(page);
      advance(is_changed);
    }
  }

  void add_zero_pages(size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const bool is_changed = !has_zero_hashes();
      if (is_changed) keep_zeros();
      advance(is_changed);
    }
  }

  uint64_t changed_pages() const { return changed_pages_; }

 private:
  size_t hashes_bytes() const { return page_bytes_ / kBlockBytes * kBlockHashBytes; }

  bool has_hashes(const uint8_t* page) const {
    const uint8_t* hash = next_hash_;
    for (size_t at = 0; at < page_bytes_; at += kBlockBytes, hash += kBlockHashBytes) {
      if (!is_hash(hasher_.hash(page + at), hash)) return false;
    }
    return true;
  }

  bool has_zero_hashes() const {
    uint64_t any = 0;
    for (size_t at = 0; at < hashes_bytes(); at += sizeof any) any |= load_word(next_hash_ + at);
    return any == 0;
  }

  bool is_zero(const uint8_t* page) const {
    return load_word(page) == 0 && looks_repeating(page, page_bytes_, 0) && repeats_first_word_(page, page_bytes_);
  }

  void keep(const uint8_t* page) {
    if (page != next_page_) std::memmove(next_page_, page, page_bytes_);
    next_page_ += page_bytes_;
  }

  void keep_zeros() {
    std::memset(next_page_, 0, page_bytes_);
    next_page_ += page_bytes_;
  }

  void advance(bool is_changed) {
    next_hash_ += hashes_bytes();
    *next_changed_++ = is_changed ? 1 : 0;
    changed_pages_ += is_changed ? 1 : 0;
  }

  const BlockHasher& hasher_;
  RepeatsFirstWord repeats_first_word_;
  size_t page_bytes_;
  const uint8_t* next_hash_;
  uint8_t* next_page_;
  uint8_t* next_changed_;
  uint64_t changed_pages_ = 0;
};

}  // namespace

void hash_segment(const BlockHasher& hasher, const SegmentView& segment, uint8_t* hashes) {
  const size_t blocks_per_page = segment.page_bytes / kBlockBytes;
  for_each_run(segment, [&](const PageRun& run) {
    uint8_t* to = hashes + run.first_page * blocks_per_page * kBlockHashBytes;
    if (run.state == kPageData) {
      for (size_t block = 0; block < run.pages * blocks_per_page; ++block) {
        put_hash(hasher.hash(run.data + block * kBlockBytes), to + block * kBlockHashBytes);
      }
    } else if (run.state == kPageUniform) {
      for (size_t page = 0; page < run.pages; ++page) {
        const BlockHash hash = hasher.hash_repeated(run.words[page]);
        for (size_t block = 0; block < blocks_per_page; ++block, to += kBlockHashBytes) put_hash(hash, to);
      }
    } else {
      std::memset(to, 0, run.pages * blocks_per_page * kBlockHashBytes);
    }
    return true;
  });
}

int find_changes(const BlockHasher& hasher, std::span<const Extent> extents, size_t page_bytes, const uint8_t* hashes,
                 uint8_t* pages, uint8_t* changed, ChangeReport& report) {
  report = {};
  uint64_t size_bytes = 0;
  for (const Extent& extent : extents) size_bytes += extent.size_bytes;
  const auto page_count = static_cast<size_t>(size_bytes / page_bytes);
  PageComparer comparer(hasher, page_bytes, hashes, pages, changed);
  ExtentCursor cursor(extents);
  for (size_t done = 0; done < page_count;) {
    TakenPages taken;
    if (const int status = take_pages(cursor, page_bytes, page_count - done, comparer.next_page(), taken);
        status != 0) {
      report.failed_offset = cursor.failed_offset();
      return status;
    }
    report.read_bytes += taken.read_bytes;
    if (taken.is_hole) {
      comparer.add_zero_pages(taken.pages);
    } else {
      comparer.add_pages(comparer.next_page(), taken.pages);
    }
    done += taken.pages;
  }
  report.changed_pages = comparer.changed_pages();
  return 0;
}

}  // namespace vmsnap
