// What each record means for the pages of a compare, without a device: the records are written here.
#include <algorithm>
#include <cstring>
#include <vector>

#include "../dsa/settlement.h"
#include "support/check.h"
#include "support/emulated.h"

namespace vmsnap::test {

namespace {

using dsa::Answer;

constexpr uint32_t kUnits = 4;
constexpr uint32_t kUnitPages = 8;
constexpr size_t kPages = size_t{kUnits} * kUnitPages;
constexpr size_t kPageBytes = 4096;

/// A flight of four compares over eight pages each, as if it had come back.
class Landed {
 public:
  explicit Landed(bool as_batch, uint32_t unit_pages = kUnitPages) : pages_(kPages) {
    check_.reset(kPageBytes);
    flight_ = dsa::Flight::create(static_cast<uint32_t>(kPages));
    dsa::Piece piece;
    piece.span = {&check_, pages_.at(), answers_, kPages, unit_pages, {}};
    piece.members = static_cast<uint32_t>(kPages / unit_pages);
    flight_->pieces.push_back(piece);
    flight_->members = piece.members;
    flight_->as_batch = as_batch;
    flight_->fill();
    if (as_batch) write(const_cast<dsa::CompletionRecord&>(flight_->batch_record()), 1, 0, 0);
    for (uint32_t i = 0; i < piece.members; ++i) member(i, 1);
  }

  dsa::Tries& tries() { return flight_->pieces[0].span.tries; }

  void member(uint32_t index, uint8_t status, uint8_t result = 0, uint32_t bytes_completed = 0) {
    write(const_cast<dsa::CompletionRecord&>(flight_->records()[index]), status, result, bytes_completed);
  }
  void batch(uint8_t status) { write(const_cast<dsa::CompletionRecord&>(flight_->batch_record()), status, 0, 0); }

  const dsa::Settlement& settle(const dsa::SettleRules& rules = {.fault_retries = 3}) {
    std::fill_n(answers_, kPages, Answer::unknown);
    dsa::settle(*flight_, rules, settlement_);
    size_t pages = settlement_.pages_zero + settlement_.pages_not_zero + settlement_.pages_unknown;
    for (const dsa::Span& span : settlement_.again) {
      pages += span.pages;
      CHECK_EQ(span.address, pages_.at() + static_cast<size_t>(span.answers - answers_) * kPageBytes);
    }
    CHECK_EQ(pages, kPages);
    return settlement_;
  }

  size_t count(Answer answer) const { return static_cast<size_t>(std::count(answers_, answers_ + kPages, answer)); }
  Answer answer(size_t page) const { return answers_[page]; }
  size_t first_page(const dsa::Span& span) const { return static_cast<size_t>(span.answers - answers_); }
  uint8_t* memory() const { return pages_.at(); }

 private:
  static void write(dsa::CompletionRecord& record, uint8_t status, uint8_t result, uint32_t bytes_completed) {
    record.hw.result = result;
    record.hw.bytes_completed = bytes_completed;
    __atomic_store_n(&record.hw.status, status, __ATOMIC_RELEASE);
  }

  Pages pages_;
  dsa::PageCheck check_;
  Answer answers_[kPages] = {};
  std::unique_ptr<dsa::Flight> flight_;
  dsa::Settlement settlement_;
};

}  // namespace

TEST(dsa_offload_settles_zero_pages) {
  for (const bool as_batch : {false, true}) {
    Landed landed(as_batch);
    const dsa::Settlement& settlement = landed.settle();
    CHECK_EQ(landed.count(Answer::zero), kPages);
    CHECK(settlement.all_zero());
    CHECK_EQ(settlement.errors, uint64_t{0});
  }
}

TEST(dsa_offload_settles_single_pages) {
  Landed landed(true, 1);
  landed.member(3, 1, 1, 32);
  landed.member(31, 0x81, 1);  // the bit that tells a write fault means nothing here
  const dsa::Settlement& settlement = landed.settle();
  CHECK_EQ(landed.count(Answer::not_zero), size_t{2});
  CHECK_EQ(landed.count(Answer::zero), kPages - 2);
  CHECK(landed.answer(3) == Answer::not_zero && landed.answer(31) == Answer::not_zero);
  CHECK(settlement.saw_difference && !settlement.all_zero() && settlement.again.empty());
}

TEST(dsa_offload_splits_a_large_compare_at_the_difference) {
  Landed landed(true);
  landed.member(1, 1, 1, 3 * kPageBytes + 5);
  const dsa::Settlement& settlement = landed.settle();
  CHECK_EQ(landed.count(Answer::zero), kPages - 5);
  CHECK_EQ(settlement.again.size(), size_t{1});
  CHECK_EQ(landed.first_page(settlement.again[0]), size_t{11});
  CHECK_EQ(settlement.again[0].pages, size_t{5});
  CHECK_EQ(settlement.again[0].unit_pages, uint32_t{1});
}

TEST(dsa_offload_does_not_believe_more_bytes_than_were_asked_for) {
  for (const uint8_t status : {uint8_t{1}, uint8_t{3}, uint8_t{4}}) {
    for (const size_t bytes : {kUnitPages * kPageBytes, kUnitPages * kPageBytes + 1, size_t{UINT32_MAX}}) {
      Landed landed(true);
      landed.member(2, status, status == 1 ? 1 : 0, static_cast<uint32_t>(bytes));
      const dsa::Settlement& settlement = landed.settle();
      CHECK_EQ(landed.count(Answer::zero), kPages - kUnitPages);
      CHECK_EQ(settlement.pages_unknown, uint64_t{kUnitPages});
      CHECK_EQ(settlement.errors, uint64_t{1});
    }
  }
  Landed single(true, 1);
  single.member(7, 1, 1, kPageBytes);
  CHECK_EQ(single.settle().pages_unknown, uint64_t{1});
}

TEST(dsa_offload_does_not_believe_other_results) {
  for (const uint8_t result : {uint8_t{2}, uint8_t{3}, uint8_t{0x81}, uint8_t{0xff}}) {
    for (const uint32_t unit_pages : {uint32_t{1}, kUnitPages}) {
      Landed landed(false, unit_pages);
      landed.member(0, 1, result);
      const dsa::Settlement& settlement = landed.settle();
      CHECK_EQ(settlement.pages_unknown, uint64_t{unit_pages});
      CHECK_EQ(settlement.errors, uint64_t{1});
      CHECK_EQ(landed.count(Answer::zero), kPages - unit_pages);
    }
  }
}

TEST(dsa_offload_does_not_believe_a_predicate_that_it_did_not_ask_for) {
  for (const uint8_t result : {uint8_t{0}, uint8_t{1}}) {
    Landed landed(true, 1);
    landed.batch(5);
    landed.member(3, 2, result);
    const dsa::Settlement& settlement = landed.settle();
    CHECK_EQ(settlement.pages_unknown, uint64_t{1});
    CHECK_EQ(settlement.errors, uint64_t{1});
    CHECK(!settlement.trouble);
  }
}

TEST(dsa_offload_resumes_after_a_page_fault) {
  for (const uint8_t status : {uint8_t{0x03}, uint8_t{0x83}, uint8_t{0x43}}) {
    Landed landed(false);
    landed.member(0, status, 0, 2 * kPageBytes + 100);
    const dsa::Settlement& settlement = landed.settle();
    CHECK_EQ(settlement.page_faults, uint64_t{1});
    CHECK_EQ(settlement.errors, uint64_t{0});
    CHECK_EQ(settlement.again.size(), size_t{1});
    CHECK_EQ(landed.first_page(settlement.again[0]), size_t{2});
    CHECK_EQ(settlement.again[0].pages, size_t{6});
    CHECK_EQ(settlement.again[0].unit_pages, uint32_t{6});
    CHECK_EQ(landed.count(Answer::zero), kPages - 6);
  }
}

TEST(dsa_offload_gives_up_after_page_faults_without_progress) {
  for (uint8_t before = 0; before < 5; ++before) {
    Landed landed(false);
    landed.tries().faults = before;
    landed.member(0, 3, 0, 100);
    const dsa::Settlement& settlement = landed.settle();
    CHECK_EQ(settlement.pages_unknown, uint64_t{before < 3 ? 0 : kUnitPages});
    CHECK_EQ(settlement.again.size(), size_t{before < 3});
    if (before < 3) CHECK_EQ(settlement.again[0].tries.faults, before + 1);
    // With progress it counts anew.
    landed.member(0, 3, 0, kPageBytes);
    CHECK_EQ(landed.settle().pages_unknown, uint64_t{0});
  }
}

TEST(dsa_offload_leaves_pages_that_cannot_be_had) {
  Landed landed(false);
  munmap(landed.memory() + 2 * kPageBytes, kPageBytes);
  landed.member(0, 3, 0, 2 * kPageBytes);
  const dsa::Settlement& settlement = landed.settle();
  CHECK_EQ(settlement.pages_unknown, uint64_t{1});
  CHECK_EQ(settlement.again.size(), size_t{1});
  CHECK_EQ(landed.first_page(settlement.again[0]), size_t{3});
  // A fault before it: that page can be had, so all is tried once more.
  landed.member(0, 3, 0, kPageBytes);
  CHECK_EQ(landed.settle().pages_unknown, uint64_t{0});
}

TEST(dsa_offload_leaves_a_refused_page_and_asks_around_it) {
  Landed landed(true);
  landed.batch(5);
  landed.member(1, 4, 0, 2 * kPageBytes);
  const dsa::Settlement& settlement = landed.settle();
  CHECK_EQ(settlement.pages_unknown, uint64_t{1});
  CHECK_EQ(settlement.again.size(), size_t{2});
  CHECK_EQ(landed.first_page(settlement.again[0]), size_t{8});
  CHECK_EQ(settlement.again[0].pages, size_t{2});
  CHECK_EQ(landed.first_page(settlement.again[1]), size_t{11});
  CHECK_EQ(settlement.again[1].pages, size_t{5});
  landed.tries().faults = 3;
  CHECK_EQ(landed.settle().pages_unknown, uint64_t{kUnitPages});
}

TEST(dsa_offload_asks_again_what_a_batch_did_not_begin) {
  for (const uint8_t status : {uint8_t{0x05}, uint8_t{0x06}, uint8_t{0x86}, uint8_t{0x01}}) {
    Landed landed(true);
    landed.batch(status);
    landed.member(2, 0);
    landed.member(3, 0);
    const dsa::Settlement& settlement = landed.settle();
    CHECK_EQ(landed.count(Answer::zero), kPages / 2);
    CHECK_EQ(settlement.again.size(), size_t{1});  // one after the other, so together
    CHECK_EQ(settlement.again[0].pages, kPages / 2);
    CHECK_EQ(settlement.again[0].unit_pages, kUnitPages);
    CHECK_EQ(settlement.batch_faults, uint64_t{(status & 0x3f) == 6});
  }
  // Where nothing at all was begun, not for ever.
  Landed landed(true);
  landed.batch(6);
  for (uint32_t i = 0; i < kUnits; ++i) landed.member(i, 0);
  CHECK_EQ(landed.settle().again.size(), size_t{1});
  landed.tries().abandoned = 3;
  CHECK_EQ(landed.settle().pages_unknown, uint64_t{kPages});
}

TEST(dsa_offload_tells_the_queue_about_refused_sizes) {
  Landed landed(true);
  landed.batch(5);
  landed.member(0, 0x13);
  CHECK_EQ(landed.settle().refused_unit_bytes, static_cast<uint32_t>(kUnitPages * kPageBytes));
  CHECK_EQ(landed.settle().again.size(), size_t{1});
  Landed too_many(true);
  too_many.batch(0x14);
  for (uint32_t i = 0; i < kUnits; ++i) too_many.member(i, 0);
  CHECK_EQ(too_many.settle().refused_batch_members, kUnits);
  CHECK_EQ(too_many.settle().again.size(), size_t{1});
}

TEST(dsa_offload_does_not_repeat_what_is_refused) {
  for (const uint8_t status : {uint8_t{0x10}, uint8_t{0x11}, uint8_t{0x12}, uint8_t{0x19}, uint8_t{0x1e}}) {
    Landed landed(true);
    landed.batch(5);
    landed.member(3, status);
    const dsa::Settlement& settlement = landed.settle();
    CHECK(settlement.compare_refused);
    CHECK_EQ(settlement.pages_unknown, uint64_t{kUnitPages});
    CHECK_EQ(settlement.last_error, status);
    CHECK(settlement.again.empty());
    Landed batch(true);
    batch.batch(status);
    for (uint32_t i = 0; i < kUnits; ++i) batch.member(i, 0);
    CHECK(batch.settle().batch_refused);
    CHECK(!batch.settle().compare_refused);
    CHECK_EQ(batch.settle().again.size(), size_t{1});
  }
}

TEST(dsa_offload_tries_once_more_after_device_trouble) {
  for (const uint8_t status : {uint8_t{0x1f}, uint8_t{0x20}, uint8_t{0x21}, uint8_t{0x22}, uint8_t{0xa2}}) {
    Landed landed(false);
    landed.member(1, status);
    CHECK_EQ(landed.settle().again.size(), size_t{1});
    CHECK(!landed.settle().trouble);
    landed.tries().troubles = 1;
    CHECK(landed.settle().again.empty());
    CHECK(landed.settle().trouble);
    CHECK_EQ(landed.settle().pages_unknown, uint64_t{kUnitPages});
  }
}

TEST(dsa_offload_believes_nothing_after_a_foreign_status) {
  for (const uint8_t status : {uint8_t{0x0a}, uint8_t{0x23}, uint8_t{0x3f}}) {
    Landed member(false);
    member.member(0, status);
    CHECK_EQ(member.settle().pages_unknown, uint64_t{kUnitPages});
    CHECK(member.settle().trouble);
    Landed batch(true);
    batch.batch(status);
    CHECK_EQ(batch.settle().pages_unknown, uint64_t{kPages});
    CHECK(batch.settle().trouble);
  }
  // Statuses of batches, in a record that is none of a batch's.
  for (const uint8_t status : {uint8_t{0x05}, uint8_t{0x06}}) {
    Landed member(false);
    member.member(0, status);
    CHECK_EQ(member.settle().pages_unknown, uint64_t{kUnitPages});
  }
}

TEST(dsa_offload_keeps_what_a_lost_flight_has_answered) {
  Landed single(false);
  single.member(2, 0);
  const dsa::SettleRules lost = {.fault_retries = 3, .lost = true};
  CHECK_EQ(single.settle(lost).lost, uint64_t{1});
  CHECK_EQ(single.settle(lost).pages_unknown, uint64_t{kUnitPages});
  CHECK_EQ(single.count(Answer::zero), kPages - kUnitPages);
  Landed batch(true);
  batch.batch(0);
  batch.member(2, 0);
  CHECK_EQ(batch.settle(lost).lost, uint64_t{1});
  CHECK_EQ(batch.settle(lost).pages_unknown, uint64_t{kUnitPages});
}

TEST(dsa_offload_believes_nothing_without_trust) {
  Landed landed(true);
  CHECK_EQ(landed.settle({.fault_retries = 3, .trusted = false}).pages_unknown, uint64_t{kPages});
  CHECK_EQ(landed.count(Answer::unknown), kPages);
}

}  // namespace vmsnap::test
