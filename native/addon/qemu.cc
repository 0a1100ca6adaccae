// QEMU migration streams: the class QemuIndex for files, and for pipes qemuOpen(), qemuPlan(), qemuFill(),
// qemuNextUnseen(), qemuReadRest(), qemuClose(), which reach one reader from every thread of the process by its handle.
#include <cerrno>
#include <climits>
#include <map>
#include <memory>
#include <mutex>
#include <optional>

#include "../base/limits.h"
#include "../qemu/segment_reader.h"
#include "../qemu/stream_index.h"
#include "../qemu/wire.h"
#include "arguments.h"
#include "fields.h"
#include "register.h"

namespace vmsnap::addon {

namespace {

using qemu::Fault;
using qemu::FaultKind;
using qemu::Next;
using qemu::SegmentReader;
using qemu::StreamHead;
using qemu::StreamIndex;

// Indexes of the report of qemuFill(): QEMU_FILLED_* of binding.ts.
constexpr size_t kFilledRegion = 0;
constexpr size_t kFilledOffset = 1;
constexpr size_t kFilledBytes = 2;
constexpr size_t kFilledGotPages = 3;
constexpr size_t kFilledZeroPages = 4;
constexpr size_t kFilledEarlier = 5;
constexpr size_t kFilledLength = 6;

// What qemuFill() returns: QEMU_* of binding.ts.
constexpr int kFilled = 0;
constexpr int kRamEnded = 1;
constexpr int kFaulty = 2;

constexpr size_t kDoublesPerPart = 3;

Napi::Object fault_object(Napi::Env env, const Fault& fault) {
  const char* kind = fault.kind == FaultKind::kCorrupt       ? "corrupt"
                     : fault.kind == FaultKind::kUnsupported ? "unsupported"
                                                             : "system";
  return Fields(env)
      .text("kind", kind)
      .number("offset", fault.offset)
      .text("what", fault.what)
      .text("hint", fault.hint)
      .integer("error", fault.error)
      .boolean("ofTable", fault.of_table)
      .object();
}

Napi::Value bytes_value(Napi::Env env, const uint8_t* bytes, size_t size_bytes) {
  return Napi::Buffer<uint8_t>::Copy(env, bytes, size_bytes);
}

Napi::Object head_object(Napi::Env env, const StreamHead& head) {
  const auto block_object = [env](const qemu::RamBlock& block) {
    const auto* id = reinterpret_cast<const uint8_t*>(block.id.data());
    return Fields(env)
        .set("id", bytes_value(env, id, block.id.size()))
        .number("usedBytes", block.used_bytes)
        .number("listedAt", block.listed_at)
        .number("bitmapOffset", block.bitmap_offset)
        .number("pagesOffset", block.pages_offset)
        .object();
  };
  const auto* machine = reinterpret_cast<const uint8_t*>(head.machine.data());
  return Fields(env)
      .set("machine", bytes_value(env, machine, head.machine.size()))
      .set("uuid", bytes_value(env, head.uuid.data(), head.uuid.size()))
      .boolean("ignoreShared", head.ignore_shared)
      .boolean("mappedRam", head.mapped_ram)
      .set("bytes", bytes_value(env, head.bytes.data(), head.bytes.size()))
      .list("blocks", head.blocks, block_object)
      .object();
}

const int32_t* take_abort(Arguments& arguments, size_t index) {
  const std::span<const int32_t> words = arguments.ints(index, "abort");
  const uint64_t at = arguments.position(index + 1, "abortIndex");
  if (arguments.ok() && at >= words.size()) arguments.range_error("abortIndex must lie within abort");
  return arguments.ok() ? &words[at] : nullptr;
}

class IndexObject : public Napi::ObjectWrap<IndexObject> {
 public:
  static Napi::Function define(Napi::Env env) {
    return DefineClass(env, "QemuIndex",
                       {InstanceMethod<&IndexObject::read_head>("readHead"), InstanceMethod<&IndexObject::step>("step"),
                        InstanceMethod<&IndexObject::fault>("fault"), InstanceMethod<&IndexObject::result>("result"),
                        InstanceMethod<&IndexObject::close>("close")});
  }

  explicit IndexObject(const Napi::CallbackInfo& info) : Napi::ObjectWrap<IndexObject>(info) {
    Arguments arguments(info);
    const int fd = arguments.file_descriptor(0);
    const uint64_t offset = arguments.position(1, "offset");
    const uint64_t end = arguments.position(2, "end");
    const int table_fd = arguments.file_descriptor(3);
    if (arguments.ok() && offset > end) arguments.range_error("offset must be at most end");
    if (arguments.ok()) index_.emplace(fd, offset, end, table_fd);
  }

 private:
  Napi::Value read_head(const Napi::CallbackInfo& info) {
    Arguments arguments(info);
    const int32_t* abort = take_abort(arguments, 0);
    if (!is_open(arguments)) return info.Env().Undefined();
    has_head_ = index_->read_head(abort);
    return has_head_ ? Napi::Value(head_object(info.Env(), index_->head())) : info.Env().Undefined();
  }

  Napi::Value step(const Napi::CallbackInfo& info) {
    Arguments arguments(info);
    const uint64_t most_bytes = arguments.position(0, "mostBytes");
    const int32_t* abort = take_abort(arguments, 1);
    if (arguments.ok() && !has_head_) arguments.range_error("the head comes first");
    if (!is_open(arguments)) return info.Env().Undefined();
    const Next next = index_->step(most_bytes, abort);
    return Napi::Number::New(info.Env(), next == Next::kPage ? kFilled : next == Next::kRamEnd ? kRamEnded : kFaulty);
  }

  Napi::Value fault(const Napi::CallbackInfo& info) {
    Arguments arguments(info);
    return is_open(arguments) ? Napi::Value(fault_object(info.Env(), index_->fault())) : info.Env().Undefined();
  }

  Napi::Value result(const Napi::CallbackInfo& info) {
    const Napi::Env env = info.Env();
    Arguments arguments(info);
    if (!is_open(arguments)) return env.Undefined();
    const auto pages_object = [env](const qemu::BlockPages& pages) {
      return Fields(env).number("data", pages.data).number("zero", pages.zero).object();
    };
    return Fields(env)
        .number("end", index_->position())
        .number("repeated", index_->repeated())
        .list("pages", index_->pages(), pages_object)
        .object();
  }

  /// Its buffers are of a size that the garbage collector knows nothing of.
  void close(const Napi::CallbackInfo&) { index_.reset(); }

  bool is_open(Arguments& arguments) const {
    if (arguments.ok() && !index_.has_value()) arguments.range_error("it is closed");
    return arguments.ok();
  }

  std::optional<StreamIndex> index_;
  bool has_head_ = false;
};

/// The readers that this process has open.
class Readers {
 public:
  uint32_t add(std::shared_ptr<SegmentReader> reader) {
    const std::lock_guard lock(mutex_);
    readers_.emplace(next_, std::move(reader));
    return next_++;
  }
  std::shared_ptr<SegmentReader> find(uint32_t handle) {
    const std::lock_guard lock(mutex_);
    const auto found = readers_.find(handle);
    return found == readers_.end() ? nullptr : found->second;
  }
  void close(uint32_t handle) {
    const std::lock_guard lock(mutex_);
    readers_.erase(handle);
  }

 private:
  std::mutex mutex_;
  std::map<uint32_t, std::shared_ptr<SegmentReader>> readers_;
  uint32_t next_ = 1;
};

/// Never destroyed: threads may still be running when the process ends.
Readers& readers() {
  static auto* const instance = new Readers();
  return *instance;
}

std::shared_ptr<SegmentReader> take_reader(Arguments& arguments) {
  const auto handle = static_cast<uint32_t>(arguments.integer(0, "reader", 0, UINT32_MAX));
  if (!arguments.ok()) return nullptr;
  std::shared_ptr<SegmentReader> reader = readers().find(handle);
  if (reader == nullptr) arguments.range_error("there is no such reader");
  return reader;
}

Napi::Value open_reader(const Napi::CallbackInfo& info) {
  const Napi::Env env = info.Env();
  Arguments arguments(info);
  const int fd = arguments.file_descriptor(0);
  const std::span<const uint8_t> start = arguments.bytes(1, "start");
  const int32_t* abort = take_abort(arguments, 2);
  if (!arguments.ok()) return env.Undefined();
  auto reader = std::make_shared<SegmentReader>(fd, start);
  if (!reader->read_head(abort)) return Fields(env).set("fault", fault_object(env, reader->fault())).object();
  const Napi::Object head = head_object(env, reader->head());
  return Fields(env).number("reader", readers().add(std::move(reader))).set("head", head).object();
}

Napi::Value plan_reader(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::shared_ptr<SegmentReader> reader = take_reader(arguments);
  const std::span<const double> numbers = arguments.doubles(1, "regions");
  const auto segment_bytes = static_cast<uint64_t>(arguments.integer(
      2, "segmentSize", static_cast<int64_t>(kMinSegmentBytes), static_cast<int64_t>(kMaxSegmentBytes)));
  constexpr auto kMost = static_cast<double>(kMaxPosition);
  std::vector<qemu::BlockPart> parts;
  for (size_t i = 0; i + kDoublesPerPart <= numbers.size(); i += kDoublesPerPart) {
    const bool is_part =
        is_whole(numbers[i], 0, UINT32_MAX) && is_whole(numbers[i + 1], 0, kMost) && is_whole(numbers[i + 2], 0, kMost);
    if (!is_part) arguments.range_error("regions must be triples of whole numbers");
    if (!arguments.ok()) return info.Env().Undefined();
    parts.push_back({.block = static_cast<uint32_t>(numbers[i]),
                     .offset = static_cast<uint64_t>(numbers[i + 1]),
                     .size_bytes = static_cast<uint64_t>(numbers[i + 2])});
  }
  if (!arguments.ok()) return info.Env().Undefined();
  return Napi::Boolean::New(info.Env(), reader->plan(std::move(parts), segment_bytes));
}

Napi::Value fill_segment(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::shared_ptr<SegmentReader> reader = take_reader(arguments);
  const uint64_t segment_bytes = reader == nullptr ? 0 : reader->segment_bytes();
  const std::span<uint8_t> into = arguments.bytes(1, "into", segment_bytes);
  const std::span<uint8_t> map = arguments.bytes(2, "map", segment_bytes / qemu::kPageBytes);
  const std::span<double> report = arguments.doubles(3, "report", kFilledLength);
  const int32_t* abort = take_abort(arguments, 4);
  if (arguments.ok() && segment_bytes == 0) arguments.range_error("the reader has no plan");
  if (!arguments.ok()) return info.Env().Undefined();
  qemu::FilledSegment filled;
  const Next next = reader->fill(into.data(), map.first(segment_bytes / qemu::kPageBytes), filled, abort);
  report[kFilledRegion] = static_cast<double>(filled.part);
  report[kFilledOffset] = static_cast<double>(filled.offset);
  report[kFilledBytes] = static_cast<double>(filled.size_bytes);
  report[kFilledGotPages] = static_cast<double>(filled.got_pages);
  report[kFilledZeroPages] = static_cast<double>(filled.zero_pages);
  report[kFilledEarlier] = static_cast<double>(filled.earlier);
  return Napi::Number::New(info.Env(), next == Next::kPage ? kFilled : next == Next::kRamEnd ? kRamEnded : kFaulty);
}

Napi::Value reader_fault(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::shared_ptr<SegmentReader> reader = take_reader(arguments);
  return arguments.ok() ? Napi::Value(fault_object(info.Env(), reader->fault())) : info.Env().Undefined();
}

Napi::Value next_unseen_segment(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::shared_ptr<SegmentReader> reader = take_reader(arguments);
  const uint64_t number = arguments.position(1, "segment");
  if (!arguments.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(reader->next_unseen(number)));
}

Napi::Value read_rest(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::shared_ptr<SegmentReader> reader = take_reader(arguments);
  const std::span<uint8_t> into = arguments.bytes(1, "into", 1);
  const int32_t* abort = take_abort(arguments, 2);
  if (!arguments.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(reader->read_rest(into.data(), into.size(), abort)));
}

void close_reader(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const auto handle = static_cast<uint32_t>(arguments.integer(0, "reader", 0, UINT32_MAX));
  if (arguments.ok()) readers().close(handle);
}

}  // namespace

void register_qemu(Napi::Env env, Napi::Object exports) {
  exports.Set("QemuIndex", IndexObject::define(env));
  export_function(env, exports, "qemuOpen", open_reader);
  export_function(env, exports, "qemuPlan", plan_reader);
  export_function(env, exports, "qemuFill", fill_segment);
  export_function(env, exports, "qemuFault", reader_fault);
  export_function(env, exports, "qemuNextUnseen", next_unseen_segment);
  export_function(env, exports, "qemuReadRest", read_rest);
  export_function(env, exports, "qemuClose", close_reader);
}

}  // namespace vmsnap::addon
