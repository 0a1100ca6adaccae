// Locks, names and kinds of files. Status 0 or a negative errno unless said otherwise.
#pragma once

#include <cstdint>

namespace vmsnap {

/// An exclusive lock on the open file (flock), without waiting: -EWOULDBLOCK if another has it.
int try_lock(int fd);
/// The same for any number of holders at once, as long as nobody has it exclusively.
int try_lock_shared(int fd);
/// An exclusive lock on a range of the file, which belongs to the open file as those above, and knows nothing of them
/// (fcntl, F_OFD_SETLK). The file must be open for writing; the range may lie beyond its end.
int try_lock_range(int fd, uint64_t position, uint64_t size_bytes);

/// Renames unless `to` exists (-EEXIST). Where the file system (NFS) knows no such rename: one of the two below.
int rename_no_replace(const char* from, const char* to);
/// Of files: link, then unlink. If it fails half-way both names are there.
int rename_by_link(const char* from, const char* to);
/// Of folders, which have one name only: a rename, which replaces an empty folder at most.
int rename_folder(const char* from, const char* to);

/// Each gets the other's name, at once. -EINVAL or -ENOSYS where the file system knows no such rename.
int rename_exchange(const char* one, const char* other);

/// Size of a block device in bytes, or a negative errno.
int64_t block_device_bytes(int fd);

/// f_type of statfs, or a negative errno.
int64_t file_system_type(int fd);

}  // namespace vmsnap
