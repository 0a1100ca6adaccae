// The present bit of /proc/self/pagemap says whether a page is in the page tables (nobody needs a right to see it), and
// process_vm_readv and process_vm_writev move bytes with EFAULT where a load or store would be a signal.
#include "device_memory.h"

#include <sys/syscall.h>
#include <sys/uio.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace vmsnap::dsa {

namespace {

constexpr uint64_t kPresentBit = uint64_t{1} << 63;
constexpr uint64_t kUserSpaceEnd = uint64_t{1} << 56;

// The system calls themselves: nothing of a sanitizer's comes between, so memory that a test took away stays a matter
// of EFAULT.
size_t move(long call, uint64_t address, void* local, size_t size_bytes) {
  size_t done = 0;
  while (done < size_bytes) {
    const iovec here = {static_cast<uint8_t*>(local) + done, size_bytes - done};
    const iovec there = {reinterpret_cast<void*>(address + done), size_bytes - done};
    const long moved = syscall(call, getpid(), &here, 1UL, &there, 1UL, 0UL);
    if (moved <= 0) break;
    done += static_cast<size_t>(moved);
  }
  return done;
}

}  // namespace

bool DeviceMemory::open(std::string& error) {
  pagemap_ = UniqueFd(::open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC));
  if (!pagemap_.is_open()) {
    error = std::string("/proc/self/pagemap cannot be read: ") + std::strerror(errno);
    return false;
  }
  volatile uint64_t written = 0x5a5a5a5a5a5a5a5aU;
  const uint64_t address = reinterpret_cast<uint64_t>(&written);
  uint64_t seen = 0;
  if (move(SYS_process_vm_readv, address, &seen, sizeof seen) != sizeof seen || seen != written) {
    error = std::string("process_vm_readv does not work here: ") + std::strerror(errno);
    return false;
  }
  if (present_bytes(address, sizeof seen) != sizeof seen) {
    error = "/proc/self/pagemap does not tell which pages are present here";
    return false;
  }
  return true;
}

size_t DeviceMemory::present_bytes(uint64_t address, size_t size_bytes) const {
  uint64_t entries[64];
  const uint64_t end = address + size_bytes;
  uint64_t page = address / kDevicePageBytes;
  const uint64_t pages_end = (end + kDevicePageBytes - 1) / kDevicePageBytes;
  while (page < pages_end) {
    const size_t wanted = std::min<size_t>(std::size(entries), pages_end - page);
    const ssize_t got = pread(pagemap_.get(), entries, wanted * 8, static_cast<off_t>(page * 8));
    const size_t count = got > 0 ? static_cast<size_t>(got) / 8 : 0;
    for (size_t i = 0; i < count; ++i) {
      if ((entries[i] & kPresentBit) != 0) continue;
      return std::max(address, (page + i) * kDevicePageBytes) - address;
    }
    page += count;
    if (count < wanted) return std::max(address, page * kDevicePageBytes) - address;
  }
  return size_bytes;
}

size_t DeviceMemory::read(uint64_t address, void* into, size_t size_bytes, bool make_present) const {
  if (address >= kUserSpaceEnd || size_bytes > kUserSpaceEnd - address) return 0;
  const size_t reachable = make_present ? size_bytes : present_bytes(address, size_bytes);
  return move(SYS_process_vm_readv, address, into, reachable);
}

size_t DeviceMemory::write(uint64_t address, const void* from, size_t size_bytes, bool make_present) const {
  if (address >= kUserSpaceEnd || size_bytes > kUserSpaceEnd - address) return 0;
  const size_t reachable = make_present ? size_bytes : present_bytes(address, size_bytes);
  return move(SYS_process_vm_writev, address, const_cast<void*>(from), reachable);
}

}  // namespace vmsnap::dsa
