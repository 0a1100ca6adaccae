// Holes, page cache, leases, locks and names.
#include "../base/limits.h"
#include "../file/file_system.h"
#include "../file/gather_writer.h"
#include "../file/holes.h"
#include "../file/lease.h"
#include "../file/page_cache.h"
#include "../file/zero_range.h"
#include "arguments.h"
#include "register.h"

namespace vmsnap::addon {

namespace {

struct FileRange {
  FileRange(Arguments& arguments)
      : fd(arguments.file_descriptor(0)),
        position(arguments.position(1, "position")),
        size_bytes(arguments.position(2, "length")) {}
  int fd;
  uint64_t position;
  uint64_t size_bytes;
};

/// A function of a range of a file.
template <auto kFunction>
Napi::Value of_range(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const FileRange range(arguments);
  if (!arguments.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), kFunction(range.fd, range.position, range.size_bytes));
}

/// A function of an open file.
template <auto kFunction>
Napi::Value of_file(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = arguments.file_descriptor(0);
  if (!arguments.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(kFunction(fd)));
}

Napi::Value zero_file_range(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const FileRange range(arguments);
  const bool punch = arguments.boolean(3, "punch");
  if (!arguments.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), zero_range(range.fd, range.position, range.size_bytes, punch));
}

Napi::Value write_file_bytes(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = arguments.file_descriptor(0);
  const uint64_t position = arguments.position(1, "position");
  const std::span<uint8_t> bytes = arguments.byte_range(2, "bytes");
  if (!arguments.ok()) return info.Env().Undefined();
  GatherWriter writer(fd, position);
  int status = bytes.empty() ? 0 : writer.add(bytes.data(), bytes.size());
  if (status == 0) status = writer.flush();
  return Napi::Number::New(info.Env(), status);
}

Napi::Value seek_file_data(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = arguments.file_descriptor(0);
  const uint64_t offset = arguments.position(1, "offset");
  const uint64_t end = arguments.position(2, "end");
  if (!arguments.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(seek_data(fd, offset, end)));
}

Napi::Value seek_file_hole(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = arguments.file_descriptor(0);
  const uint64_t offset = arguments.position(1, "offset");
  const uint64_t end = arguments.position(2, "end");
  if (!arguments.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), static_cast<double>(seek_hole(fd, offset, end)));
}

template <int (*Rename)(const char* from, const char* to)>
Napi::Value rename_file(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::string from = arguments.path(0, "from");
  const std::string to = arguments.path(1, "to");
  if (!arguments.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), Rename(from.c_str(), to.c_str()));
}

}  // namespace

void register_files(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "writeBytes", write_file_bytes);
  export_function(env, exports, "zeroRange", zero_file_range);
  export_function(env, exports, "seekData", seek_file_data);
  export_function(env, exports, "seekHole", seek_file_hole);
  export_function(env, exports, "allocate", of_range<allocate>);
  export_function(env, exports, "residentShare", of_range<resident_share>);
  export_function(env, exports, "dropCache", of_range<drop_cache>);
  export_function(env, exports, "startWriteback", of_range<start_writeback>);
  export_function(env, exports, "tryLock", of_file<try_lock>);
  export_function(env, exports, "tryLockShared", of_file<try_lock_shared>);
  export_function(env, exports, "tryLockRange", of_range<try_lock_range>);
  export_function(env, exports, "takeReadLease", of_file<take_read_lease>);
  export_function(env, exports, "readLeaseHeld", of_file<read_lease_held>);
  export_function(env, exports, "releaseLease", of_file<release_lease>);
  export_function(env, exports, "renameNoReplace", rename_file<rename_no_replace>);
  export_function(env, exports, "renameExchange", rename_file<rename_exchange>);
  export_function(env, exports, "blockDeviceSize", of_file<block_device_bytes>);
  export_function(env, exports, "fileSystemType", of_file<file_system_type>);
}

}  // namespace vmsnap::addon
