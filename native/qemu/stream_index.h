// The one pass over a migration stream in a file that finds where every page lies.
#pragma once

#include <cstdint>
#include <vector>

#include "page_table.h"
#include "stream_parser.h"

namespace vmsnap::qemu {

struct BlockPages {
  uint64_t data = 0;
  uint64_t zero = 0;
};

class StreamIndex {
 public:
  /// The stream lies at [offset, end) of a file. `table_fd`: an empty file for the page table, in which the pages of
  /// the blocks stand end to end in the order of the list; -1 where the stream is known to have none (mapped-ram).
  StreamIndex(int fd, uint64_t offset, uint64_t end, int table_fd);

  bool read_head(const int32_t* abort);
  /// Goes on for about `most_bytes` of the stream. Returns kPage if there is more to come.
  Next step(uint64_t most_bytes, const int32_t* abort);

  const StreamHead& head() const { return parser_.head(); }
  const Fault& fault() const { return fault_.kind == FaultKind::kNone ? parser_.fault() : fault_; }
  /// After the end of RAM: where the rest of the stream begins.
  uint64_t position() { return parser_.input().position(); }
  /// For each block, pages by what their last record says.
  const std::vector<BlockPages>& pages() const { return pages_; }
  /// Records of pages that had been sent before.
  uint64_t repeated() const { return repeated_; }

 private:
  bool enter(const PageRecord& record);

  StreamParser parser_;
  PageTable table_;
  Fault fault_;
  std::vector<uint64_t> first_pages_;
  std::vector<BlockPages> pages_;
  uint64_t repeated_ = 0;
};

}  // namespace vmsnap::qemu
