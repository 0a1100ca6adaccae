// A file system in this process whose files are the queues of an emulator: system calls on them go through the kernel.
//
// It speaks the FUSE protocol itself (linux/fuse.h), with direct I/O, so that a write() arrives as it was made. All of
// it happens in a mount name space of the thread that makes it: nobody else sees the mount, and it ends with the
// process, however that ends.
#pragma once

#include <cerrno>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

#include <fcntl.h>
#include <linux/fuse.h>
#include <poll.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../dsa/emulator/emulator.h"
#include "../../file/unique_fd.h"
#include "temp_file.h"

namespace vmsnap::test {

class QueueFileSystem {
 public:
  /// `names` are those of the emulator's queues ("wq0.0").
  QueueFileSystem(dsa::Emulator& emulator, std::vector<std::string> names)
      : emulator_(emulator), names_(std::move(names)), folder_("/tmp") {}

  ~QueueFileSystem() {
    // By force: whatever is still open there, the server's next read fails.
    if (mounted_) umount2(path().c_str(), MNT_FORCE | MNT_DETACH);
    if (server_.joinable()) server_.join();
  }
  QueueFileSystem(const QueueFileSystem&) = delete;
  QueueFileSystem& operator=(const QueueFileSystem&) = delete;

  /// "", or why this system does not allow it. To be called by a thread of its own, which then does all the rest.
  std::string mount_here() {
    if (unshare(CLONE_NEWNS) != 0) return words("a mount name space of our own");
    if (mount("", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) return words("private mounts");
    device_ = UniqueFd(open("/dev/fuse", O_RDWR | O_CLOEXEC));
    if (!device_.is_open()) return words("/dev/fuse");
    if (mkdir(path().c_str(), 0700) != 0) return words("a folder");
    const std::string options = "fd=" + std::to_string(device_.get()) + ",rootmode=40000,user_id=0,group_id=0";
    if (mount("vmsnap-test", path().c_str(), "fuse", MS_NOSUID | MS_NODEV, options.c_str()) != 0) {
      return words("mounting a FUSE file system");
    }
    mounted_ = true;
    server_ = std::thread([this] { serve(); });
    return "";
  }

  std::string path() const { return folder_.path("queues"); }

 private:
  static constexpr size_t kBufferBytes = 1 << 20;
  static constexpr uint64_t kRootNode = FUSE_ROOT_ID;

  static std::string words(const char* what) { return std::string("needs ") + what + ": " + std::strerror(errno); }

  void serve() {
    std::vector<uint8_t> buffer(kBufferBytes);
    for (;;) {
      const ssize_t got = read(device_.get(), buffer.data(), buffer.size());
      if (got < 0 && (errno == EINTR || errno == EAGAIN || errno == ENOENT)) continue;
      if (got < static_cast<ssize_t>(sizeof(fuse_in_header))) return;  // unmounted
      fuse_in_header header;
      std::memcpy(&header, buffer.data(), sizeof header);
      answer(header, buffer.data() + sizeof header);
    }
  }

  template <class Argument>
  static Argument argument_of(const uint8_t* bytes) {
    Argument argument;
    std::memcpy(&argument, bytes, sizeof argument);
    return argument;
  }

  void answer(const fuse_in_header& header, const uint8_t* argument) {
    switch (header.opcode) {
      case FUSE_INIT:
        return answer_init(header);
      case FUSE_LOOKUP:
        return look_up(header, reinterpret_cast<const char*>(argument));
      case FUSE_GETATTR:
        return give_attributes(header);
      case FUSE_OPEN:
        return open_queue(header);
      case FUSE_WRITE:
        return write_to_queue(header, argument);
      case FUSE_POLL:
        return poll_queue(header, argument_of<fuse_poll_in>(argument));
      case FUSE_FLUSH:
        // close() waits for this one, so here the queue is drained.
        emulator_.close(static_cast<int>(argument_of<fuse_flush_in>(argument).fh));
        return reply(header, 0, nullptr, 0);
      case FUSE_RELEASE:
        return reply(header, 0, nullptr, 0);
      case FUSE_FORGET:
      case FUSE_BATCH_FORGET:
      case FUSE_INTERRUPT:
        return;  // not answered
      default:
        return reply(header, -ENOSYS, nullptr, 0);
    }
  }

  void reply(const fuse_in_header& header, int error, const void* bytes, size_t size_bytes) {
    std::vector<uint8_t> message(sizeof(fuse_out_header) + size_bytes);
    const fuse_out_header out = {static_cast<uint32_t>(message.size()), error, header.unique};
    std::memcpy(message.data(), &out, sizeof out);
    if (size_bytes > 0) std::memcpy(message.data() + sizeof out, bytes, size_bytes);
    // Fails where the request was given up meanwhile.
    static_cast<void>(!write(device_.get(), message.data(), message.size()));
  }

  template <class Answer>
  void reply_with(const fuse_in_header& header, const Answer& answer) {
    reply(header, 0, &answer, sizeof answer);
  }

  void answer_init(const fuse_in_header& header) {
    fuse_init_out out{};
    out.major = FUSE_KERNEL_VERSION;
    out.minor = 31;
    out.max_write = 65536;
    out.max_background = 16;
    reply_with(header, out);
  }

  /// Node numbers: the root's, then one for each name.
  fuse_attr attributes_of(uint64_t node) const {
    fuse_attr attributes{};
    attributes.ino = node;
    attributes.mode = node == kRootNode ? S_IFDIR | 0700 : S_IFREG | 0600;
    attributes.nlink = 1;
    attributes.blksize = 4096;
    return attributes;
  }

  void look_up(const fuse_in_header& header, const char* name) {
    for (size_t i = 0; i < names_.size(); ++i) {
      if (names_[i] != name) continue;
      fuse_entry_out out{};
      out.nodeid = kRootNode + 1 + i;
      out.attr = attributes_of(out.nodeid);
      return reply_with(header, out);
    }
    reply(header, -ENOENT, nullptr, 0);
  }

  void give_attributes(const fuse_in_header& header) {
    fuse_attr_out out{};
    out.attr = attributes_of(header.nodeid);
    reply_with(header, out);
  }

  void open_queue(const fuse_in_header& header) {
    const std::string& name = names_.at(header.nodeid - kRootNode - 1);
    const int fd = emulator_.open((emulator_.device_root() + "/" + name).c_str());
    if (fd < 0) return reply(header, fd, nullptr, 0);
    fuse_open_out out{};
    out.fh = static_cast<uint64_t>(fd);
    out.open_flags = FOPEN_DIRECT_IO;
    reply_with(header, out);
  }

  void write_to_queue(const fuse_in_header& header, const uint8_t* argument) {
    const auto in = argument_of<fuse_write_in>(argument);
    const ssize_t taken = emulator_.write(static_cast<int>(in.fh), argument + sizeof in, in.size);
    if (taken < 0) return reply(header, static_cast<int>(taken), nullptr, 0);
    fuse_write_out out{};
    out.size = static_cast<uint32_t>(taken);
    reply_with(header, out);
  }

  void poll_queue(const fuse_in_header& header, const fuse_poll_in& in) {
    fuse_poll_out out{};
    out.revents = emulator_.poll_error(static_cast<int>(in.fh), 0) == 1 ? POLLIN : 0;
    reply_with(header, out);
  }

  dsa::Emulator& emulator_;
  const std::vector<std::string> names_;
  const TempFolder folder_;
  UniqueFd device_;
  bool mounted_ = false;
  std::thread server_;
};

}  // namespace vmsnap::test
