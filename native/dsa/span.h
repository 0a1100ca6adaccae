// Work on its way to a device: pages that lie one after the other and belong to one request.
#pragma once

#include <cstddef>
#include <cstdint>

#include "page_check.h"

namespace vmsnap::dsa {

/// How often the same pages came back without an answer.
struct Tries {
  /// Page faults without progress.
  uint8_t faults = 0;
  /// Hardware errors.
  uint8_t troubles = 0;
  /// Batches that ended without having begun with them.
  uint8_t abandoned = 0;

  bool operator==(const Tries&) const = default;
};

struct Span {
  PageCheck* check = nullptr;
  const uint8_t* address = nullptr;
  /// Where the answer of the first page belongs.
  Answer* answers = nullptr;
  size_t pages = 0;
  /// At most this many pages in one compare; 0: as many as what came before suggests.
  uint32_t unit_pages = 0;
  Tries tries;

  size_t page_bytes() const { return check->page_bytes(); }
  size_t size_bytes() const { return pages * page_bytes(); }

  /// `count` pages of it, the first after `skipped`.
  Span part(size_t skipped, size_t count) const {
    Span piece = *this;
    piece.address += skipped * page_bytes();
    piece.answers += skipped;
    piece.pages = count;
    return piece;
  }

  /// Whether `next` goes on exactly where this ends, in the same manner.
  bool continues_with(const Span& next) const {
    return next.check == check && next.answers == answers + pages && next.address == address + size_bytes() &&
           next.unit_pages == unit_pages && next.tries == tries;
  }
};

}  // namespace vmsnap::dsa
