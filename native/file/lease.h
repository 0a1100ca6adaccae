// A read lease: the kernel's word that nobody has the file open for writing.
#pragma once

namespace vmsnap {

/// Takes it. Returns 0, -EAGAIN if someone has the file open for writing (or `fd` itself is), or a negative errno.
int take_read_lease(int fd);

/// 1 while the lease is whole, 0 once someone waits to write or it is gone, or a negative errno.
int read_lease_held(int fd);

int release_lease(int fd);

}  // namespace vmsnap
