// For any memory, any queues and any faults: what the driver answers is what the CPU finds, every wait ends, and where
// nothing goes wrong there is an answer for every page.
//
//   VMSNAP_DSA_ROUNDS=100000    more rounds than fit into a test run
//   VMSNAP_DSA_SEED=123         begins with this one: what a failure prints
#include <atomic>
#include <cstdlib>
#include <thread>

#include "../dsa/clock.h"
#include "support/check.h"
#include "support/dsa_answers.h"
#include "support/dsa_emulator.h"
#include "support/dsa_terrain.h"
#include "support/dsa_watchdog.h"
#include "support/dsa_world.h"

namespace vmsnap::test {

namespace {

using dsa::Answer;
using dsa::Offload;
using dsa::PageCheck;

constexpr uint64_t kDefaultRounds = 100;
/// Of one round. Several times what the limits of a round add up to.
constexpr unsigned kLongestSeconds = 120;

uint64_t number_from_environment(const char* name, uint64_t fallback) {
  const char* const text = std::getenv(name);
  return text != nullptr && *text != '\0' ? std::strtoull(text, nullptr, 10) : fallback;
}

struct Round {
  const World& world;
  const Terrain& terrain;
  Offload& offload;
  size_t page_bytes = 4096;
  /// Every page must have an answer.
  bool all_known = false;
  bool waits = true;
  std::atomic<size_t> wrong = 0;
  std::atomic<size_t> unknown = 0;
};

size_t random_page_bytes(Random& random) {
  return pick<size_t>(random, {4096, 4096, 4096, 4096, 8192, 65536, 64, 100});
}

/// Runs anywhere, in any order; they may overlap.
void add_random_runs(Random& random, const Round& round, PageCheck& check) {
  const size_t most = round.terrain.size_bytes() / round.page_bytes;
  check.reset(round.page_bytes);
  for (uint64_t runs = random.below(6); runs > 0 && most > 0; --runs) {
    const size_t first = random.below(most);
    // Not only at multiples of the page.
    const size_t slack = round.terrain.size_bytes() - most * round.page_bytes;
    const size_t pages = random.below(std::min<size_t>(most - first, chance(random, 50) ? 300 : 8) + 1);
    check.add(round.terrain.at(first * round.page_bytes + (slack > 0 ? random.below(slack) : 0)), pages);
  }
}

void judge(Round& round, const PageCheck& check) {
  size_t page = 0;
  for (const dsa::PageRun& run : check.runs()) {
    for (size_t i = 0; i < run.pages; ++i, ++page) {
      const Answer answer = check.answers()[page];
      if (answer == Answer::unknown) ++round.unknown;
      if (!round.terrain.allows(answer, run.address + i * round.page_bytes, round.page_bytes)) ++round.wrong;
    }
  }
}

/// What one thread does: several requests in flight, waited for in another order than they came.
void ask(Round& round, uint64_t seed, std::vector<PageCheck>& checks) {
  Random random(seed);
  for (PageCheck& check : checks) {
    add_random_runs(random, round, check);
    round.offload.submit(check);
  }
  if (!round.waits) return;
  std::vector<size_t> order;
  for (size_t i = 0; i < checks.size(); ++i) {
    order.insert(order.begin() + static_cast<ptrdiff_t>(random.below(order.size() + 1)), i);
  }
  for (const size_t i : order) {
    round.offload.wait(checks[i]);
    judge(round, checks[i]);
    if (!chance(random, 30)) continue;
    add_random_runs(random, round, checks[i]);
    round.offload.check_now(checks[i]);
    judge(round, checks[i]);
  }
}

void ask_from_threads(Random& random, Round& round, std::vector<std::vector<PageCheck>>& checks) {
  std::vector<std::thread> threads;
  checks.resize(1 + random.below(3));
  for (std::vector<PageCheck>& own : checks) {
    own.resize(1 + random.below(3));
    threads.emplace_back([&round, &own, seed = random.next()] { ask(round, seed, own); });
  }
  // Asking how it goes disturbs nobody.
  round.offload.reports();
  round.offload.times();
  if (round.world.has_faults && chance(random, 3)) round.offload.distrust();
  for (std::thread& thread : threads) thread.join();
}

/// What went wrong, or "".
std::string try_world(uint64_t seed) {
  Random random(seed);
  World world = random_world(random);
  const Terrain terrain(random, chance(random, 40));
  const size_t page_bytes = random_page_bytes(random);

  std::string error;
  const std::unique_ptr<dsa::Emulator> emulator = create_emulator(world.config, error);
  if (emulator == nullptr) return "cannot be emulated: " + error;
  dsa::OffloadOptions options;
  options.sysfs_root = emulator->sysfs_root();
  options.device_root = emulator->device_root();
  options.calls = emulator.get();
  options.limits = world.limits;
  Offload::Opened opened = Offload::open(options);
  if (opened.offload == nullptr) return world.has_faults ? "" : "cannot be opened: " + opened.reason;
  for (const dsa::Fault& fault : world.faults) emulator->add_fault(fault);

  Round round{.world = world, .terrain = terrain, .offload = *opened.offload, .page_bytes = page_bytes};
  round.waits = chance(random, 90);
  round.all_known = round.waits && !world.has_faults && !terrain.has_gone() &&
                    page_bytes <= world.least_transfer_bytes &&
                    (world.limits.fault_retries > 0 || !terrain.has_untouched());
  std::vector<std::vector<PageCheck>> checks;
  ask_from_threads(random, round, checks);
  opened.offload.reset();
  if (!round.waits) {
    for (const std::vector<PageCheck>& own : checks) {
      for (const PageCheck& check : own) judge(round, check);
    }
  }
  if (round.wrong > 0 && !world.lies) return std::to_string(round.wrong) + " wrong answers";
  if (round.unknown > 0 && round.all_known) return std::to_string(round.unknown) + " pages without an answer";
  for (const dsa::EmulatedDevice& device : world.config.devices) {
    const dsa::SoftwareError trouble = emulator->software_error(device.number);
    if (trouble.valid && !world.has_faults) return "software error " + std::to_string(trouble.error);
  }
  return "";
}

}  // namespace

TEST(dsa_property_answers_are_the_cpus_whatever_happens) {
  const uint64_t rounds = number_from_environment("VMSNAP_DSA_ROUNDS", kDefaultRounds);
  const uint64_t first = number_from_environment("VMSNAP_DSA_SEED", 1);
  const bool loud = std::getenv("VMSNAP_DSA_ROUNDS") != nullptr;
  int64_t longest = 0;
  uint64_t longest_seed = 0;
  for (uint64_t seed = first; seed < first + rounds; ++seed) {
    const Watchdog watchdog("VMSNAP_DSA_SEED=" + std::to_string(seed), kLongestSeconds);
    const int64_t start = dsa::now_nanoseconds();
    const std::string trouble = try_world(seed);
    if (!trouble.empty()) {
      std::cerr << "  VMSNAP_DSA_SEED=" << seed << ": " << trouble << '\n';
      CHECK(trouble.empty());
    }
    const int64_t took = dsa::now_nanoseconds() - start;
    if (took <= longest) continue;
    longest = took;
    longest_seed = seed;
  }
  if (loud) std::cout << "  the longest took " << longest / 1'000'000 << " ms: seed " << longest_seed << '\n';
}

}  // namespace vmsnap::test
