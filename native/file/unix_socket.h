// A unix socket that somebody else is to connect to, once.
#pragma once

#include <cstdint>
#include <string>

namespace vmsnap {

/// Makes a socket file at `path`, which must not be there, and listens. Returns the descriptor or a negative errno.
int listen_unix(const std::string& path);

/// Waits for somebody who connects. `abort` as in read_stream (stream.h). Returns the connection, or a negative errno.
int accept_unix(int listening_fd, const int32_t* abort);

/// The process at the other end of a connection, as it was when it connected; a negative errno where that is not told.
int peer_process(int fd);

}  // namespace vmsnap
