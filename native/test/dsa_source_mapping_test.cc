// The device's mapping of a source: what is resident is reached, and nothing else is touched or changed.
#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/wait.h>

#include "../dsa/source_mapping.h"
#include "../file/page_cache.h"
#include "support/check.h"
#include "support/random.h"
#include "support/temp_file.h"

namespace vmsnap::test {

namespace {

using dsa::ReachableRun;
using dsa::SourceMapping;

constexpr size_t kHuge = size_t{2} << 20;

int64_t allocated_blocks(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? static_cast<int64_t>(status.st_blocks) : -1;
}

std::vector<ReachableRun> reach(SourceMapping& mapping, uint64_t offset, uint64_t size_bytes) {
  std::vector<ReachableRun> runs;
  CHECK_EQ(mapping.make_reachable(offset, size_bytes, runs), 0);
  return runs;
}

bool same_runs(const std::vector<ReachableRun>& got, const std::vector<ReachableRun>& expected) {
  if (got.size() != expected.size()) return false;
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i].offset != expected[i].offset || got[i].size_bytes != expected[i].size_bytes) return false;
  }
  return true;
}

/// Whether the mapped bytes are those of the file: what the device will see.
bool mapping_shows(const SourceMapping& mapping, uint64_t offset, const std::vector<uint8_t>& bytes) {
  return std::equal(bytes.begin(), bytes.end(), mapping.at(offset));
}

}  // namespace

TEST(dsa_source_mapping_reaches_what_is_resident_and_leaves_holes_alone) {
  const UniqueFd file = temp_file("/dev/shm");
  const std::vector<uint8_t> bytes = Random(1).bytes(3 * 4096);
  CHECK_EQ(ftruncate(file.get(), 64 << 20), 0);
  write_at(file.get(), bytes, 1 << 20);
  write_at(file.get(), bytes, (40 << 20) - 4096);
  const int64_t before = allocated_blocks(file.get());
  int error = 0;
  const auto mapping = SourceMapping::map(file.get(), error);
  CHECK_EQ(error, 0);
  CHECK_EQ(mapping->size_bytes(), uint64_t{64} << 20);
  CHECK_EQ(mapping->backing_page_bytes(), size_t{4096});
  const std::vector<ReachableRun> runs = reach(*mapping, 0, 64 << 20);
  CHECK(same_runs(runs, {{1 << 20, 12288}, {(40 << 20) - 4096, 12288}}));
  CHECK(mapping_shows(*mapping, 1 << 20, bytes));
  // A part that starts and ends within pages: their system pages are reached whole.
  CHECK(same_runs(reach(*mapping, (1 << 20) + 5000, 4096), {{(1 << 20) + 4096, 8192}}));
  CHECK(same_runs(reach(*mapping, 8 << 20, 16 << 20), {}));
  mapping->release(0, 64 << 20);
  CHECK_EQ(allocated_blocks(file.get()), before);
}

TEST(dsa_source_mapping_of_an_allocated_but_unwritten_file_reaches_nothing) {
  const UniqueFd file = temp_file("/dev/shm");
  CHECK_EQ(ftruncate(file.get(), 4 << 20), 0);
  CHECK_EQ(allocate(file.get(), 0, 4 << 20), 0);
  int error = 0;
  const auto mapping = SourceMapping::map(file.get(), error);
  CHECK(same_runs(reach(*mapping, 0, 4 << 20), {}));
}

TEST(dsa_source_mapping_of_an_ordinary_file_reads_nothing_in) {
  const TempFolder folder;
  const UniqueFd file = open_or_abort(folder.path("memory"), O_RDWR | O_CREAT);
  write_at(file.get(), Random(2).bytes(8 << 20), 0);
  CHECK_EQ(fsync(file.get()), 0);
  CHECK_EQ(drop_cache(file.get(), 0, 8 << 20), 0);
  if (resident_share(file.get(), 0, 8 << 20) > 0) return skip("the file system here keeps what it was asked to drop");
  const std::vector<uint8_t> page = read_at(file.get(), 4096, 4 << 20);
  const double share = resident_share(file.get(), 0, 8 << 20);
  int error = 0;
  const auto mapping = SourceMapping::map(file.get(), error);
  CHECK_EQ(error, 0);
  const std::vector<ReachableRun> runs = reach(*mapping, 0, 8 << 20);
  CHECK(!runs.empty());
  CHECK(mapping_shows(*mapping, 4 << 20, page));
  CHECK_EQ(resident_share(file.get(), 0, 8 << 20), share);
}

TEST(dsa_source_mapping_of_a_file_that_was_cut_short_answers_efault) {
  for (const std::string& folder : folders_to_try()) {
    const UniqueFd file = temp_file(folder);
    const std::vector<uint8_t> bytes = Random(3).bytes(1 << 20);
    write_at(file.get(), bytes, 0);
    int error = 0;
    const auto mapping = SourceMapping::map(file.get(), error);
    CHECK_EQ(error, 0);
    CHECK(same_runs(reach(*mapping, 0, 1 << 20), {{0, 1 << 20}}));
    CHECK_EQ(ftruncate(file.get(), 65536), 0);
    // Mostly what is gone is no longer resident, and not even asked for. Where the cut went through a large folio, the
    // rest of it is resident still, but out of reach.
    std::vector<ReachableRun> rest;
    const int status = mapping->make_reachable(0, 1 << 20, rest);
    CHECK(status == 0 ? same_runs(rest, {{0, 65536}}) : status == -EFAULT && rest.empty());
    std::vector<ReachableRun> runs = {{1, 2}};
    CHECK_EQ(mapping->make_reachable(1 << 20, 4096, runs), -EFAULT);
    CHECK(same_runs(runs, {{1, 2}}));
    mapping->release(0, 1 << 20);
  }
}

/// The file is cut and grown again all the time, so that some cut falls between the question and the reach.
TEST(dsa_source_mapping_survives_cuts_at_any_moment) {
  const UniqueFd file = temp_file("/dev/shm");
  const std::vector<uint8_t> bytes = Random(4).bytes(4 << 20);
  write_at(file.get(), bytes, 0);
  int error = 0;
  const auto mapping = SourceMapping::map(file.get(), error);
  std::atomic<bool> done = false;
  std::thread cutter([&] {
    while (!done) {
      if (ftruncate(file.get(), 4096) != 0 || ftruncate(file.get(), 4 << 20) != 0) std::abort();
      write_at(file.get(), bytes, 0);
    }
  });
  for (int round = 0; round < 300; ++round) {
    std::vector<ReachableRun> runs;
    const int status = mapping->make_reachable(0, 4 << 20, runs);
    CHECK(status == 0 || (status == -EFAULT && runs.empty()));
    mapping->release(0, 4 << 20);
  }
  done = true;
  cutter.join();
}

TEST(dsa_source_mapping_serves_several_threads) {
  const UniqueFd file = temp_file("/dev/shm");
  const std::vector<uint8_t> bytes = Random(5).bytes(8 << 20);
  write_at(file.get(), bytes, 0);
  int error = 0;
  const auto mapping = SourceMapping::map(file.get(), error);
  std::atomic<int> wrong = 0;
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int round = 0; round < 50; ++round) {
        std::vector<ReachableRun> runs;
        const uint64_t offset = t << 21;
        if (mapping->make_reachable(offset, 1 << 21, runs) != 0) ++wrong;
        if (!same_runs(runs, {{offset, 1 << 21}})) ++wrong;
        mapping->release(offset, 1 << 21);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK_EQ(wrong.load(), 0);
}

TEST(dsa_source_mapping_refuses_what_cannot_be_mapped) {
  int error = 0;
  const UniqueFd empty = temp_file();
  CHECK(SourceMapping::map(empty.get(), error) == nullptr);
  CHECK_EQ(error, EINVAL);
  const UniqueFd zero = open_or_abort("/dev/zero", O_RDONLY);
  CHECK(SourceMapping::map(zero.get(), error) == nullptr);
  CHECK_EQ(error, ENODEV);
  int ends[2];
  CHECK_EQ(pipe(ends), 0);
  CHECK(SourceMapping::map(ends[0], error) == nullptr);
  CHECK_EQ(error, ENODEV);
  close(ends[0]);
  close(ends[1]);
  CHECK(SourceMapping::map(ends[0], error) == nullptr);
  CHECK_EQ(error, EBADF);
  const TempFolder folder;
  const UniqueFd write_only = open_or_abort(folder.path("w"), O_WRONLY | O_CREAT);
  CHECK_EQ(ftruncate(write_only.get(), 4096), 0);
  CHECK(SourceMapping::map(write_only.get(), error) == nullptr);
  CHECK_EQ(error, EACCES);
}

TEST(dsa_source_mapping_of_a_file_of_somebody_else_is_refused) {
  if (geteuid() != 0) return skip("needs root, to become somebody else");
  const TempFolder folder("/dev/shm");
  const std::string path = folder.path("memory");
  const UniqueFd file = open_or_abort(path, O_RDWR | O_CREAT);
  CHECK_EQ(ftruncate(file.get(), 1 << 20), 0);
  CHECK_EQ(fchmod(file.get(), 0644), 0);
  CHECK_EQ(chmod(folder.path("").c_str(), 0755), 0);
  const UniqueFd reader = open_or_abort(path, O_RDONLY);
  const pid_t child = fork();
  if (child == 0) {
    if (setgid(65534) != 0 || setuid(65534) != 0) _exit(1);
    int error = 0;
    _exit(SourceMapping::map(reader.get(), error) == nullptr && error == EPERM ? 0 : 2);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK_EQ(WEXITSTATUS(status), 0);
  CHECK_EQ(allocated_blocks(file.get()), int64_t{0});
}

// A child has no mapping, and what stands in its place there belongs to somebody else.
TEST(dsa_source_mapping_is_not_a_childs) {
  const UniqueFd file = temp_file("/dev/shm");
  write_at(file.get(), std::vector<uint8_t>(kHuge), 0);
  int error = 0;
  std::unique_ptr<SourceMapping> mapping = SourceMapping::map(file.get(), error);
  CHECK_EQ(error, 0);
  auto* const place = const_cast<uint8_t*>(mapping->at(0));
  const pid_t child = fork();
  if (child == 0) {
    unsigned char residence = 0;
    const bool inherited = mincore(place, 4096, &residence) == 0;
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE;
    const bool taken = mmap(place, 4096, PROT_READ | PROT_WRITE, flags, -1, 0) == place;
    mapping.reset();
    _exit(!inherited && taken && mincore(place, 4096, &residence) == 0 ? 0 : 1);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CHECK(WIFEXITED(status));
  CHECK_EQ(WEXITSTATUS(status), 0);
  mapping.reset();
  unsigned char residence = 0;
  CHECK(mincore(place, 4096, &residence) != 0);
}

TEST(dsa_source_mapping_of_huge_pages_is_kept) {
  constexpr size_t kBytes = 4 * kHuge;
  const UniqueFd file(memfd_create("vmsnap-test", MFD_CLOEXEC | MFD_HUGETLB));
  if (!file.is_open() || ftruncate(file.get(), kBytes) != 0) return skip("no huge pages to be had here");
  int error = 0;
  CHECK(SourceMapping::map(file.get(), error) == nullptr);
  CHECK_EQ(error, ENODATA);
  if (allocate(file.get(), 0, kBytes) != 0) return skip("no huge pages to be had here");
  const auto mapping = SourceMapping::map(file.get(), error);
  CHECK_EQ(error, 0);
  CHECK_EQ(mapping->backing_page_bytes(), kHuge);
  CHECK_EQ(reinterpret_cast<uintptr_t>(mapping->at(0)) % kHuge, uintptr_t{0});
  CHECK(same_runs(reach(*mapping, kHuge + 4096, kHuge), {{kHuge + 4096, kHuge}}));
  mapping->release(0, kBytes);
  CHECK(mapping_shows(*mapping, kHuge, std::vector<uint8_t>(kHuge)));
  CHECK_EQ(ftruncate(file.get(), kHuge), 0);
  std::vector<ReachableRun> runs;
  CHECK_EQ(mapping->make_reachable(kHuge, kHuge, runs), -EFAULT);
}

TEST(dsa_source_mapping_tells_a_tmpfs_of_huge_pages) {
  const TempFolder folder;
  const std::string mount_point = folder.path("mount");
  CHECK_EQ(mkdir(mount_point.c_str(), 0700), 0);
  if (mount("vmsnap-test", mount_point.c_str(), "tmpfs", 0, "size=32m,huge=always") != 0) {
    return skip("needs the right to mount a tmpfs with huge=always");
  }
  {
    const UniqueFd file = temp_file(mount_point);
    write_at(file.get(), Random(6).bytes(4 * kHuge), 0);
    CHECK_EQ(ftruncate(file.get(), 8 * kHuge), 0);
    const int64_t before = allocated_blocks(file.get());
    int error = 0;
    const auto mapping = SourceMapping::map(file.get(), error);
    CHECK_EQ(error, 0);
    CHECK_EQ(mapping->backing_page_bytes(), kHuge);
    CHECK(same_runs(reach(*mapping, 0, 8 * kHuge), {{0, 4 * kHuge}}));
    CHECK_EQ(allocated_blocks(file.get()), before);
  }
  CHECK_EQ(umount(mount_point.c_str()), 0);
}

}  // namespace vmsnap::test
