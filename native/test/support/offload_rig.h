// An emulator, the driver on it, and memory whose answers are known.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../../dsa/emulator/emulator.h"
#include "../../dsa/offload.h"
#include "check.h"
#include "emulated.h"

namespace vmsnap::test::offload {

/// Of all pages of a request, as they were answered.
struct Score {
  size_t zero = 0;
  size_t not_zero = 0;
  size_t unknown = 0;
  /// Answers that the memory proves wrong.
  size_t wrong = 0;
};

inline bool is_zero(const uint8_t* bytes, size_t size_bytes) {
  for (size_t i = 0; i < size_bytes; ++i) {
    if (bytes[i] != 0) return false;
  }
  return true;
}

inline Score score_of(const dsa::PageCheck& check) {
  Score score;
  size_t page = 0;
  for (const dsa::PageRun& run : check.runs()) {
    for (size_t i = 0; i < run.pages; ++i, ++page) {
      const dsa::Answer answer = check.answers()[page];
      if (answer == dsa::Answer::unknown) {
        ++score.unknown;
        continue;
      }
      const bool zero = is_zero(run.address + i * check.page_bytes(), check.page_bytes());
      score.wrong += zero != (answer == dsa::Answer::zero) ? 1 : 0;
      ++(answer == dsa::Answer::zero ? score.zero : score.not_zero);
    }
  }
  return score;
}

class OffloadRig {
 public:
  explicit OffloadRig(const dsa::EmulatorConfig& config, const dsa::OffloadLimits& limits = {},
                      const std::vector<dsa::SubmitWay>& ways = {}) {
    std::string error;
    emulator_ = dsa::Emulator::create(config, error);
    if (!emulator_) {
      skip(error);
      return;
    }
    options_.sysfs_root = emulator_->sysfs_root();
    options_.device_root = emulator_->device_root();
    options_.calls = emulator_.get();
    options_.limits = limits;
    options_.ways = ways;
  }

  /// False where this system has no way to emulate, and the test has been marked as skipped.
  bool ready() const { return emulator_ != nullptr; }
  dsa::Emulator& emulator() { return *emulator_; }
  dsa::OffloadOptions& options() { return options_; }

  /// Opens; false (and a failed check) if no queue can be used.
  bool open() {
    opened_ = dsa::Offload::open(options_);
    if (!opened_.offload) report_failure(__FILE__, __LINE__, "open: " + opened_.reason);
    return opened_.offload != nullptr;
  }
  void try_open() { opened_ = dsa::Offload::open(options_); }
  const dsa::Offload::Opened& opened() const { return opened_; }
  dsa::Offload& offload() { return *opened_.offload; }
  void close() { opened_.offload.reset(); }

  dsa::QueueReport report(size_t queue = 0) const { return opened_.offload->reports()[queue]; }
  dsa::QueueCounters counters(size_t queue = 0) const { return report(queue).counters; }

  Score run(const uint8_t* address, size_t pages, size_t page_bytes = 4096) {
    dsa::PageCheck check;
    check.reset(page_bytes);
    check.add(address, pages);
    offload().check_now(check);
    return score_of(check);
  }
  Score run(const Pages& pages) { return run(pages.at(), pages.size_bytes() / 4096); }

 private:
  std::unique_ptr<dsa::Emulator> emulator_;
  dsa::OffloadOptions options_;
  dsa::Offload::Opened opened_;
};

/// One queue that is reached in this way.
inline dsa::EmulatorConfig config_for(dsa::SubmitWay way) {
  dsa::EmulatorConfig config;
  dsa::EmulatedQueue& queue = config.devices[0].queues[0];
  if (way == dsa::SubmitWay::movdir64b) queue.mode = dsa::QueueMode::dedicated;
  if (way == dsa::SubmitWay::write_batch || way == dsa::SubmitWay::write_single) queue.map_error = 1;  // EPERM
  queue.write_refuses_batches = way == dsa::SubmitWay::write_single;
  return config;
}

inline constexpr dsa::SubmitWay kWays[] = {
#if defined(__x86_64__)
    dsa::SubmitWay::enqcmd, dsa::SubmitWay::movdir64b,
#endif
    dsa::SubmitWay::write_batch, dsa::SubmitWay::write_single};

}  // namespace vmsnap::test::offload
