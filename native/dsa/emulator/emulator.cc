// The system calls of emulated queues: what the kernel's DSA driver answers, by path and by number of an open file.
#include "emulator.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <mutex>
#include <vector>

#include "device.h"
#include "device_memory.h"
#include "sysfs_tree.h"

namespace vmsnap::dsa {

namespace {

/// What the emulator has; kept by the child of a fork for ever, as its threads and locks mean nothing there.
struct Parts {
  DeviceMemory memory;
  SysfsTree tree;
  std::string sysfs_root;
  std::string device_root;
  std::vector<std::unique_ptr<Device>> devices;
};

struct OpenFile {
  Device* device = nullptr;
  Queue* queue = nullptr;
  // A number that no other file can get while this one is open.
  UniqueFd reserved;
};

class EmulatorOfQueues final : public Emulator {
 public:
  ~EmulatorOfQueues() override;
  bool start(const EmulatorConfig& config, std::string& error);

  const std::string& sysfs_root() const override { return parts_->sysfs_root; }
  void remove_sysfs() override { parts_->tree.remove(); }
  const std::string& device_root() const override { return parts_->device_root; }
  void add_fault(const Fault& fault) override;
  uint64_t executed() const override;
  uint64_t engine_cpu_nanoseconds() const override;
  SoftwareError software_error(unsigned device) const override;
  void clear_software_error(unsigned device) override;

  int open(const char* path) override;
  int map_portal(int fd, void*& portal) override;
  int unmap_portal(void* portal) override;
  ssize_t write(int fd, const void* bytes, size_t size_bytes) override;
  int poll_error(int fd, int timeout_milliseconds) override;
  int close(int fd) override;

 private:
  struct Target {
    Device* device = nullptr;
    Queue* queue = nullptr;
  };
  bool is_child() const { return getpid() != owner_; }
  Device* find_device(unsigned number) const;
  Target find_queue(const char* path) const;
  /// 0 and the queue of an open file, or -errno.
  int target_of(int fd, Target& target) const;

  const pid_t owner_ = getpid();
  std::unique_ptr<Parts> parts_ = std::make_unique<Parts>();
  mutable std::mutex mutex_;
  std::map<int, OpenFile> files_;
  std::vector<void*> portals_;
};

EmulatorOfQueues::~EmulatorOfQueues() {
  if (is_child()) {
    parts_->tree.abandon();
    static_cast<void>(parts_.release());
    return;
  }
  for (void* portal : portals_) unmap_portal_page(portal);
}

bool EmulatorOfQueues::start(const EmulatorConfig& config, std::string& error) {
  if (!parts_->memory.open(error) || !parts_->tree.create(config, error)) return false;
  parts_->sysfs_root = parts_->tree.sysfs_root();
  parts_->device_root = parts_->tree.device_root();
  const RandomFaults random = {config.random_seed, config.random_permille, config.random_kinds};
  for (const EmulatedDevice& device : config.devices) {
    parts_->devices.push_back(std::make_unique<Device>(device, random, parts_->memory));
  }
  for (const Fault& fault : config.faults) add_fault(fault);
  return true;
}

Device* EmulatorOfQueues::find_device(unsigned number) const {
  for (const auto& device : parts_->devices) {
    if (device->setup().number == number) return device.get();
  }
  return nullptr;
}

EmulatorOfQueues::Target EmulatorOfQueues::find_queue(const char* path) const {
  for (const auto& device : parts_->devices) {
    for (size_t i = 0; i < device->queue_count(); ++i) {
      const std::string name = "/wq" + std::to_string(device->setup().number) + "." + std::to_string(i);
      if (path == parts_->device_root + name) return {device.get(), &device->queue(i)};
    }
  }
  return {};
}

int EmulatorOfQueues::target_of(int fd, Target& target) const {
  if (is_child()) return -EPERM;
  const std::lock_guard lock(mutex_);
  const auto found = files_.find(fd);
  if (found == files_.end()) return -EBADF;
  target = {found->second.device, found->second.queue};
  return target.device->signals().condition.state() == DeviceCondition::State::lost ? -ENXIO : 0;
}

void EmulatorOfQueues::add_fault(const Fault& fault) {
  if (Device* device = find_device(fault.device)) device->add_fault(fault);
}

uint64_t EmulatorOfQueues::executed() const {
  uint64_t sum = 0;
  for (const auto& device : parts_->devices) sum += device->executed();
  return sum;
}

uint64_t EmulatorOfQueues::engine_cpu_nanoseconds() const {
  uint64_t sum = 0;
  for (const auto& device : parts_->devices) sum += device->engine_cpu_nanoseconds();
  return sum;
}

SoftwareError EmulatorOfQueues::software_error(unsigned number) const {
  const Device* device = find_device(number);
  return device == nullptr ? SoftwareError{} : device->signals().software_error();
}

void EmulatorOfQueues::clear_software_error(unsigned number) {
  if (Device* device = find_device(number)) device->signals().clear_error();
}

int EmulatorOfQueues::open(const char* path) {
  if (is_child()) return -EPERM;
  const auto [device, queue] = find_queue(path);
  if (queue == nullptr) return -ENOENT;
  if (device->signals().condition.state() == DeviceCondition::State::lost) return -ENXIO;
  if (!has_node(device->setup(), queue->setup())) return -ENOENT;
  if (queue->setup().open_error != 0) return -queue->setup().open_error;

  const std::lock_guard lock(mutex_);
  for (const auto& [fd, file] : files_) {
    if (file.queue == queue && queue->setup().mode == QueueMode::dedicated) return -EBUSY;
  }
  UniqueFd reserved(::open("/dev/null", O_RDWR | O_CLOEXEC));
  if (!reserved.is_open()) return -errno;
  const int fd = reserved.get();
  files_.emplace(fd, OpenFile{device, queue, std::move(reserved)});
  return fd;
}

int EmulatorOfQueues::map_portal(int fd, void*& portal) {
  Target target;
  if (const int error = target_of(fd, target); error != 0) return error;
  if (target.queue->setup().map_error != 0) return -target.queue->setup().map_error;
  if (const int error = map_portal_page(*target.queue, portal); error != 0) return error;
  const std::lock_guard lock(mutex_);
  portals_.push_back(portal);
  return 0;
}

int EmulatorOfQueues::unmap_portal(void* portal) {
  // The mapping was not inherited.
  if (is_child()) return -EPERM;
  const std::lock_guard lock(mutex_);
  if (std::erase(portals_, portal) == 0) return -EINVAL;
  return unmap_portal_page(portal);
}

ssize_t EmulatorOfQueues::write(int fd, const void* bytes, size_t size_bytes) {
  Target target;
  // Counted even if the device is lost, so that a plan can bring it back.
  const int error = target_of(fd, target);
  if (target.queue == nullptr) return error;
  const std::optional<PlannedFault> fault = target.queue->begin_write();
  if (target_of(fd, target) == -ENXIO) return -ENXIO;
  size_t count = size_bytes / kDescriptorBytes;
  if (fault && fault->kind == FaultKind::write_error) return -static_cast<ssize_t>(fault->value);
  if (fault && fault->kind == FaultKind::queue_full) {
    return target.queue->refuse_write() ? -EAGAIN : static_cast<ssize_t>(count * kDescriptorBytes);
  }
  if (fault && fault->kind == FaultKind::short_write) count = std::min<uint64_t>(count, fault->value);

  ssize_t written = 0;
  for (size_t i = 0; i < count; ++i) {
    dsa_hw_desc descriptor;
    const uint64_t address = reinterpret_cast<uint64_t>(bytes) + i * kDescriptorBytes;
    const int refused = parts_->memory.read(address, &descriptor, sizeof descriptor, true) != sizeof descriptor
                            ? EFAULT
                            : target.queue->write(descriptor);
    if (refused != 0) return written > 0 ? written : -refused;
    written += static_cast<ssize_t>(kDescriptorBytes);
  }
  return written;
}

int EmulatorOfQueues::poll_error(int fd, int timeout_milliseconds) {
  Target target;
  if (const int error = target_of(fd, target); error != 0) return error;
  DeviceSignals& signals = target.device->signals();
  const uint64_t start = now_nanoseconds();
  const uint64_t deadline =
      timeout_milliseconds < 0 ? kNever : start + static_cast<uint64_t>(timeout_milliseconds) * 1'000'000;
  for (;;) {
    const uint32_t rings = signals.error_bell.rings();
    if (signals.software_error().valid) return 1;
    if (signals.condition.state() == DeviceCondition::State::lost) return -ENXIO;
    if (now_nanoseconds() >= deadline) return 0;
    signals.error_bell.wait(rings, deadline);
  }
}

int EmulatorOfQueues::close(int fd) {
  Target target;
  if (is_child()) return -EPERM;
  if (target_of(fd, target) == -EBADF) return -EBADF;
  target.device->drain(*target.queue);
  const std::lock_guard lock(mutex_);
  return files_.erase(fd) == 1 ? 0 : -EBADF;
}

}  // namespace

std::unique_ptr<Emulator> Emulator::create(const EmulatorConfig& config, std::string& error) {
  auto emulator = std::make_unique<EmulatorOfQueues>();
  if (!emulator->start(config, error)) return nullptr;
  return emulator;
}

}  // namespace vmsnap::dsa
