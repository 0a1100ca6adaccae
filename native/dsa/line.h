// The line of work that no queue has taken yet, cut into compares as a queue's limits want them.
#pragma once

#include <cstdint>
#include <vector>

#include "span.h"

namespace vmsnap::dsa {

/// Compares of equal size over pages that lie one after the other: span.pages is members * span.unit_pages.
struct Piece {
  Span span;
  uint32_t members = 0;

  uint32_t unit_bytes() const { return static_cast<uint32_t>(span.unit_pages * span.page_bytes()); }
};

/// What may be cut from the line at once.
struct CutLimits {
  /// Compares.
  uint32_t members = 0;
  /// Of one compare. Pages larger than the most are not taken.
  uint64_t least_unit_bytes = 0;
  uint64_t most_unit_bytes = 0;
};

/// How many pages one compare should cover, told from the answers so far.
///
/// One for all requests of an Offload, not one for each: requests come in the order of the memory, and one of them (a
/// segment) is over before its own answers could tell anything. Requests that are under way at once are neighbours.
class Density {
 public:
  uint32_t unit_pages() const { return unit_pages_; }
  void saw_difference() { unit_pages_ = 1; }
  void saw_zeros(uint64_t most_pages) {
    if (uint64_t{unit_pages_} * 2 <= most_pages) unit_pages_ *= 2;
  }

 private:
  uint32_t unit_pages_ = 1;
};

class Line {
 public:
  bool empty() const { return again_.empty() && next_ == fresh_.size(); }
  /// Page size of what stands first; the line is not empty.
  size_t first_page_bytes() const;

  void add(const Span& span);
  /// What has been at a device before goes first: requests end in the order in which they came, more or less.
  void add_again(const Span& span) { again_.push_back(span); }

  /// Takes from the front as much as the limits allow, and appends it to `pieces`. Returns the number of compares.
  uint32_t cut(const CutLimits& limits, const Density& density, std::vector<Piece>& pieces);

  /// Takes all that stands first with one address range. The line is not empty.
  Span drop_first();

 private:
  Span& first() { return again_.empty() ? fresh_[next_] : again_.back(); }
  void remove_first();

  std::vector<Span> again_;  // the last goes first
  std::vector<Span> fresh_;  // from next_ on
  size_t next_ = 0;
};

}  // namespace vmsnap::dsa
