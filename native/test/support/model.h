// The plainest account of what a scan should answer, written from SPEC.md and sharing only XXH3 with the library.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "../../digest/xxh3.h"
#include "../../scan/segment_scanner.h"

namespace vmsnap::test {

struct Scanned {
  std::vector<uint8_t> data;
  std::vector<uint8_t> states;
  std::vector<uint64_t> words;
  std::vector<uint8_t> leaves;

  bool operator==(const Scanned&) const = default;
};

inline std::vector<uint8_t> model_leaves(std::span<const uint8_t> memory) {
  std::vector<uint8_t> padded(memory.begin(), memory.end());
  padded.resize((memory.size() + kLeafBytes - 1) / kLeafBytes * kLeafBytes);
  std::vector<uint8_t> leaves;
  for (size_t leaf = 0; leaf < padded.size(); leaf += kLeafBytes) {
    std::vector<uint8_t> digests;
    for (size_t block = 0; block < kLeafBytes; block += 4096) {
      const Digest digest = xxh3_128(padded.data() + leaf + block, 4096);
      digests.insert(digests.end(), digest.begin(), digest.end());
    }
    const Digest digest = xxh3_128(digests.data(), digests.size());
    leaves.insert(leaves.end(), digest.begin(), digest.end());
  }
  return leaves;
}

inline Scanned model_scan(std::span<const uint8_t> memory, size_t page_bytes) {
  Scanned answer;
  for (size_t at = 0; at < memory.size(); at += page_bytes) {
    const std::span<const uint8_t> page = memory.subspan(at, page_bytes);
    bool repeats = true;
    for (size_t i = 8; i < page_bytes; ++i) repeats = repeats && page[i] == page[i - 8];
    uint64_t word = 0;
    std::memcpy(&word, page.data(), sizeof word);
    answer.states.push_back(!repeats ? 1 : word == 0 ? 0 : 2);
    if (!repeats) answer.data.insert(answer.data.end(), page.begin(), page.end());
    if (repeats && word != 0) answer.words.push_back(word);
  }
  answer.leaves = model_leaves(memory);
  return answer;
}

/// Output arrays of exactly the size that is promised, so that a sanitizer sees every step beyond.
class OutputArrays {
 public:
  OutputArrays(size_t segment_bytes, size_t page_bytes)
      : data_(segment_bytes, 0xEE),
        states_(segment_bytes / page_bytes, 0xEE),
        words_(segment_bytes / page_bytes, 0xEEEEEEEEEEEEEEEE),
        leaves_((segment_bytes + kLeafBytes - 1) / kLeafBytes * 16, 0xEE),
        page_bytes_(page_bytes) {}

  ScanOutput output() { return {data_.data(), states_.data(), words_.data(), leaves_.data()}; }

  /// Cut to what the report says is there.
  Scanned taken(const ScanReport& report) const {
    return {.data = {data_.begin(), data_.begin() + static_cast<ptrdiff_t>(report.data_pages * page_bytes_)},
            .states = states_,
            .words = {words_.begin(), words_.begin() + static_cast<ptrdiff_t>(report.uniform_pages)},
            .leaves = leaves_};
  }

 private:
  std::vector<uint8_t> data_;
  std::vector<uint8_t> states_;
  std::vector<uint64_t> words_;
  std::vector<uint8_t> leaves_;
  size_t page_bytes_;
};

}  // namespace vmsnap::test
