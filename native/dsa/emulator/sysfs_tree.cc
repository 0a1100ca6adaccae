// Devices stand below their PCI function, queues, engines and groups inside their device, and the bus folder has a link
// to each, as on a real system. Attributes are those of the kernel's documentation (ABI/stable/sysfs-driver-dma-idxd).
#include "sysfs_tree.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "../../file/unique_fd.h"
#include "validate.h"

namespace vmsnap::dsa {

namespace {

namespace fs = std::filesystem;

/// Keeps the first error, and does nothing after it.
class Builder {
 public:
  explicit Builder(std::string& error) : error_(error) {}

  bool failed() const { return !error_.empty(); }

  void folder(const fs::path& path) {
    if (failed()) return;
    std::error_code code;
    fs::create_directories(path, code);
    if (code) error_ = path.string() + " cannot be created: " + code.message();
  }

  void file(const fs::path& path, const std::string& text) {
    if (failed()) return;
    const UniqueFd file(open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
    const ssize_t written = file.is_open() ? write(file.get(), text.data(), text.size()) : -1;
    if (written == static_cast<ssize_t>(text.size())) return;
    error_ = path.string() + " cannot be written: " + std::strerror(errno);
  }

  void attribute(const fs::path& folder, const char* name, const std::string& value) {
    file(folder / name, value + "\n");
  }
  void attribute(const fs::path& folder, const char* name, uint64_t value) {
    attribute(folder, name, std::to_string(value));
  }

  void link(const fs::path& from, const fs::path& to) {
    if (failed()) return;
    std::error_code code;
    fs::create_directory_symlink(to, from, code);
    if (code) error_ = from.string() + " cannot be created: " + code.message();
  }

 private:
  std::string& error_;
};

template <class... Values>
std::string format(const char* pattern, Values... values) {
  char text[160];
  std::snprintf(text, sizeof text, pattern, values...);
  return text;
}

/// What sysfs tells as supported: without BATCH where write() refuses it.
OperationCapability advertised(const EmulatedDevice& device) {
  OperationCapability operations = device.operations;
  bool any = false;
  for (const uint32_t word : operations) any = any || word != 0;
  if (!any) operations = known_operations();
  for (const EmulatedQueue& queue : device.queues) {
    if (queue.write_refuses_batches) operations[0] &= ~(1U << DSA_OPCODE_BATCH);
  }
  return operations;
}

std::string words_of(const OperationCapability& operations) {
  std::string words;
  for (size_t i = operations.size(); i-- > 0;) words += format(i == 0 ? "%08x" : "%08x,", operations[i]);
  return words;
}

std::string queue_state(const EmulatedDevice& device, const EmulatedQueue& queue) {
  const bool impossible = device.state == "disabled" || (queue.type == "user" && !device.pasid_enabled);
  return impossible ? "disabled" : queue.state;
}

void add_queue(Builder& builder, const fs::path& folder, const EmulatedDevice& device, const EmulatedQueue& queue,
               unsigned minor) {
  builder.folder(folder);
  const bool shared = queue.mode == QueueMode::shared;
  builder.attribute(folder, "mode", shared ? "shared" : "dedicated");
  builder.attribute(folder, "state", queue_state(device, queue));
  builder.attribute(folder, "type", queue.type);
  builder.attribute(folder, "name", "emulated");
  builder.attribute(folder, "driver_name", queue.type == "user" ? "user" : "dmaengine");
  builder.attribute(folder, "group_id", uint64_t{0});
  builder.attribute(folder, "size", queue.size);
  builder.attribute(folder, "priority", uint64_t{10});
  builder.attribute(folder, "block_on_fault", queue.block_on_fault ? 1 : 0);
  builder.attribute(folder, "threshold", !shared ? 0 : queue.threshold != 0 ? queue.threshold : queue.size);
  builder.attribute(folder, "max_transfer_size", queue.max_transfer_bytes);
  builder.attribute(folder, "max_batch_size", queue.max_batch);
  builder.attribute(folder, "ats_disable", uint64_t{0});
  builder.attribute(folder, "prs_disable", queue.page_requests ? 0 : 1);
  builder.attribute(folder, "enqcmds_retries", uint64_t{32});
  builder.attribute(folder, "op_config", words_of(advertised(device)));
  builder.attribute(folder, "clients", uint64_t{0});
  builder.attribute(folder, "occupancy", uint64_t{0});
  if (has_node(device, queue)) builder.attribute(folder, "cdev_minor", minor);
}

void add_device_attributes(Builder& builder, const fs::path& folder, const EmulatedDevice& device) {
  uint64_t entries = 0;
  bool lacks_pasid = false;
  for (const EmulatedQueue& queue : device.queues) {
    entries += queue.size;
    lacks_pasid = lacks_pasid || (queue.type == "user" && !device.pasid_enabled);
  }
  builder.attribute(folder, "version", format("%#x", device.version));
  builder.attribute(folder, "state", device.state);
  builder.attribute(folder, "numa_node", std::to_string(device.numa_node));
  builder.attribute(folder, "pasid_enabled", device.pasid_enabled ? 1 : 0);
  builder.attribute(folder, "configurable", uint64_t{1});
  builder.attribute(folder, "max_groups", uint64_t{4});
  builder.attribute(folder, "max_work_queues", std::max<uint64_t>(8, device.queues.size()));
  builder.attribute(folder, "max_work_queues_size", std::max<uint64_t>(128, entries));
  builder.attribute(folder, "max_engines", std::max<uint64_t>(4, device.engines));
  builder.attribute(folder, "max_batch_size", device.max_batch);
  builder.attribute(folder, "max_transfer_size", device.max_transfer_bytes);
  builder.attribute(folder, "max_read_buffers", uint64_t{96});
  builder.attribute(folder, "read_buffer_limit", uint64_t{0});
  builder.attribute(folder, "event_log_size", uint64_t{0});
  builder.attribute(folder, "gen_cap", format("%#llx", static_cast<unsigned long long>(device.general_capability)));
  builder.attribute(folder, "op_cap", words_of(advertised(device)));
  builder.attribute(folder, "errors", "0x0000000000000000 0x0000000000000000 0x0000000000000000 0x0000000000000000");
  builder.attribute(folder, "cmd_status", lacks_pasid ? format("%#x", unsigned{IDXD_SCMD_WQ_USER_NO_IOMMU}) : "0");
  builder.attribute(folder, "clients", uint64_t{0});
  builder.attribute(folder, "cdev_major", uint64_t{234});
}

void add_device(Builder& builder, const fs::path& root, const EmulatedDevice& device) {
  const std::string function = format("0000:%02x:01.0", 0x6a + device.number);
  const std::string number = std::to_string(device.number);
  const std::string name = "dsa" + number;
  const fs::path pci = root / "sys/devices/pci0000:00" / function;
  const fs::path folder = pci / name;
  const fs::path bus = root / "sys/bus/dsa/devices";
  const auto add_link = [&](const fs::path& path) {
    builder.link(bus / path.filename(), fs::path("../../..") / path.lexically_relative(root / "sys"));
  };

  builder.folder(folder);
  builder.attribute(pci, "vendor", "0x8086");
  builder.attribute(pci, "device", "0x0b25");
  builder.attribute(pci, "numa_node", std::to_string(device.numa_node));
  add_device_attributes(builder, folder, device);
  add_link(folder);

  std::string engines;
  for (unsigned i = 0; i < device.engines; ++i) {
    const std::string engine = "engine" + number + "." + std::to_string(i);
    builder.folder(folder / engine);
    builder.attribute(folder / engine, "group_id", uint64_t{0});
    add_link(folder / engine);
    engines += (i == 0 ? "" : " ") + engine;
  }
  std::string queues;
  for (unsigned i = 0; i < device.queues.size(); ++i) {
    const std::string queue = "wq" + number + "." + std::to_string(i);
    add_queue(builder, folder / queue, device, device.queues[i], i);
    add_link(folder / queue);
    queues += (i == 0 ? "" : " ") + queue;
    if (has_node(device, device.queues[i])) builder.file(root / "dev/dsa" / queue, "");
  }
  for (unsigned i = 0; i < 4; ++i) {
    const fs::path group = folder / ("group" + number + "." + std::to_string(i));
    builder.folder(group);
    builder.attribute(group, "engines", i == 0 ? engines : "");
    builder.attribute(group, "work_queues", i == 0 ? queues : "");
    add_link(group);
  }
}

/// TMPDIR, else where files are memory, as in sysfs: on a disk the tree takes ten times as long.
std::string temporary_folder() {
  const char* folder = std::getenv("TMPDIR");
  if (folder != nullptr && *folder != '\0') return folder;
  return access("/dev/shm", W_OK | X_OK) == 0 ? "/dev/shm" : "/tmp";
}

}  // namespace

bool has_node(const EmulatedDevice& device, const EmulatedQueue& queue) {
  return queue.type == "user" && queue_state(device, queue) == "enabled";
}

SysfsTree::~SysfsTree() { remove(); }

void SysfsTree::remove() const {
  if (root_.empty()) return;
  std::error_code ignored;
  fs::remove_all(root_, ignored);
}

bool SysfsTree::create(const EmulatorConfig& config, std::string& error) {
  std::string path = temporary_folder() + "/vmsnap-dsa-XXXXXX";
  if (mkdtemp(path.data()) == nullptr) {
    error = path + " cannot be created: " + std::strerror(errno);
    return false;
  }
  root_ = path;
  error.clear();
  Builder builder(error);
  builder.folder(sysfs_root());
  builder.folder(device_root());
  for (const EmulatedDevice& device : config.devices) add_device(builder, root_, device);
  return !builder.failed();
}

}  // namespace vmsnap::dsa
