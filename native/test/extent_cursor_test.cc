// Extents walked as one sequence, against a plain read of each: in files with holes, close together and apart.
#include <algorithm>
#include <cerrno>
#include <vector>

#include "../file/extent_cursor.h"
#include "support/check.h"
#include "support/random.h"
#include "support/temp_file.h"

namespace vmsnap::test {

namespace {

constexpr uint64_t kFileBytes = 6 << 20;

/// Data and holes in turn, of some pages each.
UniqueFd make_file(const std::string& folder, Random& random) {
  UniqueFd file = temp_file(folder);
  CHECK_EQ(ftruncate(file.get(), kFileBytes), 0);
  for (uint64_t at = 0; at < kFileBytes;) {
    const uint64_t bytes = std::min<uint64_t>(kFileBytes - at, 4096 * (1 + random.below(64)));
    if (random.below(3) != 0) write_at(file.get(), random.bytes(bytes), at);
    at += bytes;
  }
  return file;
}

/// Rising in a file, with gaps of any size, and from time to time another file, a step back, or bytes that no file
/// holds.
std::vector<Extent> make_extents(Random& random, const std::vector<int>& files, size_t count) {
  std::vector<Extent> extents;
  int fd = files[0];
  uint64_t at = 0;
  while (extents.size() < count) {
    const uint64_t kind = random.below(40);
    if (kind == 0) extents.push_back({.fd = -1, .offset = 0, .size_bytes = 1 + random.below(9000)});
    if (kind == 1) fd = files[random.below(files.size())];
    if (kind <= 2) at = random.below(kFileBytes / 2);
    const uint64_t size = random.below(4) == 0 ? 1 + random.below(70'000) : 4096;
    at += random.below(8) == 0 ? random.below(5000) : 8 + random.below(3) * 252;
    if (at + size > kFileBytes) at = 0;
    extents.push_back({.fd = fd, .offset = at, .size_bytes = size});
    at += size;
  }
  return extents;
}

std::vector<uint8_t> plain_read(const std::vector<Extent>& extents) {
  std::vector<uint8_t> bytes;
  for (const Extent& extent : extents) {
    std::vector<uint8_t> part(extent.size_bytes);
    if (extent.fd != -1) part = read_at(extent.fd, extent.size_bytes, extent.offset);
    bytes.insert(bytes.end(), part.begin(), part.end());
  }
  return bytes;
}

/// Walks to the end; parts of holes and of data are skipped or read as chance has it. Counts wrong bytes.
size_t walk(ExtentCursor& cursor, Random& random, const std::vector<uint8_t>& expected) {
  size_t wrong = 0;
  for (uint64_t at = 0; at < expected.size();) {
    ExtentCursor::Piece piece;
    if (cursor.peek(piece) != 0 || piece.size_bytes == 0 || piece.size_bytes > expected.size() - at) return SIZE_MAX;
    const uint64_t bytes = random.below(4) == 0 ? 1 + random.below(piece.size_bytes) : piece.size_bytes;
    std::vector<uint8_t> got(bytes);
    if (piece.is_hole || random.below(5) == 0) {
      cursor.skip(bytes);
      if (!piece.is_hole) std::copy_n(expected.begin() + static_cast<ptrdiff_t>(at), bytes, got.begin());
    } else if (cursor.read(got.data(), bytes) != 0) {
      return SIZE_MAX;
    }
    for (uint64_t i = 0; i < bytes; ++i) wrong += got[i] != expected[at + i];
    at += bytes;
  }
  return wrong;
}

}  // namespace

TEST(extent_cursor_walks_any_extents_as_a_plain_read_does) {
  for (const std::string& folder : folders_to_try()) {
    Random random(31);
    const UniqueFd first = make_file(folder, random);
    const UniqueFd second = make_file(folder, random);
    for (int round = 0; round < 40; ++round) {
      const std::vector<Extent> extents = make_extents(random, {first.get(), second.get()}, 1 + random.below(400));
      const std::vector<uint8_t> expected = plain_read(extents);
      ExtentCursor cursor(extents);
      CHECK_EQ(walk(cursor, random, expected), size_t{0});
    }
  }
}

TEST(extent_cursor_takes_pages_behind_headers_as_one_piece) {
  Random random(32);
  const UniqueFd file = temp_file();
  constexpr size_t kPages = 50;
  write_at(file.get(), random.bytes(kPages * 4104), 0);
  std::vector<Extent> extents;
  for (size_t i = 0; i < kPages; ++i) {
    extents.push_back({.fd = file.get(), .offset = 8 + i * 4104, .size_bytes = 4096});
  }
  ExtentCursor cursor(extents);
  ExtentCursor::Piece piece;
  CHECK_EQ(cursor.peek(piece), 0);
  CHECK(!piece.is_hole);
  CHECK_EQ(piece.size_bytes, uint64_t{kPages * 4096});
  std::vector<uint8_t> got(kPages * 4096);
  CHECK_EQ(cursor.read(got.data(), got.size()), 0);
  CHECK(got == plain_read(extents));
}

TEST(extent_cursor_tells_which_extent_its_file_has_not) {
  Random random(33);
  const UniqueFd file = temp_file();
  write_at(file.get(), random.bytes(3 * 4096 + 100), 0);
  const std::vector<Extent> extents = {{.fd = -1, .offset = 0, .size_bytes = 4096},
                                       {.fd = file.get(), .offset = 0, .size_bytes = 4096},
                                       {.fd = file.get(), .offset = 4096, .size_bytes = 4096},
                                       {.fd = file.get(), .offset = 3 * 4096, .size_bytes = 4096}};
  ExtentCursor cursor(extents);
  int status = 0;
  uint64_t taken = 0;
  std::vector<uint8_t> bytes(4 * 4096);
  while (status == 0 && taken < 4 * 4096) {
    ExtentCursor::Piece piece;
    status = cursor.peek(piece);
    if (status != 0) break;
    if (piece.is_hole) {
      cursor.skip(piece.size_bytes);
    } else {
      status = cursor.read(bytes.data(), piece.size_bytes);
    }
    taken += piece.size_bytes;
  }
  CHECK_EQ(status, kScanTruncated);
  CHECK_EQ(cursor.failed_extent(), size_t{3});
  CHECK_EQ(cursor.failed_offset(), uint64_t{3 * 4096 + 100});

  const std::vector<Extent> closed = {{.fd = 12345, .offset = 7, .size_bytes = 10}};
  ExtentCursor nowhere(closed);
  ExtentCursor::Piece piece;
  uint8_t byte = 0;
  CHECK_EQ(nowhere.peek(piece), 0);
  CHECK_EQ(nowhere.read(&byte, 1), -EBADF);
  CHECK_EQ(nowhere.failed_extent(), size_t{0});
  CHECK_EQ(nowhere.failed_offset(), uint64_t{7});
}

}  // namespace vmsnap::test
