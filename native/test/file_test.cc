// Holes, page cache, locks, names, leases.
#include <cerrno>
#include <vector>

#include <linux/magic.h>
#include <sys/wait.h>

#include "../file/file_system.h"
#include "../file/holes.h"
#include "../file/lease.h"
#include "../file/page_cache.h"
#include "support/check.h"
#include "support/random.h"
#include "support/temp_file.h"

namespace vmsnap::test {

namespace {

/// Runs `body` in another process. Returns its exit status, which `body` gives, or -1.
template <class Body>
int in_child(Body&& body) {
  const pid_t child = fork();
  if (child == 0) _exit(body());
  int status = 0;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

bool file_exists(const std::string& path) { return access(path.c_str(), F_OK) == 0; }

}  // namespace

TEST(seek_data_finds_the_end_of_a_hole) {
  for (const std::string& folder : folders_to_try()) {
    const UniqueFd file = temp_file(folder);
    CHECK_EQ(ftruncate(file.get(), 8 << 20), 0);
    write_at(file.get(), Random(20).bytes(4096), 4 << 20);
    CHECK_EQ(seek_data(file.get(), 0, 8 << 20), int64_t{4 << 20});
    CHECK_EQ(seek_data(file.get(), 0, 2 << 20), int64_t{2 << 20});
    CHECK_EQ(seek_data(file.get(), 4 << 20, 8 << 20), int64_t{4 << 20});
    CHECK_EQ(seek_data(file.get(), 5 << 20, 8 << 20), int64_t{8 << 20});
    CHECK_EQ(seek_data(file.get(), 9 << 20, 10 << 20), int64_t{10 << 20});
    CHECK_EQ(seek_data(file.get(), 5, 5), int64_t{5});
  }
  const UniqueFd zero = open_or_abort("/dev/zero", O_RDONLY);
  CHECK_EQ(seek_data(zero.get(), 1000, 2000), int64_t{1000});
  CHECK_EQ(seek_data(12345, 0, 100), int64_t{-EBADF});
}

TEST(seek_hole_finds_the_end_of_data) {
  for (const std::string& folder : folders_to_try()) {
    const UniqueFd file = temp_file(folder);
    CHECK_EQ(ftruncate(file.get(), 8 << 20), 0);
    write_at(file.get(), Random(21).bytes(1 << 20), 4 << 20);
    CHECK_EQ(seek_hole(file.get(), 4 << 20, 8 << 20), int64_t{5 << 20});
    CHECK_EQ(seek_hole(file.get(), (4 << 20) + 4096, 8 << 20), int64_t{5 << 20});
    CHECK_EQ(seek_hole(file.get(), 4 << 20, (4 << 20) + 4096), int64_t{(4 << 20) + 4096});
    CHECK_EQ(seek_hole(file.get(), 1 << 20, 8 << 20), int64_t{1 << 20});
    CHECK_EQ(seek_hole(file.get(), 9 << 20, 10 << 20), int64_t{-ENXIO});
    CHECK_EQ(seek_hole(file.get(), 5, 5), int64_t{5});
  }
  CHECK_EQ(seek_hole(12345, 0, 100), int64_t{-EBADF});
}

TEST(stretches_of_data_are_short_and_holes_whole) {
  for (const std::string& folder : folders_to_try()) {
    const UniqueFd file = temp_file(folder);
    CHECK_EQ(ftruncate(file.get(), 64 << 20), 0);
    write_at(file.get(), Random(23).bytes(4 << 20), 8 << 20);
    Stretch stretch;
    CHECK_EQ(find_stretch(file.get(), 0, 64 << 20, stretch), 0);
    CHECK(stretch.is_hole);
    CHECK_EQ(stretch.end, uint64_t{8 << 20});
    // The end of data is not asked for (SEEK_HOLE takes tmpfs too long): it is followed a little way at a time.
    CHECK_EQ(find_stretch(file.get(), 8 << 20, 64 << 20, stretch), 0);
    CHECK(!stretch.is_hole);
    CHECK(stretch.end > 8 << 20 && stretch.end <= 9 << 20);
    CHECK_EQ(find_stretch(file.get(), 13 << 20, 64 << 20, stretch), 0);
    CHECK(stretch.is_hole);
    CHECK_EQ(stretch.end, uint64_t{64 << 20});
    CHECK_EQ(find_stretch(file.get(), 13 << 20, 65 << 20, stretch), kFileEndsEarly);
    CHECK_EQ(stretch.end, uint64_t{64 << 20});
  }
}

TEST(page_cache_residence_and_advice) {
  const UniqueFd file = temp_file();
  write_at(file.get(), Random(21).bytes(1 << 20), 0);
  CHECK_EQ(resident_share(file.get(), 0, 1 << 20), 1.0);
  CHECK_EQ(resident_share(file.get(), 100, 5000), 1.0);
  CHECK_EQ(resident_share(file.get(), 0, 0), 1.0);
  CHECK_EQ(start_writeback(file.get(), 0, 1 << 20), 0);
  CHECK_EQ(fdatasync(file.get()), 0);
  CHECK_EQ(drop_cache(file.get(), 0, 1 << 19), 0);
  const double share = resident_share(file.get(), 0, 1 << 20);
  CHECK(share >= 0.5 && share <= 1.0);
  // Not a file that can be mapped: it cannot be told.
  int ends[2];
  CHECK_EQ(pipe(ends), 0);
  CHECK_EQ(resident_share(ends[0], 0, 4096), 1.0);
  CHECK_EQ(drop_cache(ends[0], 0, 4096), -ESPIPE);
  close(ends[0]);
  close(ends[1]);
  CHECK_EQ(start_writeback(12345, 0, 4096), -EBADF);
}

TEST(allocate_grows_the_file) {
  const UniqueFd file = temp_file();
  CHECK_EQ(allocate(file.get(), 4096, 65536), 0);
  CHECK_EQ(file_bytes(file.get()), uint64_t{4096 + 65536});
  CHECK_EQ(allocate(file.get(), 0, 0), 0);
  CHECK_EQ(allocate(12345, 0, 4096), -EBADF);
}

TEST(lock_is_exclusive) {
  const TempFolder folder;
  const UniqueFd first = open_or_abort(folder.path("lock"), O_RDWR | O_CREAT);
  UniqueFd second = open_or_abort(folder.path("lock"), O_RDWR);
  CHECK_EQ(try_lock(first.get()), 0);
  CHECK_EQ(try_lock(first.get()), 0);
  CHECK_EQ(try_lock(second.get()), -EWOULDBLOCK);
  CHECK_EQ(in_child([&] { return -try_lock(open_or_abort(folder.path("lock"), O_RDONLY).get()); }), EWOULDBLOCK);
  CHECK_EQ(try_lock(12345), -EBADF);
}

TEST(shared_locks_keep_out_exclusive_ones) {
  const TempFolder folder;
  const UniqueFd first = open_or_abort(folder.path("lock"), O_RDWR | O_CREAT);
  const UniqueFd second = open_or_abort(folder.path("lock"), O_RDWR);
  UniqueFd third = open_or_abort(folder.path("lock"), O_RDWR);
  CHECK_EQ(try_lock_shared(first.get()), 0);
  CHECK_EQ(try_lock_shared(second.get()), 0);
  CHECK_EQ(try_lock(third.get()), -EWOULDBLOCK);
  CHECK_EQ(try_lock_shared(12345), -EBADF);
}

TEST(range_locks_meet_where_ranges_do) {
  const TempFolder folder;
  const UniqueFd first = open_or_abort(folder.path("lock"), O_RDWR | O_CREAT);
  const UniqueFd second = open_or_abort(folder.path("lock"), O_RDWR);
  const uint64_t far = uint64_t{1} << 48;
  CHECK_EQ(try_lock_shared(first.get()), 0);
  CHECK_EQ(try_lock_shared(second.get()), 0);
  CHECK_EQ(try_lock_range(first.get(), far, 1), 0);
  CHECK_EQ(try_lock_range(second.get(), far, 1), -EWOULDBLOCK);
  CHECK_EQ(try_lock_range(second.get(), far - 1, 3), -EWOULDBLOCK);
  CHECK_EQ(try_lock_range(second.get(), far + 1, 1), 0);
  CHECK_EQ(in_child([&] { return -try_lock_range(open_or_abort(folder.path("lock"), O_RDWR).get(), far, 1); }),
           EWOULDBLOCK);
  const UniqueFd reader = open_or_abort(folder.path("lock"), O_RDONLY);
  CHECK_EQ(try_lock_range(reader.get(), 0, 1), -EBADF);
}

TEST(rename_never_replaces) {
  for (const auto rename_function : {rename_no_replace, rename_by_link}) {
    for (const std::string& parent : folders_to_try()) {
      const TempFolder folder(parent);
      const std::string a = folder.path("a");
      const std::string b = folder.path("b");
      open_or_abort(a, O_WRONLY | O_CREAT);
      CHECK_EQ(rename_function(a.c_str(), b.c_str()), 0);
      CHECK(!file_exists(a) && file_exists(b));
      open_or_abort(a, O_WRONLY | O_CREAT);
      CHECK_EQ(rename_function(a.c_str(), b.c_str()), -EEXIST);
      CHECK(file_exists(a) && file_exists(b));
      CHECK_EQ(rename_function(folder.path("none").c_str(), folder.path("c").c_str()), -ENOENT);
    }
  }
}

TEST(rename_of_a_folder_replaces_nothing) {
  for (const std::string& parent : folders_to_try()) {
    const TempFolder folder(parent);
    const std::string from = folder.path("from");
    const std::string to = folder.path("to");
    CHECK_EQ(rename_folder(from.c_str(), to.c_str()), -ENOENT);
    CHECK_EQ(mkdir(from.c_str(), 0700), 0);
    open_or_abort(from + "/file", O_WRONLY | O_CREAT);
    open_or_abort(to, O_WRONLY | O_CREAT);
    CHECK_EQ(rename_folder(from.c_str(), to.c_str()), -EEXIST);
    CHECK_EQ(remove(to.c_str()), 0);
    CHECK_EQ(rename_folder(from.c_str(), to.c_str()), 0);
    CHECK(file_exists(to + "/file") && !file_exists(from));
    CHECK_EQ(mkdir(from.c_str(), 0700), 0);
    CHECK_EQ(rename_folder(from.c_str(), to.c_str()), -EEXIST);
    CHECK(file_exists(to + "/file") && file_exists(from));
    for (const std::string& path : {to + "/file", to, from}) CHECK_EQ(remove(path.c_str()), 0);
  }
}

TEST(rename_exchanges_folders) {
  for (const std::string& parent : folders_to_try()) {
    const TempFolder folder(parent);
    const std::string one = folder.path("one");
    const std::string other = folder.path("other");
    for (const std::string& path : {one, other}) CHECK_EQ(mkdir(path.c_str(), 0700), 0);
    open_or_abort(one + "/of one", O_WRONLY | O_CREAT);
    CHECK_EQ(rename_exchange(one.c_str(), other.c_str()), 0);
    CHECK(file_exists(other + "/of one") && file_exists(one));
    CHECK(!file_exists(one + "/of one"));
    CHECK_EQ(rename_exchange(one.c_str(), folder.path("none").c_str()), -ENOENT);
    for (const std::string& path : {other + "/of one", one, other}) CHECK_EQ(remove(path.c_str()), 0);
  }
}

TEST(kinds_of_files) {
  const UniqueFd file = temp_file();
  CHECK_EQ(block_device_bytes(file.get()), int64_t{-ENOTTY});
  CHECK(file_system_type(file.get()) > 0);
  CHECK_EQ(file_system_type(12345), int64_t{-EBADF});
  const UniqueFd proc = open_or_abort("/proc/self/status", O_RDONLY);
  CHECK_EQ(file_system_type(proc.get()), int64_t{PROC_SUPER_MAGIC});
}

TEST(lease_is_refused_while_a_writer_has_the_file_open) {
  for (const std::string& parent : folders_to_try()) {
    const TempFolder folder(parent);
    UniqueFd writer = open_or_abort(folder.path("f"), O_RDWR | O_CREAT);
    const UniqueFd reader = open_or_abort(folder.path("f"), O_RDONLY);
    const int status = take_read_lease(reader.get());
    if (status == -EINVAL) return skip("no leases on this file system or emulator");
    CHECK_EQ(status, -EAGAIN);
    writer = UniqueFd();
    CHECK_EQ(take_read_lease(reader.get()), 0);
    CHECK_EQ(read_lease_held(reader.get()), 1);
    CHECK_EQ(release_lease(reader.get()), 0);
    CHECK_EQ(read_lease_held(reader.get()), 0);
  }
}

TEST(lease_shows_a_writer_that_comes) {
  for (const std::string& parent : folders_to_try()) {
    const TempFolder folder(parent);
    const std::string path = folder.path("f");
    open_or_abort(path, O_RDWR | O_CREAT);
    const UniqueFd reader = open_or_abort(path, O_RDONLY);
    const int status = take_read_lease(reader.get());
    if (status == -EINVAL) return skip("no leases on this file system or emulator");
    CHECK_EQ(status, 0);

    // Readers leave it whole.
    CHECK_EQ(in_child([&] { return open(path.c_str(), O_RDONLY) >= 0 ? 0 : errno; }), 0);
    CHECK_EQ(read_lease_held(reader.get()), 1);

    // A writer that does not wait is refused, but the break has begun.
    CHECK_EQ(in_child([&] { return open(path.c_str(), O_WRONLY | O_NONBLOCK) >= 0 ? 0 : errno; }), EWOULDBLOCK);
    CHECK_EQ(read_lease_held(reader.get()), 0);
    CHECK_EQ(release_lease(reader.get()), 0);

    // A writer that waits gets through once the lease is given back.
    CHECK_EQ(take_read_lease(reader.get()), 0);
    const pid_t writer = fork();
    if (writer == 0) _exit(open(path.c_str(), O_WRONLY) >= 0 ? 0 : errno);
    int held = 1;
    for (int tries = 0; tries < 500 && held == 1; ++tries) {
      usleep(10'000);
      held = read_lease_held(reader.get());
    }
    CHECK_EQ(held, 0);
    CHECK_EQ(waitpid(writer, nullptr, WNOHANG), 0);
    CHECK_EQ(release_lease(reader.get()), 0);
    int exit_status = -1;
    CHECK_EQ(waitpid(writer, &exit_status, 0), writer);
    CHECK_EQ(exit_status, 0);

    // So does truncation by name.
    CHECK_EQ(take_read_lease(reader.get()), 0);
    const pid_t truncater = fork();
    if (truncater == 0) _exit(truncate(path.c_str(), 5) == 0 ? 0 : errno);
    held = 1;
    for (int tries = 0; tries < 500 && held == 1; ++tries) {
      usleep(10'000);
      held = read_lease_held(reader.get());
    }
    CHECK_EQ(held, 0);
    CHECK_EQ(release_lease(reader.get()), 0);
    CHECK_EQ(waitpid(truncater, nullptr, 0), truncater);
  }
}

}  // namespace vmsnap::test
