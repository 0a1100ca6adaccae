// Data pages go out straight from the compacted data. What lies between them and must be written too (uniform pages,
// zeros) joins the same system call; pages that are skipped or punched part the calls.
#include "segment_writer.h"

#include "../file/gather_writer.h"
#include "../file/zero_range.h"

namespace vmsnap {

namespace {

int write_zero_run(int fd, GatherWriter& writer, uint64_t size_bytes, ZeroMode zero_mode) {
  if (zero_mode == ZeroMode::kWrite) return writer.add_zeros(size_bytes);
  if (const int status = writer.flush(); status != 0) return status;
  if (zero_mode == ZeroMode::kPunch) {
    int status = 0;
    if (!punch_hole(fd, writer.position(), size_bytes, status)) return writer.add_zeros(size_bytes);
    if (status != 0) return status;
  }
  writer.skip(size_bytes);
  return 0;
}

}  // namespace

int write_segment(int fd, uint64_t position, const SegmentView& segment, ZeroMode zero_mode, uint64_t& failed_at) {
  GatherWriter writer(fd, position);
  int status = 0;
  for_each_run(segment, [&](const PageRun& run) {
    const size_t size_bytes = run.pages * segment.page_bytes;
    if (run.state == kPageData) {
      status = writer.add(run.data, size_bytes);
    } else if (run.state == kPageUniform) {
      for (size_t i = 0; i < run.pages && status == 0; ++i) status = writer.add_words(run.words[i], segment.page_bytes);
    } else {
      status = write_zero_run(fd, writer, size_bytes, zero_mode);
    }
    return status == 0;
  });
  if (status == 0) status = writer.flush();
  if (status != 0) failed_at = writer.position();
  return status;
}

}  // namespace vmsnap
