// libFuzzer: bytes as what an image's reader gives the native library: page states, compacted pages, words, targets.
// Counts that do not fit are noticed; what fits is expanded to exactly the pages that the states say.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <span>
#include <vector>

#include "../../base/page_state.h"
#include "../../segment/chunk_pages.h"
#include "../../segment/segment_view.h"

namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kMostPages = 256;

void require(bool holds) {
  if (!holds) abort();
}

/// Bytes of the input, and zeros behind its end.
class Input {
 public:
  Input(const uint8_t* data, size_t size) : bytes_(data, size) {}
  uint8_t byte() { return at_ < bytes_.size() ? bytes_[at_++] : uint8_t{0}; }

 private:
  std::span<const uint8_t> bytes_;
  size_t at_ = 0;
};

void expand(Input& input, std::span<const uint8_t> states) {
  const vmsnap::PageCounts counts = vmsnap::count_pages(states);
  if (!counts.states_are_known) return;
  require(counts.data + counts.uniform <= states.size());
  // Exactly as much as the states name, so that the sanitizer sees a byte too far.
  std::vector<uint8_t> data(counts.data * kPageBytes);
  for (size_t i = 0; i < data.size(); i += kPageBytes) data[i] = static_cast<uint8_t>(input.byte() | 1);
  std::vector<uint64_t> words(counts.uniform, 0x0101010101010101);
  const vmsnap::SegmentView view{
      .states = states, .page_bytes = kPageBytes, .data = data.data(), .words = words.data()};
  std::vector<uint8_t> out(states.size() * kPageBytes, 0xaa);
  vmsnap::expand_segment(view, out.data());
  size_t from = 0;
  for (size_t page = 0; page < states.size(); ++page) {
    const uint8_t* bytes = out.data() + page * kPageBytes;
    if (states[page] == vmsnap::kPageData)
      require(std::memcmp(bytes, data.data() + from++ * kPageBytes, kPageBytes) == 0);
    if (states[page] == vmsnap::kPageUniform) require(bytes[0] == 1 && bytes[kPageBytes - 1] == 1);
    if (states[page] == vmsnap::kPageZero) require(bytes[0] == 0 && bytes[kPageBytes - 1] == 0);
  }
  const size_t leaf_count = (out.size() + (size_t{1} << 20) - 1) >> 20;
  std::vector<uint8_t> leaves(16 * leaf_count);
  vmsnap::digest_segment(view, leaves.data());
}

void scatter(Input& input) {
  const size_t pages = input.byte() % 16;
  const size_t room = input.byte() % 16;
  std::vector<int32_t> targets(pages);
  for (int32_t& target : targets)
    target = static_cast<int32_t>(static_cast<int8_t>(input.byte())) << (input.byte() % 25);
  const std::vector<uint8_t> from(pages * kPageBytes, 1);
  std::vector<uint8_t> data(room * kPageBytes);
  std::vector<uint8_t> same(room);
  const bool fits = std::all_of(targets.begin(), targets.end(),
                                [&](int32_t target) { return target < 0 || static_cast<size_t>(target) < room; });
  require(vmsnap::scatter_pages(targets, kPageBytes, from.data(), data) == fits);
  require(vmsnap::match_pages(targets, kPageBytes, from.data(), data, same) == fits);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  Input input(data, size);
  scatter(input);
  std::vector<uint8_t> states(input.byte() % kMostPages + 1);
  for (size_t i = 0; i < states.size(); ++i) states[i] = input.byte();
  expand(input, states);
  return 0;
}
