// A file without a name in a folder for temporary files, and folders for those that need one.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../../file/unique_fd.h"

namespace vmsnap::test {

inline std::string temp_root() {
  const char* folder = std::getenv("TMPDIR");
  return folder != nullptr && *folder != '\0' ? folder : "/tmp";
}

/// Where to try file operations: file systems differ in what they can do.
inline std::vector<std::string> folders_to_try() {
  std::vector<std::string> folders = {temp_root()};
  if (access("/dev/shm", W_OK) == 0) folders.emplace_back("/dev/shm");
  return folders;
}

class TempFolder {
 public:
  explicit TempFolder(const std::string& parent = temp_root()) : path_(parent + "/vmsnap-test-XXXXXX") {
    if (mkdtemp(path_.data()) == nullptr) std::abort();
  }
  ~TempFolder() { std::filesystem::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;

  std::string path(const char* name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline UniqueFd open_or_abort(const std::string& path, int flags) {
  UniqueFd file(open(path.c_str(), flags | O_CLOEXEC, 0600));
  if (!file.is_open()) std::abort();
  return file;
}

/// Open for reading and writing, already without a name.
inline UniqueFd temp_file(const std::string& folder = temp_root()) {
  std::string path = folder + "/vmsnap-test-XXXXXX";
  UniqueFd file(mkostemp(path.data(), O_CLOEXEC));
  if (!file.is_open()) std::abort();
  unlink(path.c_str());
  return file;
}

inline void write_at(int fd, std::span<const uint8_t> bytes, uint64_t position) {
  if (pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(position)) != static_cast<ssize_t>(bytes.size())) {
    std::abort();
  }
}

inline std::vector<uint8_t> read_at(int fd, size_t size_bytes, uint64_t position) {
  std::vector<uint8_t> bytes(size_bytes);
  const ssize_t got = pread(fd, bytes.data(), size_bytes, static_cast<off_t>(position));
  bytes.resize(got < 0 ? 0 : static_cast<size_t>(got));
  return bytes;
}

inline uint64_t file_bytes(int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 ? static_cast<uint64_t>(status.st_size) : 0;
}

}  // namespace vmsnap::test
