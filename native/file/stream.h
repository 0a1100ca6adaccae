// Pipes, sockets and whatever else is read and written at its current position, in a way that can be stopped.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace vmsnap {

/// Waits until `fd` can be read (or has an end or an error for the call that follows to tell). Returns 0 or a negative
/// errno; `abort` as below.
int wait_readable(int fd, const int32_t* abort);

/// Reads until `size_bytes` are there or the stream ends. `abort`, which another thread may set, is looked at at least
/// every 100 ms: non-zero ends the wait with -ECANCELED. Returns the bytes read or a negative errno.
int64_t read_stream(int fd, uint8_t* bytes, size_t size_bytes, const int32_t* abort);

/// The same, but reads only what there is once there is something: fewer bytes do not mean the end of the stream, none
/// do.
int64_t read_stream_part(int fd, uint8_t* bytes, size_t size_bytes, const int32_t* abort);

/// The ways to write to a blocking pipe without being blocked, best first (stream.cc says how they work).
enum class PipeWay : uint8_t { kNoWait, kReopened, kSmall };

/// Writes all bytes, stoppable likewise; -EPIPE if the reader is gone (SIGPIPE must be ignored). Returns 0 or a
/// negative errno. `first_way` leaves out better ways, for tests.
int write_stream(int fd, const uint8_t* bytes, size_t size_bytes, const int32_t* abort,
                 PipeWay first_way = PipeWay::kNoWait);

struct PipeEnds {
  int read_fd;
  int write_fd;
};

/// A pipe of `capacity_bytes` or, if the system does not allow that, the next smaller capacity it does. Returns 0 or a
/// negative errno.
int open_pipe(size_t capacity_bytes, PipeEnds& ends);

/// Lets a pipe that somebody else made hold up to `capacity_bytes`, as far as the system allows it. Never less than it
/// does; what is no pipe stays as it is.
void widen_pipe(int fd, size_t capacity_bytes);

/// A connection to the unix socket at `path`. Returns its descriptor or a negative errno; -ENAMETOOLONG beyond what an
/// address holds.
int connect_unix(std::string_view path);

}  // namespace vmsnap
