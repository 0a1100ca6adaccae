// detectors() and the class SegmentScanner.
#include <algorithm>
#include <bit>
#include <climits>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "../base/limits.h"
#include "../digest/leaf_digester.h"
#include "../dsa/ahead_checks.h"
#include "../scan/segment_scanner.h"
#include "arguments.h"
#include "dsa_registry.h"
#include "register.h"

namespace vmsnap::addon {

namespace {

// Indexes of the report array: REPORT_* of binding.ts.
constexpr size_t kReportDataPages = 0;
constexpr size_t kReportUniformPages = 1;
constexpr size_t kReportZeroPages = 2;
constexpr size_t kReportHoleBytes = 3;
constexpr size_t kReportReadBytes = 4;
constexpr size_t kReportFailedExtent = 5;
constexpr size_t kReportFailedOffset = 6;
constexpr size_t kReportAnsweredBytes = 7;
constexpr size_t kReportUnansweredPages = 8;
constexpr size_t kReportCheckedAnswers = 9;
constexpr size_t kReportWrongAnswers = 10;
constexpr size_t kReportDeviceZeroPages = 11;
constexpr size_t kReportLength = 12;

constexpr int64_t kMaxSlots = 64;

constexpr size_t kDoublesPerExtent = 3;

void write_report(const ScanReport& report, std::span<double> to) {
  to[kReportDataPages] = static_cast<double>(report.data_pages);
  to[kReportUniformPages] = static_cast<double>(report.uniform_pages);
  to[kReportZeroPages] = static_cast<double>(report.zero_pages);
  to[kReportHoleBytes] = static_cast<double>(report.hole_bytes);
  to[kReportReadBytes] = static_cast<double>(report.read_bytes);
  to[kReportFailedExtent] = static_cast<double>(report.failed_extent);
  to[kReportFailedOffset] = static_cast<double>(report.failed_offset);
  to[kReportAnsweredBytes] = static_cast<double>(report.answered_bytes);
  to[kReportUnansweredPages] = static_cast<double>(report.unanswered_pages);
  to[kReportCheckedAnswers] = static_cast<double>(report.checked_answers);
  to[kReportWrongAnswers] = static_cast<double>(report.wrong_answers);
  to[kReportDeviceZeroPages] = 0;
}

class ScannerObject : public Napi::ObjectWrap<ScannerObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(
        env, "SegmentScanner",
        {InstanceAccessor<&ScannerObject::detector>("detector"),
         InstanceMethod<&ScannerObject::scan_extents>("scanExtents"),
         InstanceMethod<&ScannerObject::scan_memory>("scanMemory"),
         InstanceMethod<&ScannerObject::submit_ahead>("submitAhead"), InstanceMethod<&ScannerObject::close>("close")});
  }

  explicit ScannerObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<ScannerObject>(info) {
    Arguments arguments(info);
    const Napi::Value detector = arguments.property(0, "options", "detector");
    page_bytes_ = power_of_two(arguments, "pageSize", kMinPageBytes, kMaxPageBytes);
    segment_bytes_ = power_of_two(arguments, "segmentSize", kMinSegmentBytes, kMaxSegmentBytes);
    if (page_bytes_ > segment_bytes_) arguments.range_error("segmentSize must be at least pageSize");
    const Kernel* kernel = choose_kernel(arguments, detector);
    const ScanSettings settings = take_settings(arguments);
    if (arguments.ok()) scanner_.emplace(*kernel, page_bytes_, settings);
    take_device(arguments);
  }

 private:
  static const Kernel* choose_kernel(Arguments& arguments, Napi::Value detector) {
    if (!arguments.ok()) return nullptr;
    if (!detector.IsString()) {
      arguments.type_error("detector must be a string");
      return nullptr;
    }
    const std::string name = detector.As<Napi::String>().Utf8Value();
    const Kernel* kernel = find_kernel(name);
    if (kernel == nullptr) {
      arguments.range_error("detector: unknown name '" + name + "'");
    } else if (!kernel->available) {
      arguments.range_error("detector " + name + ": " + kernel->reason);
    }
    return kernel;
  }

  static size_t power_of_two(Arguments& arguments, const char* name, size_t low, size_t high) {
    const Napi::Value value = arguments.property(0, "options", name);
    const auto number =
        static_cast<size_t>(arguments.integer_of(value, name, static_cast<int64_t>(low), static_cast<int64_t>(high)));
    if (!std::has_single_bit(number)) arguments.range_error(std::string(name) + " must be a power of two");
    return number;
  }

  static ScanSettings take_settings(Arguments& arguments) {
    ScanSettings settings;
    if (const Napi::Value value = arguments.property(0, "options", "selfCheck"); !value.IsUndefined()) {
      if (!value.IsBoolean()) arguments.type_error("selfCheck must be a boolean");
      settings.self_check = arguments.ok() && value.As<Napi::Boolean>().Value();
    }
    if (const Napi::Value value = arguments.property(0, "options", "normalPagePercent"); !value.IsUndefined()) {
      settings.normal_page_percent = static_cast<uint32_t>(arguments.integer_of(value, "normalPagePercent", 0, 100));
    }
    return settings;
  }

  void take_device(Arguments& arguments) {
    const Napi::Value value = arguments.property(0, "options", "device");
    if (value.IsUndefined()) return;
    const auto handle = static_cast<uint32_t>(arguments.integer_of(value, "device", 1, UINT32_MAX));
    const Napi::Value slots = arguments.property(0, "options", "slots");
    const auto slot_count = static_cast<size_t>(arguments.integer_of(slots, "slots", 1, kMaxSlots));
    if (!arguments.ok()) return;
    checks_ = checks_on_device(handle, page_bytes_, slot_count);
    if (checks_ == nullptr) arguments.range_error("device " + std::to_string(handle) + " is not open");
  }

  Napi::Value detector(const Napi::CallbackInfo& info) {
    return Napi::String::New(info.Env(), scanner_->detector().data(), scanner_->detector().size());
  }

  /// Takes the arrays of the ScanOutput at argument `index` for a scan of `size_bytes`.
  ScanOutput take_output(Arguments& arguments, size_t index, uint64_t size_bytes, std::span<double>& report) const {
    const uint64_t pages = size_bytes / page_bytes_;
    const auto get = [&](const char* name) { return arguments.property(index, "output", name); };
    const ScanOutput output = {
        .data = arguments.bytes_of(get("data"), "data", size_bytes).data(),
        .states = arguments.bytes_of(get("states"), "states", pages).data(),
        .words = arguments.words_of(get("words"), "words", pages).data(),
        .leaves = arguments.bytes_of(get("leaves"), "leaves", leaf_count(size_bytes) * kDigestBytes).data(),
        .hashes = optional_words(arguments, get("hashes"), "hashes", pages),
    };
    report = arguments.doubles_of(get("report"), "report", kReportLength);
    return output;
  }

  static uint64_t* optional_words(Arguments& arguments, Napi::Value value, const char* name, uint64_t least) {
    return value.IsUndefined() ? nullptr : arguments.words_of(value, name, least).data();
  }

  void check_length(Arguments& arguments, uint64_t size_bytes) const {
    if (size_bytes > segment_bytes_) arguments.range_error("the length must be at most segmentSize");
    if (size_bytes % page_bytes_ != 0) arguments.range_error("the length must be a multiple of pageSize");
  }

  /// Copies the extents of argument `index` and the one after it, so that they stay what was checked. Returns their
  /// length.
  uint64_t take_extents(Arguments& arguments, size_t index) {
    const auto count = arguments.position(index + 1, "extentCount");
    extents_.clear();
    if (count > kMaxPosition / kDoublesPerExtent) arguments.range_error("extentCount is too large");
    const std::span<const double> triples = arguments.doubles(index, "extents", count * kDoublesPerExtent);
    if (!arguments.ok()) return 0;
    uint64_t size_bytes = 0;
    constexpr auto kMax = static_cast<double>(kMaxPosition);
    for (size_t i = 0; i < count; ++i) {
      const double fd = triples[kDoublesPerExtent * i];
      const double offset = triples[kDoublesPerExtent * i + 1];
      const double length = triples[kDoublesPerExtent * i + 2];
      if (!is_whole(fd, -1, INT_MAX) || !is_whole(offset, 0, kMax) || !is_whole(length, 0, kMax)) {
        arguments.range_error("extent " + std::to_string(i) + " must be a file descriptor, an offset and a length");
        return 0;
      }
      const Extent extent = {.fd = static_cast<int>(fd),
                             .offset = static_cast<uint64_t>(offset),
                             .size_bytes = static_cast<uint64_t>(length)};
      size_bytes += extent.size_bytes;
      if (size_bytes > segment_bytes_) break;
      extents_.push_back(extent);
    }
    check_length(arguments, size_bytes);
    return size_bytes;
  }

  static uint64_t optional_position(Arguments& arguments, const Napi::CallbackInfo& info, size_t index,
                                    const char* name) {
    return info[index].IsUndefined() ? 0 : arguments.position(index, name);
  }

  size_t take_slot(Arguments& arguments, size_t index) {
    const size_t slots = checks_ == nullptr ? 0 : checks_->slots();
    if (slots == 0) arguments.range_error("this scanner has no device");
    return static_cast<size_t>(arguments.integer(index, "slot", 0, static_cast<int64_t>(slots) - 1));
  }

  /// The answers for the segment in the slot at argument `index`, if there is one; waits for them.
  std::span<const PageAnswer> take_answers(Arguments& arguments, const Napi::CallbackInfo& info, size_t index,
                                           uint64_t size_bytes) {
    if (info[index].IsUndefined()) return {};
    const size_t slot = take_slot(arguments, index);
    if (!arguments.ok()) return {};
    if (!checks_->is_submitted(slot)) arguments.range_error("nothing was submitted in this slot");
    if (checks_->size_bytes(slot) != size_bytes) arguments.range_error("another length was submitted in this slot");
    return arguments.ok() ? checks_->wait(slot) : std::span<const PageAnswer>{};
  }

  Napi::Value scan_extents(const Napi::CallbackInfo& info) {
    Arguments arguments(info);
    const uint64_t size_bytes = take_extents(arguments, 0);
    std::span<double> report_array;
    const ScanOutput output = take_output(arguments, 2, size_bytes, report_array);
    SegmentHints hints;
    hints.first_page = optional_position(arguments, info, 3, "firstPage");
    if (arguments.ok()) hints.answers = take_answers(arguments, info, 4, size_bytes);
    if (!arguments.ok()) return info.Env().Undefined();
    ScanReport report;
    const int status = scanner_->scan_extents(extents_, output, report, hints);
    if (report.wrong_answers > 0) checks_->distrust();
    write_report(report, report_array);
    report_array[kReportDeviceZeroPages] =
        static_cast<double>(std::count(hints.answers.begin(), hints.answers.end(), PageAnswer::zero));
    return Napi::Number::New(info.Env(), status);
  }

  Napi::Value scan_memory(const Napi::CallbackInfo& info) {
    Arguments arguments(info);
    const std::span<const uint8_t> input = arguments.byte_range(0, "input");
    check_length(arguments, input.size());
    std::span<double> report_array;
    const ScanOutput output = take_output(arguments, 3, input.size(), report_array);
    const SegmentHints hints = {.first_page = optional_position(arguments, info, 4, "firstPage"), .answers = {}};
    if (!arguments.ok()) return info.Env().Undefined();
    ScanReport report;
    scanner_->scan_memory(input, output, report, hints);
    write_report(report, report_array);
    return Napi::Number::New(info.Env(), 0);
  }

  void submit_ahead(const Napi::CallbackInfo& info) {
    Arguments arguments(info);
    const size_t slot = take_slot(arguments, 0);
    take_extents(arguments, 1);
    if (arguments.ok() && checks_->is_submitted(slot)) arguments.range_error("this slot is in use");
    if (arguments.ok()) checks_->submit(slot, extents_);
  }

  void close(const Napi::CallbackInfo& /*info*/) { checks_.reset(); }

  size_t page_bytes_ = kMinPageBytes;
  size_t segment_bytes_ = kMinSegmentBytes;
  std::optional<SegmentScanner> scanner_;
  std::vector<Extent> extents_;
  /// Null without a device.
  std::unique_ptr<dsa::AheadChecks> checks_;
};

Napi::Value detectors(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Napi::Array list = Napi::Array::New(env);
  for (const Kernel& kernel : kernels()) {
    Napi::Object status = Napi::Object::New(env);
    status.Set("name", Napi::String::New(env, kernel.name.data(), kernel.name.size()));
    status.Set("available", Napi::Boolean::New(env, kernel.available));
    status.Set("reason", Napi::String::New(env, kernel.reason));
    list.Set(list.Length(), status);
  }
  return list;
}

}  // namespace

void register_scanner(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "detectors", detectors);
  exports.Set("SegmentScanner", ScannerObject::define(env));
}

}  // namespace vmsnap::addon
