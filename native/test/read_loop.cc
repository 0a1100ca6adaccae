// The bare loop that a save of zero memory is held against: threads that pread a file into 256 KiB each and check the
// pages. Usage: read_loop FILE THREADS; prints the number of pages that repeat one word.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "../scan/kernel.h"

namespace {

constexpr size_t kPageBytes = 4096;
constexpr size_t kBufferBytes = size_t{256} << 10;

/// Returns how many pages repeat their first word, of the pieces that this thread gets.
uint64_t read_pieces(int fd, off_t file_bytes, const vmsnap::Kernel& kernel, std::atomic<off_t>& next) {
  std::vector<uint8_t> buffer(kBufferBytes);
  uint64_t pages = 0;
  for (;;) {
    const off_t offset = next.fetch_add(static_cast<off_t>(kBufferBytes));
    if (offset >= file_bytes) return pages;
    const ssize_t got = pread(fd, buffer.data(), buffer.size(), offset);
    if (got < 0) std::abort();
    for (size_t at = 0; at + kPageBytes <= static_cast<size_t>(got); at += kPageBytes) {
      pages += kernel.repeats_first_word(buffer.data() + at, kPageBytes) ? 1 : 0;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
  struct stat status {};
  if (fd < 0 || fstat(fd, &status) != 0) return 1;
  const vmsnap::Kernel& kernel = *vmsnap::find_kernel("auto");
  std::atomic<off_t> next = 0;
  std::atomic<uint64_t> pages = 0;
  std::vector<std::thread> threads;
  for (int i = 0; i < std::atoi(argv[2]); ++i) {
    threads.emplace_back([&] { pages += read_pieces(fd, status.st_size, kernel, next); });
  }
  for (std::thread& thread : threads) thread.join();
  std::printf("%llu\n", static_cast<unsigned long long>(pages.load()));
}
