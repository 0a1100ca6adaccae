// libFuzzer: bytes as a QEMU migration stream, read as a file (stream_index.h) and as a pipe (segment_reader.h). Any
// stream is read to an end or a fault; what is filled lies in the buffer, and both ways agree on whether the head is
// sound.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <span>
#include <vector>

#include "../../file/unique_fd.h"
#include "../../qemu/segment_reader.h"
#include "../../qemu/stream_index.h"

namespace {

using vmsnap::UniqueFd;
using vmsnap::qemu::BlockPart;
using vmsnap::qemu::FilledSegment;
using vmsnap::qemu::Next;
using vmsnap::qemu::SegmentReader;
using vmsnap::qemu::StreamIndex;

constexpr uint64_t kSegmentBytes = uint64_t{1} << 20;
constexpr size_t kPageBytes = 4096;
/// More steps than bytes would be a loop that reads nothing.
constexpr uint64_t kStepBytes = uint64_t{1} << 14;

void require(bool holds) {
  if (!holds) abort();
}

UniqueFd memory_file(std::span<const uint8_t> bytes) {
  UniqueFd file(memfd_create("fuzz", MFD_CLOEXEC));
  require(file.get() >= 0);
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t wrote = pwrite(file.get(), bytes.data() + done, bytes.size() - done, static_cast<off_t>(done));
    require(wrote > 0);
    done += static_cast<size_t>(wrote);
  }
  return file;
}

bool read_as_file(std::span<const uint8_t> bytes) {
  const int32_t go_on = 0;
  const UniqueFd file = memory_file(bytes);
  const UniqueFd table = memory_file({});
  StreamIndex index(file.get(), 0, bytes.size(), table.get());
  if (!index.read_head(&go_on)) return false;
  if (index.head().mapped_ram) return true;
  uint64_t steps = 0;
  Next next = Next::kPage;
  while (next == Next::kPage) {
    next = index.step(kStepBytes, &go_on);
    require(++steps <= bytes.size() + 1);
  }
  uint64_t data_pages = 0;
  for (const auto& block : index.pages()) data_pages += block.data;
  // Each has its bytes in the stream. Where that is cut off, the last one that was passed over may not have them.
  if (next == Next::kRamEnd) require(data_pages * kPageBytes <= bytes.size() && index.position() <= bytes.size());
  return true;
}

bool read_as_pipe(std::span<const uint8_t> bytes) {
  const int32_t go_on = 0;
  const UniqueFd file = memory_file(bytes);
  SegmentReader reader(file.get(), {});
  if (!reader.read_head(&go_on)) return false;
  std::vector<BlockPart> parts;
  uint32_t number = 0;
  for (const auto& block : reader.head().blocks) {
    parts.push_back({.block = number++, .offset = 0, .size_bytes = block.used_bytes});
  }
  if (reader.head().mapped_ram || !reader.plan(parts, kSegmentBytes)) return true;
  std::vector<uint8_t> buffer(kSegmentBytes);
  std::vector<uint8_t> map(kSegmentBytes / kPageBytes);
  uint64_t fills = 0;
  for (;;) {
    FilledSegment filled;
    if (reader.fill(buffer.data(), map, filled, &go_on) != Next::kPage) break;
    require(filled.part < parts.size() && filled.size_bytes <= kSegmentBytes);
    require(filled.offset + filled.size_bytes <= parts[filled.part].size_bytes);
    require(filled.got_pages + filled.zero_pages <= filled.size_bytes / kPageBytes);
    require(++fills <= bytes.size());
  }
  require(reader.next_unseen(0) <= reader.segment_count());
  return true;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::span<const uint8_t> bytes(data, size);
  const bool as_file = read_as_file(bytes);
  const bool as_pipe = read_as_pipe(bytes);
  // mapped-ram is for files only, and a file may be shorter than what a head claims.
  if (as_pipe) require(as_file);
  return 0;
}
