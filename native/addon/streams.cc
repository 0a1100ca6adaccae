// readStream, writeStream, pipe, and the unix sockets that a stream comes and goes through.
#include <climits>

#include "../file/stream.h"
#include "../file/unix_socket.h"
#include "arguments.h"
#include "register.h"

namespace vmsnap::addon {

namespace {

struct StreamArguments {
  explicit StreamArguments(Arguments& arguments)
      : fd(arguments.file_descriptor(0)), bytes(arguments.byte_range(1, "bytes")) {
    abort = arguments.word(4, "abort", 5, "abortIndex");
  }
  int fd;
  std::span<uint8_t> bytes;
  const int32_t* abort = nullptr;
};

Napi::Value read_from_stream(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const StreamArguments stream(arguments);
  if (!arguments.ok()) return info.Env().Undefined();
  const int64_t result = read_stream(stream.fd, stream.bytes.data(), stream.bytes.size(), stream.abort);
  return Napi::Number::New(info.Env(), static_cast<double>(result));
}

Napi::Value write_to_stream(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const StreamArguments stream(arguments);
  if (!arguments.ok()) return info.Env().Undefined();
  const int status = write_stream(stream.fd, stream.bytes.data(), stream.bytes.size(), stream.abort);
  return Napi::Number::New(info.Env(), status);
}

Napi::Value make_pipe(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const auto capacity_bytes = static_cast<size_t>(arguments.integer(0, "capacityBytes", 0, INT_MAX));
  if (!arguments.ok()) return info.Env().Undefined();
  PipeEnds ends;
  if (const int status = open_pipe(capacity_bytes, ends); status != 0) return Napi::Number::New(info.Env(), status);
  Napi::Array pair = Napi::Array::New(info.Env(), 2);
  pair.Set(0U, Napi::Number::New(info.Env(), ends.read_fd));
  pair.Set(1U, Napi::Number::New(info.Env(), ends.write_fd));
  return pair;
}

Napi::Value make_pipe_wider(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = arguments.file_descriptor(0);
  const auto capacity_bytes = static_cast<size_t>(arguments.integer(1, "capacityBytes", 0, INT_MAX));
  if (arguments.ok()) widen_pipe(fd, capacity_bytes);
  return info.Env().Undefined();
}

Napi::Value listen_on_unix(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::string path = arguments.path(0, "path");
  if (!arguments.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), listen_unix(path));
}

Napi::Value accept_from_unix(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = arguments.file_descriptor(0);
  const int32_t* abort = arguments.word(1, "abort", 2, "abortIndex");
  if (!arguments.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), accept_unix(fd, abort));
}

Napi::Value peer_of_unix(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const int fd = arguments.file_descriptor(0);
  if (!arguments.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), peer_process(fd));
}

Napi::Value connect_to_socket(const Napi::CallbackInfo& info) {
  Arguments arguments(info);
  const std::string path = arguments.path(0, "path");
  if (!arguments.ok()) return info.Env().Undefined();
  return Napi::Number::New(info.Env(), connect_unix(path));
}

}  // namespace

void register_streams(Napi::Env env, Napi::Object exports) {
  export_function(env, exports, "readStream", read_from_stream);
  export_function(env, exports, "writeStream", write_to_stream);
  export_function(env, exports, "pipe", make_pipe);
  export_function(env, exports, "widenPipe", make_pipe_wider);
  export_function(env, exports, "listenUnix", listen_on_unix);
  export_function(env, exports, "acceptUnix", accept_from_unix);
  export_function(env, exports, "peerProcess", peer_of_unix);
  export_function(env, exports, "connectUnix", connect_to_socket);
}

}  // namespace vmsnap::addon
