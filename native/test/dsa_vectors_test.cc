// Byte vectors, worked out by hand from the tables of the specification: what the driver sends, and how it reads what
// comes back.
#include <cstdio>
#include <cstring>

#include "../dsa/descriptor.h"
#include "../dsa/flight.h"
#include "../dsa/settlement.h"
#include "../dsa/status.h"
#include "support/check.h"
#include "support/dsa_answers.h"
#include "support/emulated.h"

namespace vmsnap::test {

namespace {

using dsa::Answer;
using dsa::CompletionRecord;
using dsa::Descriptor;
using dsa::PageCheck;

template <class Anywhere>
Anywhere* at(uint64_t address) {
  return reinterpret_cast<Anywhere*>(address);
}

template <class Bytes>
std::string hex(const Bytes& bytes, size_t from, size_t to) {
  const auto* const all = reinterpret_cast<const uint8_t*>(&bytes);
  std::string text;
  for (size_t i = from; i < to; ++i) {
    char digits[3];
    std::snprintf(digits, sizeof digits, "%02x", all[i]);
    text += digits;
    if (i % 4 == 3 && i + 1 < to) text += ' ';
  }
  return text;
}

std::string zeros(size_t groups) {
  std::string text;
  for (size_t i = 0; i < groups; ++i) text += i == 0 ? "00000000" : " 00000000";
  return text;
}

std::vector<uint8_t> bytes_of(const char* text, size_t size_bytes) {
  std::vector<uint8_t> bytes;
  for (unsigned byte = 0; *text != '\0'; text += *text == ' ' ? 1 : 2) {
    if (*text != ' ' && std::sscanf(text, "%2x", &byte) == 1) bytes.push_back(static_cast<uint8_t>(byte));
  }
  bytes.resize(size_bytes);
  return bytes;
}

/// Two pages, compared at once; the device's answer is `record`.
struct Settled {
  PageCheck check;
  dsa::Settlement settlement;
  dsa::Span span;

  Settled(const uint8_t* address, const char* record) {
    check.reset(4096);
    check.add(address, 2);
    span.check = &check;
    span.address = address;
    span.answers = const_cast<Answer*>(check.answers().data());
    span.pages = 2;
    span.unit_pages = 2;
    const std::unique_ptr<dsa::Flight> flight = dsa::Flight::create(1);
    flight->pieces.push_back({span, 1});
    flight->members = 1;
    flight->fill();
    // The device's part: it alone writes there.
    std::memcpy(const_cast<CompletionRecord*>(flight->records()), bytes_of(record, 32).data(), 32);
    CHECK(flight->is_done());
    dsa::settle(*flight, {.fault_retries = 3}, settlement);
  }

  bool answers_are(Answer first, Answer second) const {
    return check.answers()[0] == first && check.answers()[1] == second;
  }
  /// What is asked again: one span, from that page on.
  bool again_from(size_t page) const {
    return settlement.again.size() == 1 && settlement.again[0].address == span.address + page * 4096 &&
           settlement.again[0].pages == 2 - page;
  }
};

}  // namespace

TEST(dsa_vector_of_a_zero_check) {
  const Descriptor descriptor =
      dsa::zero_check_descriptor(at<void>(0x7f0000100000), 4096, at<CompletionRecord>(0x7f0000001020));
  CHECK_EQ(hex(descriptor, 0, 40),
           "00000000 0c000006 20100000 007f0000 00001000 007f0000 00000000 00000000 00100000 00000000");
  CHECK_EQ(hex(descriptor, 40, 64), zeros(6));
}

TEST(dsa_vector_of_a_batch) {
  const Descriptor descriptor =
      dsa::batch_descriptor(at<Descriptor>(0x7f0000200000), 128, at<CompletionRecord>(0x7f0000001000));
  CHECK_EQ(hex(descriptor, 0, 40),
           "00000000 0c000001 00100000 007f0000 00002000 007f0000 00000000 00000000 80000000 00000000");
  CHECK_EQ(hex(descriptor, 40, 64), zeros(6));
}

TEST(dsa_vector_of_a_noop) {
  const Descriptor descriptor = dsa::noop_descriptor(at<CompletionRecord>(0x7f0000001040));
  CHECK_EQ(hex(descriptor, 0, 16), "00000000 0c000000 40100000 007f0000");
  CHECK_EQ(hex(descriptor, 16, 64), zeros(12));
}

// What lies in a flight, filled as for a queue, is the same as the single vectors.
TEST(dsa_vectors_of_a_filled_flight) {
  Pages pages(3);
  PageCheck check = check_of(pages.at(), 3);
  dsa::Span span;
  span.check = &check;
  span.address = pages.at();
  span.pages = 3;
  span.unit_pages = 1;
  const std::unique_ptr<dsa::Flight> flight = dsa::Flight::create(8);
  for (int use = 0; use < 2; ++use) {
    flight->pieces = {{span, 3}};
    flight->members = 3;
    flight->as_batch = true;
    flight->fill();
    const Descriptor& batch = *flight->first_descriptor();
    const auto* const list = at<const Descriptor>(batch.hw.desc_list_addr);
    CHECK_EQ(batch.hw.desc_list_addr % 64, uint64_t{0});
    const Descriptor expected = dsa::batch_descriptor(list, 3, &flight->batch_record());
    CHECK_EQ(hex(batch, 0, 64), hex(expected, 0, 64));
    for (size_t i = 0; i < 3; ++i) {
      const Descriptor member = dsa::zero_check_descriptor(pages.at(i * 4096), 4096, flight->records() + i);
      CHECK_EQ(hex(list[i], 0, 64), hex(member, 0, 64));
      CHECK_EQ(list[i].hw.completion_addr % 32, uint64_t{0});
      CHECK_EQ(dsa::status_of(flight->records()[i]), uint8_t{0});
    }
  }
}

// At 0x7f0000101000, after 4096 good bytes: the rest is asked again from there.
TEST(dsa_vector_of_a_page_fault) {
  Pages pages(2);
  for (const char* record : {"03000000 00100000 00101000 007f0000", "83000000 00100000 00101000 007f0000"}) {
    const Settled settled(pages.at(), record);
    CHECK(settled.answers_are(Answer::zero, Answer::unknown));
    CHECK(settled.again_from(1));
    CHECK_EQ(settled.settlement.page_faults, uint64_t{1});
    CHECK_EQ(settled.settlement.errors, uint64_t{0});
  }
}

// A difference at or after byte 32: no page is settled, as the place is a lower bound only.
TEST(dsa_vector_of_a_difference) {
  Pages pages(2);
  const Settled settled(pages.at(), "01010000 20000000");
  CHECK(settled.answers_are(Answer::unknown, Answer::unknown));
  CHECK(settled.again_from(0));
  CHECK_EQ(settled.settlement.again[0].unit_pages, 1U);
  const Settled in_the_second(pages.at(), "01010000 20100000");
  CHECK(in_the_second.answers_are(Answer::zero, Answer::unknown));
  CHECK(in_the_second.again_from(1));
}

TEST(dsa_vector_of_equality) {
  Pages pages(2);
  const Settled settled(pages.at(), "01");
  CHECK(settled.answers_are(Answer::zero, Answer::zero));
  CHECK(settled.settlement.again.empty());
  CHECK_EQ(settled.settlement.pages_zero, uint64_t{2});
}

// Bytes completed beyond what was asked for, and results that do not exist: nothing of it is believed.
TEST(dsa_vectors_of_nonsense_are_not_believed) {
  Pages pages(2);
  for (const char* record : {"01010000 00200000", "01010000 ffffffff", "03000000 00200000", "01020000", "01ff0000",
                             "01800000 00100000", "3f000000", "07010000 20000000"}) {
    const Settled settled(pages.at(), record);
    CHECK(settled.answers_are(Answer::unknown, Answer::unknown));
    CHECK_EQ(settled.settlement.pages_unknown, uint64_t{2});
    CHECK(settled.settlement.again.empty());
    CHECK_EQ(settled.settlement.errors, uint64_t{1});
  }
}

}  // namespace vmsnap::test
