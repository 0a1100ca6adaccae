#include "line.h"

#include <algorithm>

namespace vmsnap::dsa {

namespace {

/// Pages in one compare of this span.
uint32_t unit_of(const Span& span, const CutLimits& limits, const Density& density) {
  const uint64_t page_bytes = span.page_bytes();
  uint64_t pages = span.unit_pages;
  if (pages == 0) pages = std::max<uint64_t>(density.unit_pages(), limits.least_unit_bytes / page_bytes);
  pages = std::min({pages, limits.most_unit_bytes / page_bytes, uint64_t{span.pages}});
  return static_cast<uint32_t>(std::max<uint64_t>(pages, 1));
}

}  // namespace

size_t Line::first_page_bytes() const { return (again_.empty() ? fresh_[next_] : again_.back()).page_bytes(); }

void Line::add(const Span& span) {
  if (span.pages != 0) fresh_.push_back(span);
}

void Line::remove_first() {
  if (!again_.empty()) {
    again_.pop_back();
    return;
  }
  // Moved to the front now and then, for less than one move each.
  if (++next_ < fresh_.size() && next_ < std::max<size_t>(64, fresh_.size() / 2)) return;
  fresh_.erase(fresh_.begin(), fresh_.begin() + static_cast<ptrdiff_t>(next_));
  next_ = 0;
}

uint32_t Line::cut(const CutLimits& limits, const Density& density, std::vector<Piece>& pieces) {
  uint32_t taken = 0;
  while (taken < limits.members && !empty()) {
    Span& span = first();
    if (span.page_bytes() > limits.most_unit_bytes) break;
    const uint32_t unit_pages = unit_of(span, limits, density);
    const size_t members = std::min<size_t>(span.pages / unit_pages, limits.members - taken);
    Piece piece{span.part(0, members * unit_pages), static_cast<uint32_t>(members)};
    piece.span.unit_pages = unit_pages;
    pieces.push_back(piece);
    taken += piece.members;
    span = span.part(piece.span.pages, span.pages - piece.span.pages);
    if (span.pages == 0) remove_first();
  }
  return taken;
}

Span Line::drop_first() {
  const Span span = first();
  remove_first();
  return span;
}

}  // namespace vmsnap::dsa
