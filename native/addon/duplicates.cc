// The search for duplicate pages: proposeDuplicates and the class DuplicateCheck.
#include <algorithm>
#include <array>
#include <bit>
#include <climits>
#include <memory>
#include <optional>
#include <vector>

#include "../base/limits.h"
#include "../duplicates/duplicate_table.h"
#include "../duplicates/take_out.h"
#include "arguments.h"
#include "register.h"

namespace vmsnap::addon {

namespace {

// Indexes of the report of takeOut: TAKEN_* of binding.ts.
constexpr size_t kTakenDataPages = 0;
constexpr size_t kTakenReferences = 1;
constexpr size_t kTakenFailedPage = 2;
constexpr size_t kTakenLength = 3;

constexpr size_t kDoublesPerRegion = 4;
constexpr size_t kMaxRegions = 65'535;

size_t take_page_count(Arguments& arguments, size_t index) {
  return static_cast<size_t>(arguments.integer(index, "pageCount", 0, static_cast<int64_t>(kMaxSegmentPages)));
}

Napi::Value propose(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::span<uint64_t> table = arguments.words(0, "table", kDuplicateWays);
  const size_t pages = take_page_count(arguments, 2);
  const std::span<const uint8_t> states = arguments.bytes(1, "states", pages);
  const std::span<const uint64_t> hashes = arguments.words(3, "hashes", pages);
  const uint64_t first_page = arguments.position(4, "firstPage");
  const std::span<uint64_t> targets = arguments.words(5, "targets", pages);
  if (arguments.ok() && !std::has_single_bit(table.size())) arguments.range_error("table must be a power of two long");
  if (!arguments.ok()) return info.Env().Undefined();
  const size_t found = propose_duplicates(DuplicateTable(table), states.first(pages), hashes.first(pages), first_page,
                                          targets.first(pages));
  return Napi::Number::New(info.Env(), static_cast<double>(found));
}

class DuplicateCheckObject : public Napi::ObjectWrap<DuplicateCheckObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "DuplicateCheck", {InstanceMethod<&DuplicateCheckObject::take_out>("takeOut")});
  }

  explicit DuplicateCheckObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<DuplicateCheckObject>(info) {
    Arguments arguments(info);
    const std::span<const double> rows = arguments.doubles(0, "regions", kDoublesPerRegion);
    page_bytes_ = static_cast<size_t>(
        arguments.integer(1, "pageSize", static_cast<int64_t>(kMinPageBytes), static_cast<int64_t>(kMaxPageBytes)));
    if (arguments.ok() && rows.size() / kDoublesPerRegion > kMaxRegions) arguments.range_error("too many regions");
    if (!std::has_single_bit(page_bytes_)) arguments.range_error("pageSize must be a power of two");
    if (!arguments.ok()) return;
    for (size_t at = 0; at + kDoublesPerRegion <= rows.size(); at += kDoublesPerRegion) {
      take_region(arguments, rows.subspan(at, kDoublesPerRegion));
      if (!arguments.ok()) return;
    }
    check_.emplace(regions_, page_bytes_);
  }

 private:
  void take_region(Arguments& arguments, std::span<const double> row) {
    constexpr auto kMax = static_cast<double>(kMaxPosition);
    const bool is_sound = std::all_of(row.begin(), row.end(), [](double value) {
      return value >= 0 && value <= kMax && static_cast<double>(static_cast<uint64_t>(value)) == value;
    });
    if (!is_sound || row[2] > INT_MAX) {
      arguments.range_error("a region must be a page number, a page count, a file descriptor and an offset");
      return;
    }
    const RegionFile region = {.first_page = static_cast<uint64_t>(row[0]),
                               .page_count = static_cast<uint64_t>(row[1]),
                               .fd = static_cast<int>(row[2]),
                               .offset = static_cast<uint64_t>(row[3])};
    const bool fits = region.page_count <= (kMaxPosition - region.offset) / page_bytes_;
    const bool follows =
        regions_.empty() || region.first_page >= regions_.back().first_page + regions_.back().page_count;
    if (!fits || !follows) arguments.range_error("regions must lie in their files, and rise");
    regions_.push_back(region);
  }

  Napi::Value take_out(const Napi::CallbackInfo& info) {
    Arguments arguments(info);
    const size_t pages = take_page_count(arguments, 1);
    const std::span<uint8_t> states = arguments.bytes(0, "states", pages);
    const std::span<uint8_t> data = arguments.bytes(2, "data");
    const uint64_t first_page = arguments.position(3, "firstPage");
    const std::span<uint64_t> targets = arguments.words(4, "targets", pages);
    const std::span<double> report_array = arguments.doubles(5, "report", kTakenLength);
    if (!arguments.ok()) return info.Env().Undefined();
    // Copied, so that what is checked is what is used.
    std::array<uint8_t, kMaxSegmentPages> copied;
    std::copy_n(states.data(), pages, copied.data());
    const SegmentView view = {
        .states = {copied.data(), pages}, .page_bytes = page_bytes_, .data = data.data(), .words = nullptr};
    const auto data_pages = static_cast<size_t>(std::count(view.states.begin(), view.states.end(), kPageData));
    if (data_pages > data.size() / page_bytes_) {
      arguments.range_error("data is shorter than the data pages");
      return info.Env().Undefined();
    }
    const SegmentBuffers out = {.states = states.data(), .data = data.data(), .words = nullptr};
    TakeOutReport report;
    const int status = check_->take_out(view, first_page, targets.first(pages), out, report);
    report_array[kTakenDataPages] = static_cast<double>(report.data);
    report_array[kTakenReferences] = static_cast<double>(report.references);
    report_array[kTakenFailedPage] = static_cast<double>(report.failed_page);
    return Napi::Number::New(info.Env(), status);
  }

  size_t page_bytes_ = kMinPageBytes;
  std::vector<RegionFile> regions_;
  std::optional<DuplicateCheck> check_;
};

}  // namespace

void register_duplicates(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "proposeDuplicates", propose);
  exports.Set("DuplicateCheck", DuplicateCheckObject::define(env));
}

}  // namespace vmsnap::addon
