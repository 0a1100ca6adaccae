// Reads /sys/bus/dsa/devices, or a folder laid out like it.
//
// What stands there is the kernel's word, but nothing here depends on it being well formed: names are matched exactly,
// attributes are regular files of at most a page, numbers are taken whole or not at all, and the number of entries,
// devices, queues and engines is limited.
#include "discovery.h"

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <memory>
#include <optional>
#include <set>
#include <string_view>

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../file/unique_fd.h"

namespace vmsnap::dsa {

namespace {

constexpr size_t kMaxEntries = 65536;  // of one folder
constexpr size_t kMaxDevices = 256;
constexpr size_t kMaxQueues = 256;  // of one device
constexpr size_t kMaxEngines = 256;
constexpr unsigned kMaxNumber = 65535;
/// sysfs gives at most a page.
constexpr size_t kMaxAttributeBytes = 4096;
constexpr size_t kMaxWordBytes = 256;

// ---- names ----

/// A number as the kernel writes it into a name: no sign, no leading zero. Takes it off the front of `text`.
std::optional<unsigned> take_number(std::string_view& text) {
  unsigned value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || value > kMaxNumber) return std::nullopt;
  const auto length = static_cast<size_t>(end - text.data());
  if (length > 1 && text.front() == '0') return std::nullopt;
  text.remove_prefix(length);
  return value;
}

/// "dsa12" is 12 with the prefix "dsa".
std::optional<unsigned> device_number(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  const std::optional<unsigned> number = take_number(name);
  return name.empty() ? number : std::nullopt;
}

/// "wq0.3" is 3 with the prefix "wq" and device 0.
std::optional<unsigned> child_number(std::string_view name, std::string_view prefix, unsigned device) {
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  if (take_number(name) != device || !name.starts_with('.')) return std::nullopt;
  name.remove_prefix(1);
  const std::optional<unsigned> number = take_number(name);
  return name.empty() ? number : std::nullopt;
}

// ---- folders ----

UniqueFd open_folder(int parent, const char* name) {
  return UniqueFd(openat(parent, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

struct CloseFolder {
  void operator()(DIR* folder) const { closedir(folder); }
};

std::vector<std::string> entries_of(int fd) {
  std::vector<std::string> names;
  const int own = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (own < 0) return names;
  const std::unique_ptr<DIR, CloseFolder> folder(fdopendir(own));
  if (folder == nullptr) {
    close(own);
    return names;
  }
  while (names.size() < kMaxEntries) {
    const dirent* entry = readdir(folder.get());
    if (entry == nullptr) break;
    names.emplace_back(entry->d_name);
  }
  return names;
}

// ---- attributes ----

/// The first line without surrounding blanks; nothing where there is no such regular file, or none that is read whole.
std::optional<std::string> read_attribute(int folder, const char* name) {
  // Not blocking: something else than a file may bear the name.
  const UniqueFd file(openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY));
  struct stat status;
  if (!file.is_open() || fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) return std::nullopt;
  std::string text(kMaxAttributeBytes + 1, '\0');
  size_t size = 0;
  while (size < text.size()) {
    const ssize_t got = read(file.get(), text.data() + size, text.size() - size);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return std::nullopt;
    if (got == 0) break;
    size += static_cast<size_t>(got);
  }
  if (size > kMaxAttributeBytes) return std::nullopt;
  text.resize(size);
  text.resize(std::min(text.size(), text.find_first_of(std::string_view("\n\0", 2))));
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string::npos) return std::string();
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

std::string read_word(int folder, const char* name) {
  std::string text = read_attribute(folder, name).value_or("");
  text.resize(std::min(text.size(), kMaxWordBytes));
  return text;
}

/// Decimal, or hexadecimal with 0x; all of the text.
template <class Number>
std::optional<Number> parse_number(std::string_view text) {
  int base = 10;
  if (text.starts_with("0x") || text.starts_with("0X")) {
    base = 16;
    text.remove_prefix(2);
    if (text.starts_with('-')) return std::nullopt;
  }
  Number value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
  if (error != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

template <class Number>
std::optional<Number> read_number(int folder, const char* name) {
  const std::optional<std::string> text = read_attribute(folder, name);
  return text.has_value() ? parse_number<Number>(*text) : std::nullopt;
}

uint32_t read_count(int folder, const char* name) { return read_number<uint32_t>(folder, name).value_or(0); }

/// 1 or 0; `unknown` where it is neither.
int read_switch(int folder, const char* name, int unknown) {
  const std::optional<int> value = read_number<int>(folder, name);
  return value == 0 || value == 1 ? *value : unknown;
}

// ---- operation capability ----

/// Words of 32 bits, the highest first, with commas: kernels since 6.0.
std::optional<OperationCapability> parse_comma_words(std::string_view text) {
  std::vector<uint32_t> words;
  while (words.size() <= std::tuple_size_v<OperationCapability>) {
    const size_t comma = text.find(',');
    const std::string_view word = text.substr(0, comma);
    uint32_t value = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value, 16);
    if (error != std::errc{} || end != word.data() + word.size()) return std::nullopt;
    words.push_back(value);
    if (comma == std::string_view::npos) break;
    text.remove_prefix(comma + 1);
  }
  OperationCapability capability{};
  if (words.size() > capability.size()) return std::nullopt;
  for (size_t i = 0; i < words.size(); ++i) capability[i] = words[words.size() - 1 - i];
  return capability;
}

/// Words of 64 bits, the lowest first, with blanks ("0x1003f03ff 0 0 0"): kernels before.
std::optional<OperationCapability> parse_blank_words(std::string_view text) {
  OperationCapability capability{};
  for (size_t i = 0; !text.empty(); i += 2) {
    const size_t blank = text.find(' ');
    const std::optional<uint64_t> value = parse_number<uint64_t>(text.substr(0, blank));
    if (!value.has_value() || i >= capability.size()) return std::nullopt;
    capability[i] = static_cast<uint32_t>(*value);
    capability[i + 1] = static_cast<uint32_t>(*value >> 32);
    text.remove_prefix(blank == std::string_view::npos ? text.size() : blank + 1);
  }
  return capability;
}

std::optional<OperationCapability> read_operations(int folder, const char* name) {
  const std::optional<std::string> text = read_attribute(folder, name);
  if (!text.has_value() || text->empty()) return std::nullopt;
  return text->find(',') != std::string::npos ? parse_comma_words(*text) : parse_blank_words(*text);
}

// ---- devices and queues ----

QueueMode mode_of(std::string_view word) {
  if (word == "shared") return QueueMode::shared;
  if (word == "dedicated") return QueueMode::dedicated;
  return QueueMode::unknown;
}

QueueInfo read_queue(int folder, const DeviceInfo& device, unsigned number, const std::string& device_root) {
  QueueInfo queue;
  queue.device = device.number;
  queue.number = number;
  queue.name = "wq" + std::to_string(device.number) + "." + std::to_string(number);
  queue.node = device_root + "/" + queue.name;
  queue.mode = mode_of(read_word(folder, "mode"));
  queue.state = read_word(folder, "state");
  queue.type = read_word(folder, "type");
  queue.label = read_word(folder, "name");
  queue.driver_name = read_word(folder, "driver_name");
  queue.group = std::max(-1, read_number<int>(folder, "group_id").value_or(-1));
  queue.size = read_count(folder, "size");
  queue.threshold = read_count(folder, "threshold");
  queue.priority = read_count(folder, "priority");
  queue.block_on_fault = read_switch(folder, "block_on_fault", 0) == 1;
  queue.ats_disabled = read_switch(folder, "ats_disable", 0) == 1;
  queue.prs_disabled = read_switch(folder, "prs_disable", 0) == 1;
  queue.max_transfer_bytes = read_number<uint64_t>(folder, "max_transfer_size").value_or(device.max_transfer_bytes);
  queue.max_batch = read_number<uint32_t>(folder, "max_batch_size").value_or(device.max_batch);
  queue.operations = read_operations(folder, "op_config").value_or(device.operations);
  queue.numa_node = device.numa_node;
  return queue;
}

DeviceInfo read_attributes(int folder, unsigned number) {
  DeviceInfo device;
  device.number = number;
  device.name = "dsa" + std::to_string(number);
  device.state = read_word(folder, "state");
  device.version = read_count(folder, "version");
  device.numa_node = std::max(-1, read_number<int>(folder, "numa_node").value_or(-1));
  device.pasid_enabled = read_switch(folder, "pasid_enabled", -1);
  device.configurable = read_switch(folder, "configurable", -1);
  device.max_groups = read_count(folder, "max_groups");
  device.max_queues = read_count(folder, "max_work_queues");
  device.max_queue_entries = read_count(folder, "max_work_queues_size");
  device.max_engines = read_count(folder, "max_engines");
  device.max_batch = read_count(folder, "max_batch_size");
  device.max_transfer_bytes = read_number<uint64_t>(folder, "max_transfer_size").value_or(0);
  device.general_capability = read_number<uint64_t>(folder, "gen_cap").value_or(0);
  device.operations = read_operations(folder, "op_cap").value_or(OperationCapability{});
  device.command_status = read_number<uint64_t>(folder, "cmd_status").value_or(0);
  device.clients = read_count(folder, "clients");
  device.errors = read_word(folder, "errors");
  return device;
}

/// Numbers of the device's children of one kind. They stand inside its folder, or beside it.
std::set<unsigned> children_of(unsigned device, std::string_view prefix, const std::vector<std::string>& inside,
                               const std::vector<std::string>& beside) {
  std::set<unsigned> numbers;
  for (const std::vector<std::string>* names : {&inside, &beside}) {
    for (const std::string& name : *names) {
      const std::optional<unsigned> number = child_number(name, prefix, device);
      if (number.has_value()) numbers.insert(*number);
    }
  }
  return numbers;
}

UniqueFd open_child(int root, int device_folder, const std::string& name) {
  UniqueFd inside = open_folder(device_folder, name.c_str());
  return inside.is_open() ? std::move(inside) : open_folder(root, name.c_str());
}

DeviceInfo read_device(int root, int folder, unsigned number, const std::vector<std::string>& beside,
                       const std::string& device_root) {
  DeviceInfo device = read_attributes(folder, number);
  const std::vector<std::string> inside = entries_of(folder);
  for (const unsigned queue : children_of(number, "wq", inside, beside)) {
    const std::string name = "wq" + std::to_string(number) + "." + std::to_string(queue);
    const UniqueFd child = open_child(root, folder, name);
    if (child.is_open()) device.queues.push_back(read_queue(child.get(), device, queue, device_root));
    if (device.queues.size() == kMaxQueues) break;
  }
  for (const unsigned engine : children_of(number, "engine", inside, beside)) {
    const std::string name = "engine" + std::to_string(number) + "." + std::to_string(engine);
    const UniqueFd child = open_child(root, folder, name);
    if (!child.is_open() || engine >= kMaxEngines) continue;
    device.engine_groups.resize(engine + size_t{1}, -1);
    device.engine_groups[engine] = std::max(-1, read_number<int>(child.get(), "group_id").value_or(-1));
  }
  return device;
}

}  // namespace

Discovery discover(const std::string& sysfs_root, const std::string& device_root) {
  Discovery discovery;
  const UniqueFd root = open_folder(AT_FDCWD, sysfs_root.c_str());
  if (!root.is_open()) {
    discovery.error = errno;
    return discovery;
  }
  const std::vector<std::string> names = entries_of(root.get());
  std::set<unsigned> numbers;
  for (const std::string& name : names) {
    const std::optional<unsigned> number = device_number(name, "dsa");
    if (number.has_value()) numbers.insert(*number);
  }
  for (const unsigned number : numbers) {
    const UniqueFd folder = open_folder(root.get(), ("dsa" + std::to_string(number)).c_str());
    if (folder.is_open()) {
      discovery.devices.push_back(read_device(root.get(), folder.get(), number, names, device_root));
    }
    if (discovery.devices.size() == kMaxDevices) break;
  }
  return discovery;
}

}  // namespace vmsnap::dsa
