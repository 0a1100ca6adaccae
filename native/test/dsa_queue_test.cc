// Opening a queue: which way in is found, and what is said where none is. And handing descriptors over, call by call.
#include <cerrno>
#include <fstream>
#include <vector>

#include "../dsa/clock.h"
#include "../dsa/dispatcher.h"
#include "../dsa/line.h"
#include "../dsa/numa.h"
#include "../dsa/offload_open.h"
#include "../dsa/queue_handle.h"
#include "support/check.h"
#include "support/offload_rig.h"
#include "support/temp_file.h"

namespace vmsnap::test {

namespace {

using namespace offload;

using dsa::SubmitWay;

const dsa::ProbeStep* find_step(const dsa::QueueReport& report, const std::string& what) {
  for (const dsa::ProbeStep& step : report.steps) {
    if (step.what == what) return &step;
  }
  return nullptr;
}

int error_of(const dsa::QueueReport& report, const std::string& what) {
  const dsa::ProbeStep* step = find_step(report, what);
  return step == nullptr ? -1 : step->error;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// Opens one queue that cannot be used. Its report; empty where emulation is not possible.
std::vector<dsa::QueueReport> refused(const dsa::EmulatorConfig& config, dsa::OffloadLimits limits = {},
                                      const std::vector<SubmitWay>& ways = {}) {
  OffloadRig rig(config, limits, ways);
  if (!rig.ready()) return {};
  rig.try_open();
  CHECK(!rig.opened().offload);
  CHECK(!rig.opened().reason.empty());
  for (const dsa::QueueReport& report : rig.opened().queues) {
    CHECK(report.way == SubmitWay::none);
    CHECK(!report.reason.empty() && contains(rig.opened().reason, report.reason));
  }
  return rig.opened().queues;
}

/// Answers write() from a list; everything else is not called.
class ScriptedCalls final : public dsa::DeviceCalls {
 public:
  explicit ScriptedCalls(std::vector<ssize_t> answers) : answers_(std::move(answers)) {}
  int open(const char*) override { return 7; }
  int map_portal(int, void*&) override { return -EPERM; }
  int unmap_portal(void*) override { return 0; }
  ssize_t write(int, const void* bytes, size_t size_bytes) override {
    sizes.push_back(size_bytes);
    starts.push_back(static_cast<const dsa::Descriptor*>(bytes));
    return sizes.size() <= answers_.size() ? answers_[sizes.size() - 1] : static_cast<ssize_t>(size_bytes);
  }
  int poll_error(int, int) override { return 0; }
  int close(int) override { return 0; }

  std::vector<size_t> sizes;
  std::vector<const dsa::Descriptor*> starts;

 private:
  std::vector<ssize_t> answers_;
};

struct Written {
  dsa::Sent sent;
  std::vector<size_t> sizes;
};

Written write_eight(std::vector<ssize_t> answers) {
  ScriptedCalls calls(std::move(answers));
  dsa::QueueHandle handle(calls);
  CHECK_EQ(handle.open("wq"), 0);
  CHECK_EQ(handle.map(SubmitWay::enqcmd), EPERM);
  const std::vector<dsa::Descriptor> descriptors(8);
  const dsa::Sent sent = handle.send(descriptors.data(), 8, 4);
  CHECK_EQ(calls.starts[0], descriptors.data());
  return {sent, calls.sizes};
}

}  // namespace

TEST(dsa_queue_finds_the_way_in) {
  for (const SubmitWay way : kWays) {
    OffloadRig rig(config_for(way));
    if (!rig.ready() || !rig.open()) return;
    const dsa::QueueReport report = rig.report();
    CHECK_EQ(dsa::name_of(report.way), dsa::name_of(way));
    CHECK_EQ(report.batches, way != SubmitWay::write_single);
    CHECK_EQ(report.batch_pages, way == SubmitWay::write_single ? 1U : 128U);
    CHECK(report.reason.empty());
    CHECK_EQ(error_of(report, "open"), 0);
    CHECK_EQ(error_of(report, "compare"), 0);
    const bool portal = way == SubmitWay::enqcmd || way == SubmitWay::movdir64b;
    CHECK_EQ(error_of(report, "noop-portal"), portal ? 0 : -1);
    CHECK_EQ(error_of(report, "noop-write"), portal ? -1 : 0);
#if defined(__x86_64__)
    CHECK_EQ(error_of(report, "map"), portal ? 0 : EPERM);
#endif
  }
}

TEST(dsa_queue_ways_can_be_chosen) {
  for (const SubmitWay way : kWays) {
    dsa::EmulatorConfig config;
    if (way == SubmitWay::movdir64b) config.devices[0].queues[0].mode = dsa::QueueMode::dedicated;
    OffloadRig rig(config, {}, {way});
    if (!rig.ready() || !rig.open()) return;
    CHECK_EQ(dsa::name_of(rig.report().way), dsa::name_of(way));
  }
  // The only one that is wanted does not work.
  dsa::EmulatorConfig no_map;
  no_map.devices[0].queues[0].map_error = EPERM;
  for (const dsa::QueueReport& report : refused(no_map, {}, {SubmitWay::enqcmd})) {
    CHECK(contains(report.reason, "CAP_SYS_RAWIO"));
  }
  dsa::EmulatorConfig no_batches = config_for(SubmitWay::write_single);
  for (const dsa::QueueReport& report : refused(no_batches, {}, {SubmitWay::write_batch})) {
    CHECK_EQ(error_of(report, "noop-write"), 0);
  }
}

TEST(dsa_queue_reports_what_sysfs_forbids) {
  dsa::EmulatorConfig kernel_type;
  kernel_type.devices[0].queues[0].type = "kernel";
  for (const dsa::QueueReport& report : refused(kernel_type)) {
    CHECK(contains(report.reason, "type kernel"));
    CHECK(contains(report.hint, "accel-config config-wq dsa0/wq0.0"));
    CHECK_EQ(error_of(report, "open"), -1);
  }
  dsa::EmulatorConfig disabled;
  disabled.devices[0].queues[0].state = "disabled";
  for (const dsa::QueueReport& report : refused(disabled)) {
    CHECK(contains(report.reason, "disabled"));
    CHECK(contains(report.hint, "accel-config enable-wq dsa0/wq0.0"));
  }
  dsa::EmulatorConfig no_pasid;
  no_pasid.devices[0].pasid_enabled = false;
  for (const dsa::QueueReport& report : refused(no_pasid)) {
    // The emulator, as the kernel, does not enable queues then; the reason that is named is the first of both.
    CHECK(contains(report.reason, "PASID") || contains(report.reason, "disabled"));
    CHECK_EQ(error_of(report, "map"), -1);
  }
  dsa::EmulatorConfig no_compares;
  no_compares.devices[0].operations[0] = 0x3;
  for (const dsa::QueueReport& report : refused(no_compares)) CHECK(contains(report.reason, "compare pattern"));
}

TEST(dsa_queue_without_batches_is_used_without) {
  dsa::EmulatorConfig config;
  config.devices[0].operations[0] = 0x41;  // NOOP and COMPVAL
  OffloadRig rig(config);
  if (!rig.ready() || !rig.open()) return;
  CHECK(!rig.report().batches);
  Pages pages(40);
  pages.fill(0);
  const Score score = rig.run(pages);
  CHECK_EQ(score.zero, size_t{40});
}

TEST(dsa_queue_reports_why_it_cannot_be_opened) {
  struct Case {
    int error;
    const char* reason;
    const char* hint;
  };
  for (const Case& wanted :
       {Case{EACCES, "may not be opened", "chgrp "}, Case{EPERM, "may not be opened", "chmod 0660"},
        Case{EBUSY, "in use by another process", "fuser -v"},
        Case{ENXIO, "not in working order", "accel-config enable-wq dsa0/wq0.0"},
        Case{ENOENT, "does not exist", "accel-config enable-wq dsa0/wq0.0"},
        Case{EOPNOTSUPP, "PASID", "intel_iommu=on,sm_on"}, Case{EIO, "cannot be opened", "dmesg"}}) {
    dsa::EmulatorConfig config;
    config.devices[0].queues[0].open_error = wanted.error;
    for (const dsa::QueueReport& report : refused(config)) {
      CHECK(contains(report.reason, wanted.reason));
      CHECK(contains(report.hint, wanted.hint));
      CHECK_EQ(error_of(report, "open"), wanted.error);
    }
  }
}

TEST(dsa_queue_that_answers_nothing_is_not_used) {
  dsa::OffloadLimits limits;
  limits.probe_milliseconds = 30;
  for (const SubmitWay way : kWays) {
    dsa::EmulatorConfig config = config_for(way);
    config.faults.push_back({.kind = dsa::FaultKind::never_written, .count = 100, .of = dsa::FaultUnit::descriptors});
    for (const dsa::QueueReport& report : refused(config, limits)) {
      CHECK(contains(report.reason, "no answer in time"));
      CHECK_EQ(error_of(report, "noop-write"), ETIMEDOUT);
    }
    config.faults[0] = {.kind = dsa::FaultKind::queue_full, .count = 1'000'000};
    for (const dsa::QueueReport& report : refused(config, limits)) {
      CHECK(contains(report.reason, "no answer in time") || contains(report.reason, "takes nothing"));
    }
  }
}

TEST(dsa_queue_that_answers_wrongly_is_not_used) {
  for (const SubmitWay way : kWays) {
    dsa::EmulatorConfig config = config_for(way);
    config.faults.push_back({.kind = dsa::FaultKind::wrong_answer, .count = 1});
    for (const dsa::QueueReport& report : refused(config)) {
      CHECK(contains(report.reason, "wrong answers"));
      CHECK_EQ(error_of(report, "compare"), EIO);
    }
    config.faults[0] = {.kind = dsa::FaultKind::status, .count = 1, .value = 0x11};
    for (const dsa::QueueReport& report : refused(config)) CHECK(!contains(report.reason, "wrong answers"));
  }
}

TEST(dsa_queue_falls_back_to_write_where_the_portal_does_not_answer) {
  dsa::OffloadLimits limits;
  limits.probe_milliseconds = 50;
  dsa::EmulatorConfig config;
  config.faults.push_back({.kind = dsa::FaultKind::never_written, .count = 1, .of = dsa::FaultUnit::descriptors});
  OffloadRig rig(config, limits, {SubmitWay::enqcmd, SubmitWay::write_batch});
  if (!rig.ready() || !rig.open()) return;
#if defined(__x86_64__)
  CHECK_EQ(error_of(rig.report(), "noop-portal"), ETIMEDOUT);
  CHECK_EQ(dsa::name_of(rig.report().way), dsa::name_of(SubmitWay::write_batch));
#endif
}

TEST(dsa_queue_nodes_that_are_none) {
  OffloadRig rig({});
  if (!rig.ready()) return;
  const TempFolder folder;
  std::ofstream(folder.path("file")) << "no queue";
  const std::string queue = rig.emulator().device_root() + "/wq0.0";
  rig.options().nodes = {folder.path("file"), folder.path("missing"), queue, queue};
  if (!rig.open()) return;
  const std::vector<dsa::QueueReport>& reports = rig.opened().queues;
  CHECK_EQ(reports.size(), size_t{3});
  CHECK(contains(reports[0].reason, "no DSA work queue"));
  CHECK_EQ(error_of(reports[0], "sysfs"), ENOTTY);
  CHECK(contains(reports[1].reason, "No such file"));
  CHECK_EQ(error_of(reports[1], "sysfs"), ENOENT);
  CHECK(reports[2].reason.empty());
  rig.options().nodes = {folder.path("missing")};
  rig.try_open();
  CHECK(!rig.opened().offload && contains(rig.opened().reason, folder.path("missing")));
}

TEST(dsa_queue_without_any_device) {
  const TempFolder folder;
  dsa::OffloadOptions options;
  options.sysfs_root = folder.path("devices");
  const dsa::Offload::Opened opened = dsa::Offload::open(options);
  CHECK(!opened.offload && opened.queues.empty());
  CHECK(contains(opened.reason, "no DSA device"));
  CHECK(contains(opened.hint, "modprobe idxd"));
}

TEST(dsa_queue_limits_come_from_the_queue) {
  dsa::EmulatorConfig config;
  config.devices[0].queues[0].size = 32;
  config.devices[0].queues[0].threshold = 6;
  config.devices[0].queues[0].max_batch = 16;
  config.devices[0].queues[0].max_transfer_bytes = 65536;
  OffloadRig rig(config);
  if (!rig.ready() || !rig.open()) return;
  CHECK_EQ(rig.report().depth, uint32_t{6});
  CHECK_EQ(rig.report().batch_pages, uint32_t{16});
  CHECK_EQ(rig.report().max_unit_bytes, uint64_t{65536});
  dsa::OffloadLimits limits;
  limits.depth = 3;
  limits.batch_pages = 8;
  limits.max_unit_bytes = 8192;
  OffloadRig small(config, limits);
  if (!small.ready() || !small.open()) return;
  CHECK_EQ(small.report().depth, uint32_t{3});
  CHECK_EQ(small.report().batch_pages, uint32_t{8});
  CHECK_EQ(small.report().max_unit_bytes, uint64_t{8192});
}

TEST(dsa_queue_write_goes_on_after_short_writes) {
  const Written written = write_eight({64 * 3, 64 * 1});
  CHECK_EQ(written.sent.taken, uint32_t{8});
  CHECK_EQ(written.sent.error, 0);
  CHECK_EQ(written.sent.short_writes, uint32_t{2});
  CHECK(written.sizes == (std::vector<size_t>{512, 320, 256}));
}

TEST(dsa_queue_write_ends_where_it_is_full) {
  for (const ssize_t full : {ssize_t{-EAGAIN}, ssize_t{0}}) {
    const Written written = write_eight({64 * 5, full});
    CHECK_EQ(written.sent.taken, uint32_t{5});
    CHECK_EQ(written.sent.error, EAGAIN);
    CHECK_EQ(written.sent.refusals, uint32_t{1});
  }
  // Part of a descriptor is none.
  CHECK_EQ(write_eight({64 * 5 + 63, -EAGAIN}).sent.taken, uint32_t{5});
}

TEST(dsa_queue_write_tells_errors) {
  CHECK_EQ(write_eight({-EINVAL}).sent.error, EINVAL);
  CHECK_EQ(write_eight({64, -ENXIO}).sent.error, ENXIO);
  CHECK_EQ(write_eight({-EINTR, -EINTR}).sent.taken, uint32_t{8});
  CHECK_EQ(write_eight(std::vector<ssize_t>(1000, -EINTR)).sent.error, EAGAIN);
  // Less than a descriptor is nothing that a queue does.
  CHECK_EQ(write_eight({64, 63}).sent.error, EIO);
  CHECK_EQ(write_eight({64, 63}).sent.taken, uint32_t{1});
  // A kernel that claims more than it was given.
  CHECK_EQ(write_eight({64 * 100}).sent.taken, uint32_t{8});
}

TEST(dsa_queue_distances_of_nodes_with_gaps) {
  const TempFolder folder;
  for (const auto& [node, row] : {std::pair{"node0", "10 21 17\n"}, {"node1", "21 10 28\n"}, {"node4", "17 28 10\n"}}) {
    std::filesystem::create_directory(folder.path(node));
    std::ofstream(folder.path(node) + "/distance") << row;
  }
  const dsa::NumaDistances distances(folder.path("."));
  CHECK_EQ(distances.between(0, 0), 10U);
  CHECK_EQ(distances.between(0, 1), 21U);
  CHECK_EQ(distances.between(4, 1), 28U);
  CHECK_EQ(distances.between(1, 4), 28U);
  // What is not known makes no difference.
  for (const int node : {-1, 2, 3, 5, 4000}) {
    CHECK_EQ(distances.between(node, 1), 10U);
    CHECK_EQ(distances.between(1, node), 10U);
  }
  CHECK_EQ(dsa::NumaDistances(folder.path("none")).between(0, 1), 10U);
}

TEST(dsa_queue_near_ones_first_and_far_ones_where_they_are_full) {
  const TempFolder folder;
  for (const auto& [node, row] : {std::pair{"node0", "10 21\n"}, {"node1", "21 10\n"}}) {
    std::filesystem::create_directory(folder.path(node));
    std::ofstream(folder.path(node) + "/distance") << row;
  }
  dsa::EmulatorConfig config;
  config.devices = {{.number = 0, .numa_node = 1}, {.number = 1, .numa_node = 0}};
  dsa::OffloadLimits limits;
  limits.depth = 1;
  limits.batch_pages = 4;
  OffloadRig rig(config, limits);
  if (!rig.ready()) return;
  dsa::OpenedQueues opened = dsa::open_queues(rig.options());
  dsa::Dispatcher dispatcher(std::move(opened.queues), limits, dsa::NumaDistances(folder.path(".")));
  CHECK(dispatcher.has_several_nodes());
  Pages pages(64);
  dsa::PageCheck check;
  for (const int node : {0, 1, 0, 1}) {
    check.reset(4096);
    check.add(pages.at(), 64);
    dispatcher.add(check);
    dsa::Flight* const near = dispatcher.next_flight(node);
    dsa::Flight* const far = dispatcher.next_flight(node);
    CHECK(dispatcher.next_flight(node) == nullptr);  // one entry of each is used
    CHECK_EQ(near->queue->numa_node(), node);
    CHECK_EQ(far->queue->numa_node(), 1 - node);
    for (dsa::Flight* const flight : {near, far}) {
      CHECK(dispatcher.submitted(flight, {.taken = 0, .error = EAGAIN, .refusals = 1}) == nullptr);
    }
    dispatcher.tend(dsa::now_nanoseconds());  // may be tried again
    while (dsa::Flight* const flight = dispatcher.next_flight(node)) {
      const uint32_t taken = flight->descriptor_count();
      CHECK(dispatcher.submitted(flight, {.taken = taken}) == flight);
      dsa::Settlement none;
      none.pages_unknown = flight->members;
      dispatcher.settled(flight, none);
    }
    CHECK(dsa::Dispatcher::is_settled(check));
  }
  dispatcher.close();
}

TEST(dsa_queue_line_cuts_what_a_queue_can_take) {
  dsa::PageCheck check;
  check.reset(4096);
  uint8_t* const memory = nullptr;
  dsa::Answer answers[100];
  dsa::Line line;
  dsa::Span span{&check, memory, answers, 100, 0, {}};
  line.add(span);
  dsa::Density density;
  std::vector<dsa::Piece> pieces;
  CHECK_EQ(line.cut({10, 0, uint64_t{1} << 20}, density, pieces), uint32_t{10});
  CHECK_EQ(pieces.size(), size_t{1});
  for (int i = 0; i < 5; ++i) density.saw_zeros(16);
  CHECK_EQ(density.unit_pages(), uint32_t{16});
  pieces.clear();
  // 90 pages are left: five of 16, and a shorter one.
  CHECK_EQ(line.cut({100, 0, uint64_t{1} << 20}, density, pieces), uint32_t{6});
  CHECK_EQ(pieces.size(), size_t{2});
  CHECK_EQ(pieces[0].members, uint32_t{5});
  CHECK_EQ(pieces[1].span.unit_pages, uint32_t{10});
  CHECK(line.empty());
  density.saw_difference();
  CHECK_EQ(density.unit_pages(), uint32_t{1});
  // A queue's own least and most.
  line.add(span);
  pieces.clear();
  CHECK_EQ(line.cut({2, 65536, 16384}, density, pieces), uint32_t{2});
  CHECK_EQ(pieces[0].span.unit_pages, uint32_t{4});
  CHECK_EQ(line.cut({2, 0, 4095}, density, pieces), uint32_t{0});
  CHECK_EQ(line.drop_first().pages, size_t{92});
}

TEST(dsa_queue_line_keeps_the_order_of_many_runs) {
  dsa::PageCheck check;
  check.reset(4096);
  std::vector<dsa::Answer> answers(1000);
  dsa::Line line;
  for (size_t i = 0; i < answers.size(); ++i) line.add({&check, nullptr, &answers[i], 1, 0, {}});
  std::vector<dsa::Piece> pieces;
  size_t next = 0;
  while (!line.empty()) {
    pieces.clear();
    line.cut({7, 0, 4096}, dsa::Density{}, pieces);
    for (const dsa::Piece& piece : pieces) CHECK_EQ(piece.span.answers, &answers[next++]);
    // What comes back goes first.
    if (next == 500) line.add_again({&check, nullptr, &answers[--next], 1, 1, {}});
  }
  CHECK_EQ(next, answers.size());
}

}  // namespace vmsnap::test
