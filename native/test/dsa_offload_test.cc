// Zero checks through the emulated device in each of the four ways, against the memory itself.
#include <cerrno>
#include <filesystem>
#include <thread>

#include <sys/resource.h>
#include <sys/wait.h>

#include "support/check.h"
#include "support/memory_image.h"
#include "support/offload_rig.h"
#include "support/temp_file.h"

namespace vmsnap::test {

namespace {

using namespace offload;

using dsa::SubmitWay;

void copy_to(const Pages& pages, const std::vector<uint8_t>& image) {
  std::memcpy(pages.at(), image.data(), image.size());
}

/// Limits with which a test of a slow build (sanitizers) loses nothing.
dsa::OffloadLimits patient() {
  dsa::OffloadLimits limits;
  limits.record_milliseconds = 20'000;
  limits.probe_milliseconds = 10'000;
  return limits;
}

/// A device without threads: write() has executed everything when it returns.
class InlineDevice final : public dsa::DeviceCalls {
 public:
  int open(const char*) override { return 1000; }
  int map_portal(int, void*&) override { return -EPERM; }
  int unmap_portal(void*) override { return 0; }
  ssize_t write(int, const void* bytes, size_t size_bytes) override {
    execute(static_cast<const dsa::Descriptor*>(bytes), size_bytes / sizeof(dsa::Descriptor));
    return static_cast<ssize_t>(size_bytes);
  }
  int poll_error(int, int) override { return 0; }
  int close(int) override { return 0; }

 private:
  static void execute(const dsa::Descriptor* descriptors, size_t count) {
    for (size_t i = 0; i < count; ++i) {
      const dsa_hw_desc& descriptor = descriptors[i].hw;
      auto* const record = reinterpret_cast<dsa::CompletionRecord*>(descriptor.completion_addr);
      const bool compares = descriptor.opcode == DSA_OPCODE_COMPVAL;
      if (descriptor.opcode == DSA_OPCODE_BATCH) {
        execute(reinterpret_cast<const dsa::Descriptor*>(descriptor.desc_list_addr), descriptor.desc_count);
      }
      const auto* const source = reinterpret_cast<const uint8_t*>(descriptor.src_addr);
      record->hw.result = compares && !is_zero(source, descriptor.xfer_size) ? 1 : 0;
      record->hw.bytes_completed = 0;
      __atomic_store_n(&record->hw.status, uint8_t{DSA_COMP_SUCCESS}, __ATOMIC_RELEASE);
    }
  }
};

}  // namespace

TEST(dsa_offload_tells_zero_pages_from_others) {
  Random random(31);
  const std::vector<uint8_t> image = memory_image(random, size_t{4} << 20, 4096);
  Pages pages(image.size() / 4096);
  copy_to(pages, image);
  for (const SubmitWay way : kWays) {
    OffloadRig rig(config_for(way), patient());
    if (!rig.ready() || !rig.open()) return;
    const Score score = rig.run(pages);
    CHECK_EQ(score.wrong, size_t{0});
    CHECK_EQ(score.unknown, size_t{0});
    const dsa::QueueCounters counters = rig.counters();
    CHECK_EQ(counters.pages_zero, uint64_t{score.zero});
    CHECK_EQ(counters.pages_not_zero, uint64_t{score.not_zero});
    CHECK_EQ(counters.errors + counters.lost + counters.times_sick, uint64_t{0});
    CHECK(counters.bytes >= image.size());
    CHECK_EQ(counters.batches > 0, way != SubmitWay::write_single);
  }
}

TEST(dsa_offload_large_compares_follow_the_zeros) {
  constexpr size_t kPages = 16384;
  Pages pages(kPages);
  pages.fill(0);
  pages.at()[4096 * 9000 + 17] = 1;
  pages.at()[4096 * (kPages - 1) + 4095] = 1;
  for (const SubmitWay way : kWays) {
    OffloadRig rig(config_for(way), patient());
    if (!rig.ready() || !rig.open()) return;
    Score score;
    for (size_t at = 0; at < kPages; at += 1024) {
      const Score part = rig.run(pages.at(at * 4096), 1024);
      score.zero += part.zero;
      score.not_zero += part.not_zero;
      score.wrong += part.wrong;
    }
    CHECK_EQ(score.wrong, size_t{0});
    CHECK_EQ(score.not_zero, size_t{2});
    CHECK_EQ(score.zero, kPages - 2);
    CHECK(rig.counters().descriptors < kPages / 2);
  }
}

TEST(dsa_offload_any_size_and_alignment) {
  Random random(32);
  std::vector<uint8_t> memory(size_t{3} << 20);
  for (size_t i = 0; i < 300; ++i) memory[random.below(memory.size())] = 1;
  for (const SubmitWay way : kWays) {
    OffloadRig rig(config_for(way), patient());
    if (!rig.ready() || !rig.open()) return;
    for (const size_t page_bytes :
         {size_t{1}, size_t{3}, size_t{8}, size_t{16}, size_t{255}, size_t{4096}, size_t{65536}}) {
      const size_t offset = random.below(64);
      const size_t pages = std::min<size_t>((memory.size() - offset) / page_bytes, 700);
      const Score score = rig.run(memory.data() + offset, pages, page_bytes);
      CHECK_EQ(score.wrong, size_t{0});
      CHECK_EQ(score.unknown, size_t{0});
    }
    const Score large = rig.run(memory.data(), 1, size_t{2} << 20);
    CHECK_EQ(large.not_zero, size_t{1});
  }
}

TEST(dsa_offload_nothing_to_do) {
  OffloadRig rig(config_for(SubmitWay::write_batch));
  if (!rig.ready() || !rig.open()) return;
  dsa::PageCheck check;
  check.reset(4096);
  CHECK(rig.offload().check_now(check));
  check.add(nullptr, 0);
  CHECK(rig.offload().check_now(check));
  CHECK_EQ(rig.counters().descriptors, uint64_t{0});
}

TEST(dsa_offload_many_short_runs) {
  Random random(33);
  const std::vector<uint8_t> image = memory_image(random, size_t{8} << 20, 4096);
  for (const SubmitWay way : kWays) {
    OffloadRig rig(config_for(way), patient());
    if (!rig.ready() || !rig.open()) return;
    for (int round = 0; round < 3; ++round) {
      dsa::PageCheck check;
      check.reset(4096);
      size_t pages = 0;
      for (size_t page = 0; page < 2000; page += 1 + random.below(3)) {
        const size_t length = std::min<size_t>(1 + random.below(5), 2048 - page);
        check.add(image.data() + page * 4096, length);
        page += length;
        pages += length;
      }
      CHECK(rig.offload().check_now(check));
      const Score score = score_of(check);
      CHECK_EQ(score.wrong, size_t{0});
      CHECK_EQ(score.zero + score.not_zero, pages);
    }
  }
}

TEST(dsa_offload_several_requests_and_threads_at_once) {
  constexpr size_t kThreads = 4;
  constexpr size_t kRequests = 12;
  Random random(34);
  const std::vector<uint8_t> image = memory_image(random, size_t{4} << 20, 4096);
  for (const SubmitWay way : kWays) {
    OffloadRig rig(config_for(way), patient());
    if (!rig.ready() || !rig.open()) return;
    std::vector<size_t> bad(kThreads);
    std::vector<std::thread> threads;
    for (size_t t = 0; t < kThreads; ++t) {
      threads.emplace_back([&, t] {
        dsa::PageCheck ahead[3];
        for (size_t i = 0; i < kRequests + 2; ++i) {
          if (i >= 2) {
            dsa::PageCheck& check = ahead[(i - 2) % 3];
            rig.offload().wait(check);
            const Score score = score_of(check);
            bad[t] += score.wrong + score.unknown;
          }
          if (i >= kRequests) continue;
          dsa::PageCheck& check = ahead[i % 3];
          check.reset(4096);
          check.add(image.data() + (t * 64 + i * 16) * 4096, 300);
          rig.offload().submit(check);
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const size_t count : bad) CHECK_EQ(count, size_t{0});
  }
}

TEST(dsa_offload_limits_smaller_than_asked) {
  Random random(35);
  const std::vector<uint8_t> image = memory_image(random, size_t{1} << 20, 4096);
  for (const SubmitWay way : kWays) {
    for (const uint32_t size : {1U, 2U, 5U}) {
      dsa::EmulatorConfig config = config_for(way);
      config.devices[0].queues[0].size = size;
      config.devices[0].queues[0].max_batch = 4;
      config.devices[0].queues[0].max_transfer_bytes = 16384;
      OffloadRig rig(config, patient());
      if (!rig.ready() || !rig.open()) return;
      const Score score = rig.run(image.data(), image.size() / 4096);
      CHECK_EQ(score.wrong, size_t{0});
      CHECK_EQ(score.unknown, size_t{0});
      CHECK_EQ(rig.counters().errors + rig.counters().lost, uint64_t{0});
    }
  }
}

TEST(dsa_offload_pages_larger_than_the_queue_takes_stay_unknown) {
  dsa::EmulatorConfig config;
  config.devices[0].queues[0].max_transfer_bytes = 16384;
  OffloadRig rig(config);
  if (!rig.ready() || !rig.open()) return;
  const std::vector<uint8_t> zeros(size_t{1} << 20);
  CHECK_EQ(rig.run(zeros.data(), 16, 65536).unknown, size_t{16});
  CHECK_EQ(rig.run(zeros.data(), 64, 16384).zero, size_t{64});
}

TEST(dsa_offload_untouched_memory) {
  for (const SubmitWay way : kWays) {
    OffloadRig rig(config_for(way), patient());
    if (!rig.ready() || !rig.open()) return;
    const Pages pages(256);
    const Score score = rig.run(pages);
    CHECK_EQ(score.zero, size_t{256});
    CHECK(rig.counters().page_faults > 0);
  }
}

TEST(dsa_offload_beyond_the_end_of_a_file_is_unknown) {
  const UniqueFd file = temp_file();
  if (ftruncate(file.get(), 64 * 4096) != 0) return CHECK(!"ftruncate");
  void* const address = mmap(nullptr, 128 * 4096, PROT_READ, MAP_SHARED, file.get(), 0);
  if (address == MAP_FAILED) return CHECK(!"mmap");
  for (const SubmitWay way : kWays) {
    OffloadRig rig(config_for(way), patient());
    if (!rig.ready() || !rig.open()) return;
    dsa::PageCheck check;
    check.reset(4096);
    check.add(static_cast<const uint8_t*>(address), 128);
    CHECK(!rig.offload().check_now(check));
    for (size_t page = 0; page < 128; ++page) {
      if (page >= 64) CHECK(check.answers()[page] == dsa::Answer::unknown);
    }
    CHECK(check.answers()[0] == dsa::Answer::zero);
    CHECK(rig.offload().usable());
  }
  munmap(address, 128 * 4096);
}

TEST(dsa_offload_two_queues_share_the_work) {
  dsa::EmulatorConfig config;
  config.devices[0].queues.push_back(dsa::EmulatedQueue{.mode = dsa::QueueMode::dedicated});
  config.devices.push_back(dsa::EmulatedDevice{.number = 3});
  OffloadRig rig(config, patient());
  if (!rig.ready() || !rig.open()) return;
  Random random(36);
  const std::vector<uint8_t> image = memory_image(random, size_t{16} << 20, 4096);
  const Score score = rig.run(image.data(), image.size() / 4096);
  CHECK_EQ(score.wrong + score.unknown, size_t{0});
  CHECK_EQ(rig.offload().reports().size(), size_t{3});
  for (const dsa::QueueReport& report : rig.offload().reports()) CHECK(report.counters.descriptors > 0);
}

TEST(dsa_offload_idle_thread_costs_nothing) {
  OffloadRig rig({}, patient());
  if (!rig.ready() || !rig.open()) return;
  const Pages pages(512);
  rig.run(pages);
  timespec nap = {0, 50'000'000};
  nanosleep(&nap, nullptr);
  const uint64_t before = rig.offload().times().completion_cpu;
  nanosleep(&nap, nullptr);
  // Not one instruction in 50 milliseconds.
  CHECK_EQ(rig.offload().times().completion_cpu, before);
  CHECK(rig.offload().times().submission_cpu > 0);
  CHECK(rig.offload().times().waiting > 0);
}

TEST(dsa_offload_slow_device_does_not_burn_the_core) {
  dsa::EmulatorConfig config;
  config.devices[0].latency_microseconds = 100'000;
  OffloadRig rig(config, patient());
  if (!rig.ready() || !rig.open()) return;
  const uint64_t before = rig.offload().times().completion_cpu;
  Pages pages(8);
  pages.fill(0);
  CHECK_EQ(rig.run(pages).zero, size_t{8});
  CHECK(rig.offload().times().completion_cpu - before < 50'000'000);
}

TEST(dsa_offload_is_not_used_after_a_fork) {
  OffloadRig rig(config_for(SubmitWay::write_batch), patient());
  if (!rig.ready() || !rig.open()) return;
  Pages pages(64);
  pages.fill(0);
  dsa::PageCheck check;
  check.reset(4096);
  check.add(pages.at(), 64);
  CHECK(rig.offload().check_now(check));
  const uint64_t executed = rig.emulator().executed();
  const pid_t child = fork();
  if (child == 0) {
    bool good = !rig.offload().check_now(check);
    good = good && score_of(check).unknown == 64;
    good = good && !rig.offload().usable();
    rig.close();
    _exit(good ? 0 : 1);
  }
  int status = -1;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK_EQ(rig.emulator().executed(), executed);
  CHECK(rig.offload().check_now(check));
}

TEST(dsa_offload_without_its_thread_does_not_open) {
#if defined(__SANITIZE_THREAD__)
  return skip("the thread sanitizer ends a child that starts a thread");
#endif
  OffloadRig rig(config_for(SubmitWay::write_batch));
  if (!rig.ready()) return;
  InlineDevice device;
  rig.options().calls = &device;
  CHECK(rig.open());
  rig.close();
  // As a user who may have no more threads, and may read the folder.
  using std::filesystem::perms;
  const perms readable = perms::group_read | perms::group_exec | perms::others_read | perms::others_exec;
  const std::string suffix = "/sys/bus/dsa/devices";
  const std::string& sysfs_root = rig.options().sysfs_root;
  CHECK(sysfs_root.ends_with(suffix));
  const std::filesystem::path top = sysfs_root.substr(0, sysfs_root.size() - suffix.size());
  // What follows changes permissions: of the emulator's own folder and of nothing else.
  CHECK(top.filename().string().starts_with("vmsnap-dsa-"));
  if (!top.filename().string().starts_with("vmsnap-dsa-")) return;
  std::filesystem::permissions(top, readable, std::filesystem::perm_options::add);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(top)) {
    if (!entry.is_symlink()) std::filesystem::permissions(entry.path(), readable, std::filesystem::perm_options::add);
  }
  const pid_t child = fork();
  if (child == 0) {
    const rlimit none = {0, 0};
    if (setrlimit(RLIMIT_NPROC, &none) != 0) _exit(2);
    if (geteuid() == 0 && setresuid(65534, 65534, 65534) != 0) _exit(3);
    rig.try_open();
    if (rig.opened().offload) _exit(4);
    _exit(rig.opened().reason.find("thread") != std::string::npos ? 0 : 5);
  }
  int status = -1;
  CHECK_EQ(waitpid(child, &status, 0), child);
  CHECK(WIFEXITED(status));
  CHECK_EQ(WEXITSTATUS(status), 0);
}

}  // namespace vmsnap::test
