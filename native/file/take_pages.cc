#include "take_pages.h"

#include <algorithm>
#include <cstring>

namespace vmsnap {

namespace {

/// Fits into the L2 cache beside what else is in use.
constexpr size_t kBatchBytes = size_t{256} << 10;

/// Fills one page in which pieces join.
int gather_page(ExtentCursor& cursor, uint8_t* page, size_t page_bytes, TakenPages& taken) {
  for (size_t filled = 0; filled < page_bytes;) {
    ExtentCursor::Piece piece;
    if (const int status = cursor.peek(piece); status != 0) return status;
    const size_t size_bytes = static_cast<size_t>(std::min<uint64_t>(piece.size_bytes, page_bytes - filled));
    if (piece.is_hole) {
      std::memset(page + filled, 0, size_bytes);
      cursor.skip(size_bytes);
      taken.hole_bytes += size_bytes;
    } else {
      if (const int status = cursor.read(page + filled, size_bytes); status != 0) return status;
      taken.read_bytes += size_bytes;
    }
    filled += size_bytes;
  }
  taken.pages = 1;
  return 0;
}

}  // namespace

int take_pages(ExtentCursor& cursor, size_t page_bytes, size_t most, uint8_t* to, TakenPages& taken) {
  taken = {};
  ExtentCursor::Piece piece;
  if (const int status = cursor.peek(piece); status != 0) return status;
  const uint64_t whole_pages = piece.size_bytes / page_bytes;
  if (whole_pages == 0) return gather_page(cursor, to, page_bytes, taken);
  taken.is_hole = piece.is_hole;
  if (piece.is_hole) {
    taken.pages = static_cast<size_t>(std::min<uint64_t>(whole_pages, most));
    taken.hole_bytes = taken.pages * page_bytes;
    cursor.skip(taken.hole_bytes);
    return 0;
  }
  const size_t batch_pages = std::max<size_t>(kBatchBytes / page_bytes, 1);
  taken.pages = static_cast<size_t>(std::min<uint64_t>(whole_pages, std::min(batch_pages, most)));
  taken.read_bytes = taken.pages * page_bytes;
  return cursor.read(to, taken.pages * page_bytes);
}

}  // namespace vmsnap
