// The self-test of doctor, on an emulated device that is right, and on ones that are not.
#include "../dsa/emulator/emulator.h"
#include "../dsa/self_test.h"
#include "support/check.h"

namespace vmsnap::test {

namespace {

struct Outcome {
  bool opened = false;
  std::vector<dsa::SelfTestResult> results;
};

Outcome self_test(const dsa::EmulatorConfig& config, const std::vector<dsa::Fault>& faults_after_open = {}) {
  std::string error;
  const std::unique_ptr<dsa::Emulator> emulator = dsa::Emulator::create(config, error);
  CHECK_EQ(error, std::string());
  if (emulator == nullptr) return {};
  dsa::OffloadOptions options;
  options.sysfs_root = emulator->sysfs_root();
  options.device_root = emulator->device_root();
  options.calls = emulator.get();
  const dsa::Offload::Opened opened = dsa::Offload::open(options);
  if (opened.offload == nullptr) return {};
  for (const dsa::Fault& fault : faults_after_open) emulator->add_fault(fault);
  return {.opened = true, .results = dsa::run_self_test(*opened.offload)};
}

size_t sum(const std::vector<dsa::SelfTestResult>& results, size_t dsa::SelfTestResult::*count) {
  size_t total = 0;
  for (const dsa::SelfTestResult& result : results) total += result.*count;
  return total;
}

dsa::EmulatorConfig one_queue(const dsa::EmulatedQueue& queue) {
  dsa::EmulatorConfig config;
  config.devices.front().queues = {queue};
  return config;
}

}  // namespace

TEST(dsa_self_test_passes_by_every_way_to_submit) {
  dsa::EmulatedQueue dedicated;
  dedicated.mode = dsa::QueueMode::dedicated;
  dsa::EmulatedQueue by_write;
  by_write.map_error = EPERM;
  dsa::EmulatedQueue single_writes = by_write;
  single_writes.write_refuses_batches = true;
  for (const dsa::EmulatedQueue& queue : {dsa::EmulatedQueue{}, dedicated, by_write, single_writes}) {
    const Outcome outcome = self_test(one_queue(queue));
    CHECK(outcome.opened);
    CHECK_EQ(outcome.results.size(), size_t{5});
    for (const dsa::SelfTestResult& result : outcome.results) CHECK(result.passed());
    CHECK_EQ(sum(outcome.results, &dsa::SelfTestResult::wrong), size_t{0});
  }
}

TEST(dsa_self_test_sees_wrong_answers) {
  const dsa::Fault lie = {.kind = dsa::FaultKind::wrong_answer, .first = 0, .count = 1'000'000};
  const Outcome outcome = self_test(one_queue({}), {lie});
  CHECK(outcome.opened);
  CHECK(sum(outcome.results, &dsa::SelfTestResult::wrong) > 0);
  for (const dsa::SelfTestResult& result : outcome.results) CHECK(!result.passed());
}

TEST(dsa_self_test_sees_missing_answers) {
  const dsa::Fault silence = {.kind = dsa::FaultKind::device_lost, .first = 0, .count = 1'000'000};
  const Outcome outcome = self_test(one_queue({}), {silence});
  CHECK(outcome.opened);
  CHECK_EQ(sum(outcome.results, &dsa::SelfTestResult::wrong), size_t{0});
  CHECK(sum(outcome.results, &dsa::SelfTestResult::unknown) > 0);
}

}  // namespace vmsnap::test
