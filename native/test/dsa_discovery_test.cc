// Discovery in folders laid out like /sys/bus/dsa/devices: as real machines have it, and as nothing should have it.
#include <cerrno>
#include <fstream>
#include <map>

#include <sys/socket.h>
#include <sys/un.h>

#include "../dsa/discovery.h"
#include "support/check.h"
#include "support/random.h"
#include "support/temp_file.h"

namespace vmsnap::test {

namespace {

using Attributes = std::map<std::string, std::string>;

/// As a Sapphire Rapids machine shows them.
const Attributes kDevice = {{"version", "0x100\n"},
                            {"state", "enabled\n"},
                            {"numa_node", "1\n"},
                            {"pasid_enabled", "1\n"},
                            {"configurable", "1\n"},
                            {"max_groups", "4\n"},
                            {"max_work_queues", "8\n"},
                            {"max_work_queues_size", "128\n"},
                            {"max_engines", "4\n"},
                            {"max_batch_size", "1024\n"},
                            {"max_transfer_size", "2147483648\n"},
                            {"gen_cap", "0x40915f010f\n"},
                            {"op_cap", "00000000,00000000,00000000,00000000,00000000,00000000,00000001,003f03ff\n"},
                            {"cmd_status", "0x80040000\n"},
                            {"clients", "3\n"},
                            {"errors", "000000000000000000 000000000000000000\n"}};

const Attributes kQueue = {{"mode", "shared\n"},       {"state", "enabled\n"},
                           {"type", "user\n"},         {"name", "vmsnap\n"},
                           {"driver_name", "user\n"},  {"group_id", "0\n"},
                           {"size", "16\n"},           {"threshold", "15\n"},
                           {"priority", "10\n"},       {"block_on_fault", "1\n"},
                           {"ats_disable", "0\n"},     {"prs_disable", "1\n"},
                           {"max_batch_size", "32\n"}, {"max_transfer_size", "2097152\n"}};

/// A tree that grows by attributes; folders come by themselves.
class Tree {
 public:
  const std::string& root() const { return root_; }

  void write(const std::string& path, std::string_view text) const {
    const std::filesystem::path file = root_ + "/" + path;
    std::filesystem::create_directories(file.parent_path());
    std::ofstream(file, std::ios::binary) << text;
  }
  void write_all(const std::string& folder, const Attributes& attributes) const {
    for (const auto& [name, text] : attributes) write(folder + "/" + name, text);
  }
  void link(const std::string& target, const std::string& path) const {
    std::filesystem::create_symlink(target, root_ + "/" + path);
  }
  dsa::Discovery discover() const { return dsa::discover(root_, "/dev/dsa"); }

 private:
  TempFolder folder_;
  std::string root_ = folder_.path("devices");
};

void write_spr(const Tree& tree) {
  tree.write_all("dsa0", kDevice);
  tree.write_all("dsa0/wq0.0", kQueue);
  tree.write_all("dsa0/wq0.10", {{"mode", "dedicated\n"}, {"state", "disabled\n"}, {"type", "none\n"}});
  tree.write("dsa0/engine0.0/group_id", "0\n");
  tree.write("dsa0/engine0.2/group_id", "1\n");
}

void check_spr(const dsa::Discovery& discovery) {
  CHECK_EQ(discovery.error, 0);
  CHECK_EQ(discovery.devices.size(), size_t{1});
  if (discovery.devices.size() != 1 || discovery.devices[0].queues.size() != 2) return CHECK(!"one device, two queues");
  const dsa::DeviceInfo& device = discovery.devices[0];
  CHECK_EQ(device.name, std::string("dsa0"));
  CHECK_EQ(device.state, std::string("enabled"));
  CHECK_EQ(device.version, 0x100U);
  CHECK_EQ(device.numa_node, 1);
  CHECK_EQ(device.pasid_enabled, 1);
  CHECK_EQ(device.configurable, 1);
  CHECK_EQ(device.max_groups, 4U);
  CHECK_EQ(device.max_queues, 8U);
  CHECK_EQ(device.max_queue_entries, 128U);
  CHECK_EQ(device.max_engines, 4U);
  CHECK_EQ(device.max_batch, 1024U);
  CHECK_EQ(device.max_transfer_bytes, uint64_t{1} << 31);
  CHECK_EQ(device.general_capability, uint64_t{0x40915f010f});
  CHECK_EQ(device.command_status, uint64_t{0x80040000});
  CHECK_EQ(device.clients, 3U);
  CHECK_EQ(device.errors, std::string("000000000000000000 000000000000000000"));
  for (const unsigned opcode : {0U, 1U, 6U, 9U, 16U, 21U, 32U}) CHECK(dsa::supports(device.operations, opcode));
  for (const unsigned opcode : {10U, 22U, 31U, 33U, 255U, 256U}) CHECK(!dsa::supports(device.operations, opcode));
  CHECK(device.engine_groups == std::vector<int>({0, -1, 1}));

  const dsa::QueueInfo& queue = device.queues[0];
  CHECK_EQ(queue.name, std::string("wq0.0"));
  CHECK_EQ(queue.node, std::string("/dev/dsa/wq0.0"));
  CHECK(queue.mode == dsa::QueueMode::shared);
  CHECK_EQ(queue.state, std::string("enabled"));
  CHECK_EQ(queue.type, std::string("user"));
  CHECK_EQ(queue.label, std::string("vmsnap"));
  CHECK_EQ(queue.driver_name, std::string("user"));
  CHECK_EQ(queue.group, 0);
  CHECK_EQ(queue.size, 16U);
  CHECK_EQ(queue.threshold, 15U);
  CHECK_EQ(queue.priority, 10U);
  CHECK(queue.block_on_fault && !queue.ats_disabled && queue.prs_disabled);
  CHECK_EQ(queue.max_batch, 32U);
  CHECK_EQ(queue.max_transfer_bytes, uint64_t{2} << 20);
  CHECK(queue.operations == device.operations);
  CHECK_EQ(queue.numa_node, 1);

  // What a queue does not say for itself is the device's.
  const dsa::QueueInfo& bare = device.queues[1];
  CHECK_EQ(bare.name, std::string("wq0.10"));
  CHECK(bare.mode == dsa::QueueMode::dedicated);
  CHECK_EQ(bare.max_batch, 1024U);
  CHECK_EQ(bare.max_transfer_bytes, uint64_t{1} << 31);
  CHECK_EQ(bare.group, -1);
  CHECK_EQ(bare.size, 0U);
}

dsa::DeviceInfo only_device(const dsa::Discovery& discovery) {
  CHECK_EQ(discovery.devices.size(), size_t{1});
  return discovery.devices.empty() ? dsa::DeviceInfo{} : discovery.devices[0];
}

}  // namespace

TEST(dsa_discovery_no_driver_and_no_devices) {
  const Tree tree;
  CHECK_EQ(tree.discover().error, ENOENT);
  tree.write("group0.0/size", "1\n");
  CHECK_EQ(tree.discover().error, 0);
  CHECK(tree.discover().devices.empty());
  tree.write("file", "x");
  CHECK_EQ(dsa::discover(tree.root() + "/file", "/dev/dsa").error, ENOTDIR);
  CHECK_EQ(dsa::discover("", "").error, ENOENT);
}

TEST(dsa_discovery_queues_inside_their_device) {
  const Tree tree;
  write_spr(tree);
  check_spr(tree.discover());
}

TEST(dsa_discovery_bus_folder_of_links) {
  const Tree tree;
  write_spr(tree);
  // As the kernel has it: the bus folder links to all devices, queues and engines wherever they are.
  const Tree bus;
  bus.write("group0.0/x", "");
  const std::string device = tree.root() + "/dsa0";
  bus.link(device, "dsa0");
  for (const char* name : {"wq0.0", "wq0.10", "engine0.0", "engine0.2"}) bus.link(device + "/" + name, name);
  check_spr(bus.discover());
}

TEST(dsa_discovery_queues_beside_their_device) {
  const Tree tree;
  write_spr(tree);
  for (const char* name : {"wq0.0", "wq0.10", "engine0.0", "engine0.2"}) {
    std::filesystem::rename(tree.root() + "/dsa0/" + name, tree.root() + "/" + name);
  }
  check_spr(tree.discover());
}

TEST(dsa_discovery_leaves_iax_alone_and_sorts_by_number) {
  const Tree tree;
  tree.write_all("dsa10", kDevice);
  tree.write_all("dsa10/wq10.1", kQueue);
  tree.write_all("dsa2", kDevice);
  tree.write_all("iax1", kDevice);
  tree.write_all("iax1/wq1.0", kQueue);
  tree.write_all("wq1.0", kQueue);
  const dsa::Discovery discovery = tree.discover();
  CHECK_EQ(discovery.devices.size(), size_t{2});
  CHECK_EQ(discovery.devices[0].name, std::string("dsa2"));
  CHECK(discovery.devices[0].queues.empty());
  CHECK_EQ(discovery.devices[1].name, std::string("dsa10"));
  CHECK_EQ(discovery.devices[1].queues.size(), size_t{1});
  CHECK_EQ(discovery.devices[1].queues[0].node, std::string("/dev/dsa/wq10.1"));
}

TEST(dsa_discovery_takes_exact_names_only) {
  const Tree tree;
  tree.write_all("dsa0", kDevice);
  for (const char* name : {"dsa", "dsa00", "dsa0x", "dsa-1", "dsa+1", "dsa 1", "dsa1 ", "DSA3",
                           "dsa99999999999999999999", "dsa65536", "dsa1.0", "xdsa1"}) {
    tree.write_all(name, kDevice);
  }
  for (const char* name : {"wq", "wq0", "wq0.", "wq0.x", "wq0.-1", "wq0.00", "wq0.1.2", "wq00.1", "wq1.0",
                           "wq0.4294967296", "engine0.99999", "engine0"}) {
    tree.write_all(std::string("dsa0/") + name, kQueue);
  }
  const dsa::DeviceInfo device = only_device(tree.discover());
  CHECK(device.queues.empty());
  CHECK(device.engine_groups.empty());
}

TEST(dsa_discovery_missing_attributes_keep_their_unknowns) {
  const Tree tree;
  tree.write("dsa0/wq0.0/x", "");
  const dsa::DeviceInfo device = only_device(tree.discover());
  CHECK_EQ(device.state, std::string());
  CHECK_EQ(device.version, 0U);
  CHECK_EQ(device.numa_node, -1);
  CHECK_EQ(device.pasid_enabled, -1);
  CHECK_EQ(device.configurable, -1);
  CHECK_EQ(device.max_batch, 0U);
  CHECK_EQ(device.max_transfer_bytes, 0U);
  CHECK(device.operations == dsa::OperationCapability{});
  CHECK_EQ(device.queues.size(), size_t{1});
  const dsa::QueueInfo& queue = device.queues[0];
  CHECK(queue.mode == dsa::QueueMode::unknown);
  CHECK_EQ(queue.state, std::string());
  CHECK_EQ(queue.group, -1);
  CHECK_EQ(queue.size, 0U);
  CHECK_EQ(queue.max_batch, 0U);
  CHECK_EQ(queue.max_transfer_bytes, 0U);
}

TEST(dsa_discovery_numbers_are_taken_whole_or_not) {
  const auto with = [](const char* name, std::string_view text) {
    const Tree tree;
    tree.write_all("dsa0", kDevice);
    tree.write(std::string("dsa0/") + name, text);
    return only_device(tree.discover());
  };
  CHECK_EQ(with("max_batch_size", " 32 \n").max_batch, 32U);
  CHECK_EQ(with("max_batch_size", "0x20\n").max_batch, 32U);
  CHECK_EQ(with("max_batch_size", "4294967295").max_batch, 4294967295U);
  for (const char* bad :
       {"", "\n", "-1\n", "32x\n", "3 2\n", "x\n", "0x\n", "0x-1\n", "4294967296\n", "1e3\n", "+5\n", "3.5\n"}) {
    CHECK_EQ(with("max_batch_size", bad).max_batch, 0U);
  }
  CHECK_EQ(with("max_transfer_size", "18446744073709551615\n").max_transfer_bytes, ~uint64_t{0});
  CHECK_EQ(with("max_transfer_size", "18446744073709551616\n").max_transfer_bytes, uint64_t{0});
  CHECK_EQ(with("numa_node", "-1\n").numa_node, -1);
  CHECK_EQ(with("numa_node", "-7\n").numa_node, -1);
  CHECK_EQ(with("pasid_enabled", "2\n").pasid_enabled, -1);
  CHECK_EQ(with("pasid_enabled", "0\n").pasid_enabled, 0);
  CHECK_EQ(with("version", "0x200\n").version, 0x200U);
}

TEST(dsa_discovery_operation_capability_in_all_its_spellings) {
  const auto operations = [](std::string_view text) {
    const Tree tree;
    tree.write_all("dsa0", kDevice);
    tree.write("dsa0/op_cap", text);
    return only_device(tree.discover()).operations;
  };
  using Words = dsa::OperationCapability;
  CHECK(operations("00000001,003f03ff\n") == (Words{0x3f03ff, 1}));
  CHECK(operations("80000000,0,0,0,0,0,0,2\n") == (Words{2, 0, 0, 0, 0, 0, 0, 0x80000000}));
  CHECK(operations("0x1003f03ff 0 0 0\n") == (Words{0x3f03ff, 1}));
  CHECK(operations("0x1003f03ff\n") == (Words{0x3f03ff, 1}));
  CHECK(operations("0 0 0 0x100000000\n") == (Words{0, 0, 0, 0, 0, 0, 0, 1}));
  for (const char* bad : {"", "\n", ",", "1,", ",1", "1,,1", "g,1", "123456789,1", "1,2,3,4,5,6,7,8,9", "0 0 0 0 0",
                          "0x 1", "1  2", "-1", "1,-1", "zzz"}) {
    CHECK(operations(bad) == Words{});
  }
  // A queue's own configuration goes before the device's; one that cannot be read does not.
  const Tree tree;
  tree.write_all("dsa0", kDevice);
  tree.write("dsa0/wq0.0/op_config", "00000000,003f03fd\n");
  tree.write("dsa0/wq0.1/op_config", "garbage\n");
  const dsa::DeviceInfo device = only_device(tree.discover());
  CHECK(!dsa::supports(device.queues[0].operations, 1));
  CHECK(dsa::supports(device.queues[0].operations, 6));
  CHECK(device.queues[1].operations == device.operations);
}

TEST(dsa_discovery_attributes_that_are_no_files) {
  const Tree tree;
  write_spr(tree);
  const std::string queue = tree.root() + "/dsa0/wq0.0/";
  for (const char* name : {"mode", "state", "type", "size", "name", "threshold", "priority"}) {
    std::filesystem::remove(queue + name);
  }
  std::filesystem::create_directory(queue + "mode");
  CHECK_EQ(mkfifo((queue + "state").c_str(), 0600), 0);
  tree.write("secret", "user\n");
  std::filesystem::create_symlink("../../secret", queue + "type");
  std::filesystem::create_symlink("size", queue + "size");
  std::filesystem::create_symlink("/dev/zero", queue + "name");
  const UniqueFd listener(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string path = queue + "threshold";
  if (path.size() < sizeof address.sun_path) {
    std::copy(path.begin(), path.end(), address.sun_path);
    CHECK_EQ(bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
  }
  const dsa::DeviceInfo device = only_device(tree.discover());
  const dsa::QueueInfo& found = device.queues[0];
  CHECK(found.mode == dsa::QueueMode::unknown);
  CHECK_EQ(found.state, std::string());
  CHECK_EQ(found.type, std::string());
  CHECK_EQ(found.size, 0U);
  CHECK_EQ(found.label, std::string());
  CHECK_EQ(found.threshold, 0U);
  CHECK_EQ(found.group, 0);
}

TEST(dsa_discovery_huge_and_odd_contents) {
  const Tree tree;
  write_spr(tree);
  const std::string queue = "dsa0/wq0.0/";
  tree.write(queue + "name", std::string(5000, 'n'));
  tree.write(queue + "type", std::string(300, 't'));
  tree.write(queue + "state", std::string_view("enab\0led\n", 9));
  tree.write(queue + "mode", "shared\nand more\n");
  tree.write(queue + "size", "");
  std::filesystem::resize_file(tree.root() + "/" + queue + "size", uintmax_t{1} << 40);
  tree.write(queue + "driver_name", "\xff\xfe\x80");
  const dsa::DeviceInfo device = only_device(tree.discover());
  const dsa::QueueInfo& found = device.queues[0];
  CHECK_EQ(found.label, std::string());
  CHECK_EQ(found.type, std::string(256, 't'));
  CHECK_EQ(found.state, std::string("enab"));
  CHECK(found.mode == dsa::QueueMode::shared);
  CHECK_EQ(found.size, 0U);
  CHECK_EQ(found.driver_name, std::string("\xff\xfe\x80"));
}

TEST(dsa_discovery_entries_that_are_no_folders) {
  const Tree tree;
  tree.write("dsa0", "a file");
  tree.link("nowhere", "dsa1");
  tree.link("dsa2", "dsa2");
  tree.link(".", "dsa3");
  tree.write("dsa4/wq4.0", "a file");
  tree.link("wq4.1", "dsa4/wq4.1");
  tree.link("..", "dsa4/wq4.2");
  tree.write("dsa4/engine4.0", "a file");
  const dsa::Discovery discovery = tree.discover();
  CHECK_EQ(discovery.devices.size(), size_t{2});
  CHECK_EQ(discovery.devices[0].number, 3U);
  CHECK_EQ(discovery.devices[1].number, 4U);
  CHECK_EQ(discovery.devices[1].queues.size(), size_t{1});
  CHECK(discovery.devices[1].engine_groups.empty());
}

TEST(dsa_discovery_is_bounded) {
  const Tree tree;
  for (int number = 0; number < 300; ++number) tree.write("dsa" + std::to_string(number) + "/state", "enabled\n");
  for (int number = 0; number < 300; ++number) tree.write("dsa0/wq0." + std::to_string(number) + "/size", "1\n");
  const dsa::Discovery discovery = tree.discover();
  CHECK_EQ(discovery.devices.size(), size_t{256});
  CHECK_EQ(discovery.devices[0].queues.size(), size_t{256});
}

TEST(dsa_discovery_any_bytes_whatever) {
  Random random(77);
  for (int round = 0; round < 30; ++round) {
    const Tree tree;
    const auto noise = [&random] {
      const std::vector<uint8_t> bytes = random.bytes(random.below(40));
      constexpr std::string_view kLikely = "0123456789abcdefx,- \n";
      std::string text;
      for (const uint8_t byte : bytes) text += byte < 230 ? kLikely[byte % kLikely.size()] : static_cast<char>(byte);
      return text;
    };
    for (const auto& [name, text] : kDevice) tree.write("dsa0/" + name, noise());
    for (const auto& [name, text] : kQueue) tree.write("dsa0/wq0.0/" + name, noise());
    tree.write("dsa0/wq0.0/op_config", noise());
    const dsa::DeviceInfo device = only_device(tree.discover());
    CHECK_EQ(device.queues.size(), size_t{1});
    CHECK(device.numa_node >= -1 && device.pasid_enabled >= -1 && device.pasid_enabled <= 1);
  }
}

}  // namespace vmsnap::test
