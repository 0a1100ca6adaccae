#include "take_out.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include <unistd.h>

#include "../file/extent_cursor.h"
#include "duplicate_table.h"

namespace vmsnap {

namespace {

constexpr uint32_t kNoPlace = UINT32_MAX;
constexpr size_t kReadBytes = size_t{128} << 10;

int read_all(int fd, uint64_t offset, uint8_t* to, size_t size_bytes) {
  for (size_t done = 0; done < size_bytes;) {
    const ssize_t got = pread(fd, to + done, size_bytes - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return -errno;
    if (got == 0) return kScanTruncated;
    done += static_cast<size_t>(got);
  }
  return 0;
}

}  // namespace

DuplicateCheck::DuplicateCheck(std::span<const RegionFile> regions, size_t page_bytes)
    : regions_(regions), page_bytes_(page_bytes), read_(std::max(kReadBytes, page_bytes)) {}

const RegionFile* DuplicateCheck::region_of(uint64_t page) const {
  const auto after =
      std::upper_bound(regions_.begin(), regions_.end(), page,
                       [](uint64_t number, const RegionFile& region) { return number < region.first_page; });
  if (after == regions_.begin()) return nullptr;
  const RegionFile& region = *(after - 1);
  return page - region.first_page < region.page_count ? &region : nullptr;
}

int DuplicateCheck::read_run(const SegmentView& segment, uint64_t first_page, std::span<const uint64_t> targets,
                             size_t page) {
  const uint64_t target = targets[page];
  const RegionFile* region = region_of(target);
  if (region == nullptr) return -ERANGE;
  const uint64_t end_target = std::min(region->first_page + region->page_count, first_page);
  const size_t most = std::min<size_t>(read_.size() / page_bytes_, segment.states.size() - page);
  size_t count = 1;
  while (count < most && target + count < end_target && segment.states[page + count] == kPageData &&
         targets[page + count] == target + count)
    ++count;
  read_from_ = page;
  read_to_ = page + count;
  const uint64_t offset = region->offset + (target - region->first_page) * page_bytes_;
  return read_all(region->fd, offset, read_.data(), count * page_bytes_);
}

int DuplicateCheck::take_out(const SegmentView& segment, uint64_t first_page, std::span<uint64_t> targets,
                             const SegmentBuffers& out, TakeOutReport& report) {
  report = {};
  read_from_ = read_to_ = 0;
  // Of each page that stays: its place among those that stay.
  std::array<uint32_t, kMaxSegmentPages> places;
  std::fill_n(places.data(), segment.states.size(), kNoPlace);
  const uint8_t* own = segment.data;
  for (size_t page = 0; page < segment.states.size(); ++page) {
    if (segment.states[page] != kPageData) continue;
    const uint64_t target = targets[page];
    const uint8_t* other = nullptr;
    if (target != kNoPage && target >= first_page) {
      const uint64_t earlier = target - first_page;
      if (earlier < page && places[earlier] != kNoPlace) other = out.data + places[earlier] * page_bytes_;
    } else if (target != kNoPage) {
      if (page >= read_to_) {
        const int status = read_run(segment, first_page, targets, page);
        if (status != 0) {
          report.failed_page = target;
          return status;
        }
      }
      other = read_.data() + (page - read_from_) * page_bytes_;
    }
    if (other != nullptr && std::memcmp(own, other, page_bytes_) == 0) {
      out.states[page] = kPageReference;
      targets[report.references++] = target;
    } else {
      uint8_t* to = out.data + report.data * page_bytes_;
      if (to != own) std::memmove(to, own, page_bytes_);
      places[page] = static_cast<uint32_t>(report.data++);
    }
    own += page_bytes_;
  }
  return 0;
}

}  // namespace vmsnap
