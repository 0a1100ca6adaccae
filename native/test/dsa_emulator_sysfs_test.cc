// The folder that stands for sysfs and /dev/dsa.
#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include <sys/stat.h>

#include "support/emulated.h"

namespace vmsnap::test {

using namespace dsa;

namespace {

std::string read_line(const std::string& path) {
  std::ifstream file(path);
  std::string line((std::istreambuf_iterator<char>(file)), {});
  return !line.empty() && line.back() == '\n' ? line.substr(0, line.size() - 1) : "not a line: " + line;
}

}  // namespace

TEST(dsa_emulator_lays_out_sysfs) {
  std::string folder;
  {
    Rig rig({.devices = {{.number = 0,
                          .numa_node = 1,
                          .max_batch = 512,
                          .queues = {{.size = 32, .threshold = 24, .max_batch = 64, .block_on_fault = true},
                                     {.mode = QueueMode::dedicated, .page_requests = false, .state = "disabled"},
                                     {.type = "kernel"}}},
                         {.number = 2, .pasid_enabled = false, .queues = {{.write_refuses_batches = true}}}}});
    if (!rig.ready()) return;
    const std::string root = rig.emulator().sysfs_root();
    const auto line = [&](const char* name) { return read_line(root + name); };
    CHECK_EQ(line("/dsa0/version"), std::string("0x100"));
    CHECK_EQ(line("/dsa0/state"), std::string("enabled"));
    CHECK_EQ(line("/dsa0/numa_node"), std::string("1"));
    CHECK_EQ(line("/dsa0/pasid_enabled"), std::string("1"));
    CHECK_EQ(line("/dsa0/gen_cap"), std::string("0x40915f010f"));
    CHECK_EQ(line("/dsa0/max_batch_size"), std::string("512"));
    CHECK_EQ(line("/dsa0/max_transfer_size"), std::string("2147483648"));
    CHECK_EQ(line("/dsa0/cmd_status"), std::string("0"));
    const std::string zeros = "00000000,00000000,00000000,00000000,00000000,00000000,00000000,";
    CHECK_EQ(line("/dsa0/op_cap"), zeros + "0001007f");
    CHECK_EQ(line("/dsa0/engine0.1/group_id"), std::string("0"));
    // Inside the device and beside it, as on the bus.
    for (const char* name : {"/dsa0/wq0.0", "/wq0.0"}) {
      const std::string queue = name;
      CHECK_EQ(line((queue + "/mode").c_str()), std::string("shared"));
      CHECK_EQ(line((queue + "/size").c_str()), std::string("32"));
      CHECK_EQ(line((queue + "/threshold").c_str()), std::string("24"));
      CHECK_EQ(line((queue + "/max_batch_size").c_str()), std::string("64"));
      CHECK_EQ(line((queue + "/block_on_fault").c_str()), std::string("1"));
      CHECK_EQ(line((queue + "/state").c_str()), std::string("enabled"));
      CHECK_EQ(line((queue + "/type").c_str()), std::string("user"));
    }
    CHECK_EQ(line("/wq0.1/mode"), std::string("dedicated"));
    CHECK_EQ(line("/wq0.1/state"), std::string("disabled"));
    CHECK_EQ(line("/wq0.1/prs_disable"), std::string("1"));
    CHECK_EQ(line("/wq0.2/type"), std::string("kernel"));
    // Without PASIDs nothing of type user is enabled, and the device says why.
    CHECK_EQ(line("/dsa2/pasid_enabled"), std::string("0"));
    CHECK_EQ(line("/dsa2/cmd_status"), std::string("0x80110000"));
    CHECK_EQ(line("/wq2.0/state"), std::string("disabled"));
    CHECK_EQ(line("/dsa2/op_cap"), zeros + "0001007d");

    const std::string nodes = rig.emulator().device_root();
    CHECK(std::filesystem::exists(nodes + "/wq0.0"));
    for (const char* name : {"/wq0.1", "/wq0.2", "/wq2.0"}) CHECK(!std::filesystem::exists(nodes + name));
    CHECK_EQ(rig.emulator().open((nodes + "/wq2.0").c_str()), -ENOENT);

    folder = std::filesystem::path(nodes).parent_path().parent_path();
    struct stat status;
    CHECK_EQ(stat(folder.c_str(), &status), 0);
    CHECK_EQ(status.st_mode & 0777, 0700U);
  }
  CHECK(!std::filesystem::exists(folder));
}

TEST(dsa_emulator_tells_why_it_cannot_be_made) {
  const char* before = std::getenv("TMPDIR");
  const std::string kept = before != nullptr ? before : "";
  setenv("TMPDIR", "/proc/no/such/folder", 1);
  std::string error;
  CHECK(Emulator::create({}, error) == nullptr);
  CHECK(!error.empty());
  if (before != nullptr) {
    setenv("TMPDIR", kept.c_str(), 1);
  } else {
    unsetenv("TMPDIR");
  }
}

}  // namespace vmsnap::test
