// The plan of faults: each kind does what it says, at the numbers that it says, every time.
#include <algorithm>
#include <array>
#include <cerrno>
#include <vector>

#include "support/emulated.h"

namespace vmsnap::test {

using namespace dsa;

namespace {

/// What a compare of zeros told, one at a time.
struct Told {
  uint8_t status;
  uint8_t result;
  uint32_t bytes_completed;

  bool operator==(const Told&) const = default;
};

class Compares {
 public:
  explicit Compares(Rig& rig) : rig_(rig) { pages_.fill(0); }

  Told next(unsigned milliseconds = 5000) {
    auto record = std::make_unique<CompletionRecord>();
    const dsa_hw_desc descriptor = compval_of(pages_.at(), 16384, 0, record.get());
    if (rig_.write(&descriptor) != 64) return {0xff, 0, 0};
    await_record(*record, milliseconds);
    const RecordCopy copy = Rig::taken(record);
    return {copy.status, copy.result, copy.bytes_completed};
  }
  Pages& pages() { return pages_; }

 private:
  Rig& rig_;
  Pages pages_{4};
};

constexpr Told kZero = {1, 0, 0};

}  // namespace

TEST(dsa_emulator_injects_faults_into_compares) {
  Rig rig({.faults = {{.kind = FaultKind::page_fault, .first = 1, .value = 5000},
                      {.kind = FaultKind::write_fault, .first = 2, .value = 4096},
                      {.kind = FaultKind::status, .first = 3, .count = 2, .value = 0x1f},
                      {.kind = FaultKind::wrong_answer, .first = 5},
                      {.kind = FaultKind::page_fault, .first = 6, .value = 1 << 30},
                      {.kind = FaultKind::status, .first = 7, .value = 0x1a}}});
  if (!rig.ready()) return;
  Compares compares(rig);
  // Only compares count.
  CHECK_EQ(rig.run([] {
                dsa_hw_desc noop = descriptor_of(DSA_OPCODE_NOOP, nullptr);
                noop.flags = IDXD_OP_FLAG_CRAV | IDXD_OP_FLAG_RCR;
                return noop;
              }())
               .status,
           DSA_COMP_SUCCESS);
  const std::vector<Told> expected = {kZero,     {3, 0, 5000},  {0x83, 0, 4096}, {0x1f, 0, 0}, {0x1f, 0, 0},
                                      {1, 1, 0}, {3, 0, 16383}, {0x1a, 0, 0},    kZero};
  for (const Told& told : expected) CHECK(compares.next() == told);
  CHECK(!rig.emulator().software_error(0).valid);
}

TEST(dsa_emulator_lets_a_difference_come_before_an_injected_fault) {
  Rig rig({.faults = {{.kind = FaultKind::page_fault, .count = 2, .value = 4096}}});
  if (!rig.ready()) return;
  Compares compares(rig);
  compares.pages().at()[4095] = 1;
  CHECK(compares.next() == (Told{1, 1, 4064}));
  compares.pages().at()[4095] = 0;
  CHECK(compares.next() == (Told{3, 0, 4096}));
}

TEST(dsa_emulator_answers_late_or_never) {
  Rig rig({.faults = {{.kind = FaultKind::never_written, .first = 0},
                      {.kind = FaultKind::late, .first = 1, .value = 80},
                      {.kind = FaultKind::never_written, .first = 3, .of = FaultUnit::descriptors}}});
  if (!rig.ready()) return;
  Compares compares(rig);
  CHECK(compares.next(50) == Told{});
  auto record = std::make_unique<CompletionRecord>();
  const dsa_hw_desc descriptor = compval_of(compares.pages().at(), 4096, 0, record.get());
  CHECK_EQ(rig.write(&descriptor), ssize_t{64});
  CHECK_EQ(await_record(*record, 40), DSA_COMP_NONE);
  CHECK_EQ(await_record(*record), DSA_COMP_SUCCESS);
  CHECK(compares.next() == kZero);
  CHECK(compares.next(50) == Told{});
  CHECK(compares.next() == kZero);
}

TEST(dsa_emulator_counts_members_in_the_order_of_the_list) {
  for (const bool reverse : {false, true}) {
    Rig rig({.devices = {{.engines = 4, .reverse_members = reverse}},
             .faults = {{.kind = FaultKind::status, .first = 5, .value = 0x20},
                        {.kind = FaultKind::status, .first = 12, .value = 0x21},
                        {.kind = FaultKind::never_written, .first = 16}}});
    if (!rig.ready()) return;
    Pages pages(1);
    pages.fill(0);
    struct alignas(64) Batch {
      std::array<dsa_hw_desc, 8> members;
      std::array<CompletionRecord, 9> records{};
    };
    // Compares 0 to 7, 8 to 15 and 16 to 23, all under way at once.
    std::array<std::unique_ptr<Batch>, 3> batches;
    for (auto& batch : batches) {
      batch = std::make_unique<Batch>();
      for (size_t i = 0; i < 8; ++i) batch->members[i] = compval_of(pages.at(), 4096, 0, &batch->records[i]);
      const dsa_hw_desc descriptor = batch_of(batch->members.data(), 8, &batch->records[8]);
      CHECK_EQ(rig.write(&descriptor), ssize_t{64});
    }
    CHECK_EQ(await_record(batches[0]->records[8]), DSA_COMP_BATCH_FAIL);
    CHECK_EQ(await_record(batches[1]->records[8]), DSA_COMP_BATCH_FAIL);
    for (size_t i = 0; i < 8; ++i) {
      CHECK_EQ(await_record(batches[0]->records[i]), i == 5 ? 0x20 : 1);
      CHECK_EQ(await_record(batches[1]->records[i]), i == 4 ? 0x21 : 1);
    }
    // A batch is not answered before its members.
    CHECK_EQ(await_record(batches[2]->records[8], 60), DSA_COMP_NONE);
    CHECK_EQ(await_record(batches[2]->records[0], 0), DSA_COMP_NONE);
    CHECK_EQ(await_record(batches[2]->records[1]), DSA_COMP_SUCCESS);
  }
}

TEST(dsa_emulator_fails_calls_as_planned) {
  Rig rig({.faults = {{.kind = FaultKind::queue_full, .first = 0},
                      {.kind = FaultKind::short_write, .first = 1, .value = 2},
                      {.kind = FaultKind::write_error, .first = 2, .value = EIO}}});
  if (!rig.ready()) return;
  std::array<CompletionRecord, 4> records{};
  std::array<dsa_hw_desc, 4> noops;
  for (size_t i = 0; i < 4; ++i) noops[i] = descriptor_of(DSA_OPCODE_NOOP, &records[i]);
  CHECK_EQ(rig.write(noops.data(), 4), ssize_t{-EAGAIN});
  CHECK_EQ(rig.write(noops.data(), 4), ssize_t{128});
  CHECK_EQ(rig.write(noops.data(), 4), ssize_t{-EIO});
  CHECK_EQ(rig.write(&noops[2], 2), ssize_t{128});
  for (const CompletionRecord& record : records) CHECK_EQ(await_record(record), DSA_COMP_SUCCESS);
}

#if defined(__x86_64__)
TEST(dsa_emulator_refuses_stores_as_planned) {
  const Fault full = {.kind = FaultKind::queue_full, .first = 1, .count = 3};
  Rig shared({.faults = {full}});
  if (!shared.ready()) return;
  CompletionRecord record{};
  const dsa_hw_desc noop = descriptor_of(DSA_OPCODE_NOOP, &record);
  for (size_t i = 0; i < 6; ++i) CHECK_EQ(enqcmd(shared.portal(), noop).zero_flag, i >= 1 && i <= 3);
  Rig dedicated({.devices = {{.queues = {{.mode = QueueMode::dedicated}}}}, .faults = {full}});
  std::array<CompletionRecord, 6> records{};
  for (CompletionRecord& each : records) movdir64b(dedicated.portal(), descriptor_of(DSA_OPCODE_NOOP, &each));
  CHECK_EQ(await_record(records[5]), DSA_COMP_SUCCESS);
  CHECK_EQ(dedicated.emulator().close(dedicated.fd()), 0);
  for (size_t i = 0; i < 6; ++i) CHECK_EQ(await_record(records[i], 0), i >= 1 && i <= 3 ? 0 : 1);
  CHECK_EQ(dedicated.emulator().software_error(0).error, 0x53);
}
#endif

TEST(dsa_emulator_loses_a_device_and_gets_it_back) {
  for (const FaultKind kind : {FaultKind::device_lost, FaultKind::device_halted}) {
    const bool lost = kind == FaultKind::device_lost;
    Rig rig({.devices = {{.latency_microseconds = 50'000}},
             .faults = {{.kind = kind, .first = 2}, {.kind = FaultKind::device_back, .first = 4}}});
    if (!rig.ready()) return;
    std::array<CompletionRecord, 5> records{};
    std::array<dsa_hw_desc, 5> noops;
    for (size_t i = 0; i < 5; ++i) noops[i] = descriptor_of(DSA_OPCODE_NOOP, &records[i]);
    const ssize_t refused = lost ? -ENXIO : -EAGAIN;
    CHECK_EQ(rig.write(&noops[0]), ssize_t{64});
    CHECK_EQ(rig.write(&noops[1]), ssize_t{64});
    CHECK_EQ(rig.write(&noops[2]), refused);
    CHECK_EQ(rig.emulator().open(rig.node().c_str()) == -ENXIO, lost);
    CHECK_EQ(rig.emulator().poll_error(rig.fd(), 0), lost ? -ENXIO : 0);
    CHECK_EQ(rig.write(&noops[3]), refused);
    CHECK_EQ(rig.write(&noops[4]), ssize_t{64});
    CHECK_EQ(await_record(records[4]), DSA_COMP_SUCCESS);
    // What was under way is lost for ever.
    for (size_t i = 0; i < 4; ++i) CHECK_EQ(await_record(records[i], 0), DSA_COMP_NONE);
    // At once, as submission 0 has been.
    rig.emulator().add_fault({.kind = kind});
    CHECK_EQ(rig.write(&noops[0]), refused);
    CHECK_EQ(rig.emulator().close(rig.fd()), 0);
    rig.emulator().add_fault({.kind = FaultKind::device_back});
  }
}

TEST(dsa_emulator_wakes_who_polls_a_device_that_is_lost) {
  Rig rig;
  if (!rig.ready()) return;
  CompletionRecord record{};
  const dsa_hw_desc noop = descriptor_of(DSA_OPCODE_NOOP, &record);
  CHECK_EQ(rig.write(&noop), ssize_t{64});
  CHECK_EQ(await_record(record), DSA_COMP_SUCCESS);
  rig.emulator().add_fault({.kind = FaultKind::device_lost, .first = 1});
  CHECK_EQ(rig.write(&noop), ssize_t{-ENXIO});
  CHECK_EQ(rig.emulator().poll_error(rig.fd(), -1), -ENXIO);
}

TEST(dsa_emulator_opens_a_halted_device_that_takes_nothing) {
  Rig rig({.devices = {{.state = "halted"}}});
  if (!rig.ready()) return;
  CompletionRecord record{};
  const dsa_hw_desc noop = descriptor_of(DSA_OPCODE_NOOP, &record);
  CHECK(rig.fd() >= 0);
  CHECK_EQ(rig.write(&noop), ssize_t{-EAGAIN});
#if defined(__x86_64__)
  CHECK(enqcmd(rig.portal(), noop).zero_flag);
#endif
}

TEST(dsa_emulator_repeats_random_faults_of_a_seed) {
  const auto told_with = [](uint64_t seed, uint32_t permille) {
    Rig rig(
        {.random_seed = seed,
         .random_permille = permille,
         .random_kinds = {FaultKind::page_fault, FaultKind::status, FaultKind::device_lost, FaultKind::write_error}});
    std::vector<Told> all;
    if (!rig.ready()) return all;
    Compares compares(rig);
    for (int i = 0; i < 200; ++i) all.push_back(compares.next());
    return all;
  };
  const std::vector<Told> some = told_with(7, 200);
  if (some.empty()) return;
  CHECK(some == told_with(7, 200));
  CHECK(some != told_with(8, 200));
  const auto faults = std::count_if(some.begin(), some.end(), [](const Told& told) { return told != kZero; });
  CHECK(faults > 20 && faults < 120);
  CHECK(told_with(7, 0) == std::vector<Told>(200, kZero));
}

}  // namespace vmsnap::test
