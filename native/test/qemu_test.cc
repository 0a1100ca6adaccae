// QEMU migration streams: the index of a file against what was sent, segments of a pipe, the page table far apart, and
// random changes of a sound stream, of which nothing but an answer or a fault may come.
#include <string>
#include <thread>

#include "../file/stream.h"
#include "../qemu/segment_reader.h"
#include "../qemu/stream_index.h"
#include "../qemu/wire.h"
#include "support/check.h"
#include "support/random.h"
#include "support/temp_file.h"

namespace vmsnap::test {

namespace {

using qemu::Next;

constexpr int32_t kGoOn = 0;
constexpr uint64_t kBlockPages = 600;
constexpr uint64_t kSegmentBytes = uint64_t{1} << 20;

class Stream {
 public:
  Stream& number(uint64_t value, int bytes) {
    for (int shift = 8 * (bytes - 1); shift >= 0; shift -= 8) bytes_.push_back(static_cast<uint8_t>(value >> shift));
    return *this;
  }
  Stream& text(const std::string& text) {
    number(text.size(), 1);
    bytes_.insert(bytes_.end(), text.begin(), text.end());
    return *this;
  }
  Stream& head() {
    number(qemu::kMagic, 4).number(qemu::kVersion, 4).number(qemu::kSectionStart, 1).number(1, 4).text("ram");
    number(0, 4).number(qemu::kRamSectionVersion, 4);
    number(2 * kBlockPages * qemu::kPageBytes | qemu::kFlagMemSize, 8);
    text("first").number(kBlockPages * qemu::kPageBytes, 8).text("second").number(kBlockPages * qemu::kPageBytes, 8);
    return number(qemu::kFlagEos, 8);
  }
  Stream& section(uint8_t type) { return number(type, 1).number(1, 4); }
  Stream& page(const std::string& block, uint64_t page, uint8_t fill) {
    number(page * qemu::kPageBytes | (fill == 0 ? qemu::kFlagZero : qemu::kFlagPage), 8).text(block);
    if (fill == 0) return number(0, 1);
    bytes_.insert(bytes_.end(), qemu::kPageBytes, fill);
    return *this;
  }
  Stream& eos() { return number(qemu::kFlagEos, 8); }

  std::vector<uint8_t> bytes_;
};

/// Pages anywhere and again, 0 being a zero page; `last`: what each was at the end, -1: never sent.
std::vector<uint8_t> random_stream(Random& random, std::vector<int>& last) {
  last.assign(2 * kBlockPages, -1);
  Stream stream;
  stream.head().section(qemu::kSectionPart);
  for (int i = 0; i < 1500; ++i) {
    const uint64_t page = random.below(2 * kBlockPages);
    const auto fill = static_cast<uint8_t>(random.below(4) * 17);
    stream.page(page < kBlockPages ? "first" : "second", page % kBlockPages, fill);
    last[page] = fill;
  }
  stream.eos().section(qemu::kSectionEnd).eos().number(0, 1);
  return stream.bytes_;
}

UniqueFd file_of(std::span<const uint8_t> bytes) {
  UniqueFd file = temp_file();
  write_at(file.get(), bytes, 0);
  return file;
}

std::vector<qemu::BlockPart> both_blocks() {
  const uint64_t bytes = kBlockPages * qemu::kPageBytes;
  return {{.block = 0, .offset = 0, .size_bytes = bytes}, {.block = 1, .offset = 0, .size_bytes = bytes}};
}

}  // namespace

TEST(qemu_index_knows_the_last_place_of_every_page) {
  Random random(51);
  std::vector<int> last;
  const std::vector<uint8_t> bytes = random_stream(random, last);
  const UniqueFd file = file_of(bytes);
  const UniqueFd table = temp_file();
  qemu::StreamIndex index(file.get(), 0, bytes.size(), table.get());
  CHECK(index.read_head(&kGoOn));
  Next next = Next::kPage;
  while (next == Next::kPage) next = index.step(100'000, &kGoOn);
  CHECK(next == Next::kRamEnd);
  CHECK_EQ(index.position(), bytes.size() - 1);
  for (size_t page = 0; page < last.size(); ++page) {
    const std::vector<uint8_t> entry = read_at(table.get(), 8, page * 8);
    uint64_t place = 0;
    for (size_t i = 0; i < entry.size(); ++i) place |= uint64_t{entry[i]} << (8 * i);
    if (last[page] <= 0) {
      CHECK_EQ(place, last[page] < 0 ? qemu::kNeverSent : qemu::kSentZero);
    } else {
      CHECK(place > qemu::kSentZero && place + qemu::kPageBytes <= bytes.size());
      CHECK(bytes[place] == last[page] && bytes[place + qemu::kPageBytes - 1] == last[page]);
    }
  }
}

TEST(qemu_segments_of_a_pipe_add_up_to_the_memory) {
  Random random(52);
  std::vector<int> last;
  const std::vector<uint8_t> bytes = random_stream(random, last);
  PipeEnds ends;
  CHECK_EQ(open_pipe(4096, ends), 0);
  UniqueFd read_end(ends.read_fd);
  UniqueFd write_end(ends.write_fd);
  std::thread writer([&] {
    CHECK_EQ(write_stream(write_end.get(), bytes.data() + 10, bytes.size() - 10, &kGoOn), 0);
    write_end = UniqueFd();
  });
  qemu::SegmentReader reader(read_end.get(), std::span(bytes).first(10));
  CHECK(reader.read_head(&kGoOn));
  CHECK(reader.plan(both_blocks(), kSegmentBytes));
  std::vector<int> got(last.size(), -1);
  std::vector<int64_t> last_call(reader.segment_count(), -1);
  std::vector<uint8_t> buffer(kSegmentBytes);
  std::vector<uint8_t> map(kSegmentBytes / qemu::kPageBytes);
  qemu::FilledSegment filled;
  int64_t calls = 0;
  Next next = reader.fill(buffer.data(), map, filled, &kGoOn);
  for (; next == Next::kPage; next = reader.fill(buffer.data(), map, filled, &kGoOn), ++calls) {
    int64_t& earlier = last_call[filled.part * 3 + filled.offset / kSegmentBytes];
    CHECK_EQ(filled.earlier, earlier);
    earlier = calls;
    const size_t first = filled.part * kBlockPages + filled.offset / qemu::kPageBytes;
    for (size_t page = 0; page < filled.size_bytes / qemu::kPageBytes; ++page) {
      const uint8_t fill = buffer[page * qemu::kPageBytes];
      if (map[page] == qemu::kPageNotSent) CHECK_EQ(fill, 0);
      if (map[page] != qemu::kPageNotSent) got[first + page] = fill;
    }
  }
  CHECK(next == Next::kRamEnd);
  CHECK_EQ(got, last);
  CHECK_EQ(reader.next_unseen(0), reader.segment_count());
  uint8_t rest[10];
  CHECK_EQ(reader.read_rest(rest, sizeof rest, &kGoOn), int64_t{1});
  CHECK_EQ(reader.read_rest(rest, sizeof rest, &kGoOn), int64_t{0});
  writer.join();
}

TEST(qemu_plan_must_cover_the_blocks) {
  Stream stream;
  stream.head().section(qemu::kSectionEnd).eos();
  const UniqueFd file = file_of(stream.bytes_);
  qemu::SegmentReader reader(file.get(), {});
  CHECK(reader.read_head(&kGoOn));
  const std::vector<qemu::BlockPart> whole = both_blocks();
  CHECK(!reader.plan({whole[0]}, kSegmentBytes));
  CHECK(!reader.plan({whole[0], whole[0]}, kSegmentBytes));
  CHECK(!reader.plan({whole[0], whole[1], {.block = 2, .offset = 0, .size_bytes = 4096}}, kSegmentBytes));
  const qemu::BlockPart start = {.block = 0, .offset = 0, .size_bytes = 4096};
  const qemu::BlockPart rest = {.block = 0, .offset = 4096, .size_bytes = whole[0].size_bytes - 4096};
  CHECK(!reader.plan({start, whole[1], rest}, kSegmentBytes));
  CHECK(reader.plan({start, rest, whole[1]}, kSegmentBytes));
  CHECK_EQ(reader.next_unseen(0), uint64_t{0});
}

TEST(qemu_page_table_holds_entries_far_apart) {
  const UniqueFd file = temp_file();
  qemu::PageTable table(file.get());
  Random random(53);
  std::vector<uint64_t> pages;
  uint64_t before = 0;
  for (uint64_t i = 0; i < 2000; ++i) {
    pages.push_back(random.below(uint64_t{1} << 25) * 2000 + i);
    CHECK_EQ(table.exchange(pages.back(), i + 1, before), 0);
    CHECK_EQ(before, uint64_t{0});
  }
  for (uint64_t i = 0; i < pages.size(); ++i) {
    CHECK_EQ(table.exchange(pages[i], i + 2, before), 0);
    CHECK_EQ(before, i + 1);
  }
  CHECK_EQ(table.flush(), 0);
  CHECK_EQ(read_at(file.get(), 8, pages[7] * 8)[0], uint8_t{9});
}

TEST(qemu_stream_changed_at_random_is_read_or_refused) {
  Random random(54);
  std::vector<int> last;
  const std::vector<uint8_t> sound = random_stream(random, last);
  std::vector<uint8_t> buffer(kSegmentBytes);
  std::vector<uint8_t> map(kSegmentBytes / qemu::kPageBytes);
  size_t refused = 0;
  for (int round = 0; round < 300; ++round) {
    std::vector<uint8_t> bytes = sound;
    for (uint64_t i = random.below(8); i < 8; ++i) {
      const size_t most = round % 2 == 0 ? 120 : bytes.size();
      bytes[random.below(most)] = static_cast<uint8_t>(random.next());
    }
    if (round % 5 == 0) bytes.resize(random.below(bytes.size()) + 1);
    const UniqueFd file = file_of(bytes);
    qemu::SegmentReader reader(file.get(), {});
    qemu::FilledSegment filled;
    Next next = Next::kFault;
    if (reader.read_head(&kGoOn)) {
      std::vector<qemu::BlockPart> parts;
      for (uint32_t i = 0; i < reader.head().blocks.size(); ++i) {
        const uint64_t size_bytes = reader.head().blocks[i].used_bytes;
        if (size_bytes > 0) parts.push_back({.block = i, .offset = 0, .size_bytes = size_bytes});
      }
      if (!reader.plan(parts, kSegmentBytes)) continue;
      do {
        next = reader.fill(buffer.data(), map, filled, &kGoOn);
      } while (next == Next::kPage);
    }
    if (next == Next::kRamEnd) continue;
    ++refused;
    CHECK(reader.fault().kind != qemu::FaultKind::kNone && reader.fault().kind != qemu::FaultKind::kSystem);
    CHECK(!reader.fault().what.empty());
  }
  CHECK(refused > 50);
}

}  // namespace vmsnap::test
