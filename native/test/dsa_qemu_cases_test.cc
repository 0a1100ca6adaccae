// The 18 cases of QEMU's test of its own DSA driver (tests/unit/test-dsa.c of series v9, never merged), by name and
// meaning, over every way to submit and over real queues. What QEMU ends with an abort is a typed refusal here, and its
// hard-coded queues are those of the back end.
//
// QEMU's start and stop of a device are the opening and the end of an Offload; its batch task is a PageCheck.
#include <cstdlib>
#include <type_traits>

#include <sys/mman.h>

#include "support/dsa_answers.h"
#include "support/dsa_backend.h"
#include "support/dsa_counting_calls.h"
#include "support/emulated.h"
#include "support/random.h"

namespace vmsnap::test {

namespace {

using dsa::Answer;
using dsa::Offload;
using dsa::PageCheck;

constexpr size_t kBatchPages = 128;
constexpr size_t kPageBytes = 4096;

void fill_randomly(Pages& pages, uint64_t seed) {
  const std::vector<uint8_t> bytes = Random(seed).bytes(pages.size_bytes());
  std::memcpy(pages.at(), bytes.data(), bytes.size());
}

/// QEMU's mixture: some pages zero, some of 0xff, the others of whatever.
void fill_mixed(Pages& pages, uint64_t seed) {
  fill_randomly(pages, seed);
  std::memset(pages.at(), 0, 10 * kPageBytes);
  std::memset(pages.at(10 * kPageBytes), 0xff, 10 * kPageBytes);
}

void check_mixed_pages(Offload& offload, uint64_t seed) {
  Pages pages(kBatchPages);
  fill_mixed(pages, seed);
  CHECK(answers_rightly(offload, pages.at(), kBatchPages));
}

}  // namespace

DSA_CASE(qemu_multiple_engines) {
  if (backend.nodes().size() < 2) return skip("needs two queues");
  const auto offload = backend.open(2);
  Pages first(kBatchPages);
  Pages second(kBatchPages);
  fill_mixed(first, 1);
  fill_mixed(second, 2);
  PageCheck checks[] = {check_of(first.at(), kBatchPages), check_of(second.at(), kBatchPages)};
  for (PageCheck& check : checks) offload->submit(check);
  for (PageCheck& check : checks) offload->wait(check);
  for (const PageCheck& check : checks) CHECK(all_right(check));
  for (const dsa::QueueReport& report : offload->reports()) CHECK(report.counters.descriptors > 0);
}

DSA_CASE(qemu_async_batch) {
  const auto offload = backend.open();
  check_mixed_pages(*offload, 3);
  CHECK_EQ(sum_of_counters(*offload).batches > 0, backend.has_batches());
}

DSA_CASE(qemu_async_various_buffer_sizes) {
  const auto offload = backend.open();
  for (size_t unit_bytes = 16; unit_bytes <= 65536; unit_bytes *= 2) {
    std::vector<uint8_t> memory = Random(unit_bytes).bytes(kBatchPages * unit_bytes);
    std::memset(memory.data(), 0, 10 * unit_bytes);
    std::memset(memory.data() + 10 * unit_bytes, 0xff, 10 * unit_bytes);
    CHECK(answers_rightly(*offload, memory.data(), kBatchPages, unit_bytes));
  }
}

// QEMU aborts.
DSA_CASE(qemu_async_null_buf) {
  const auto offload = backend.open();
  PageCheck check = check_of(nullptr, kBatchPages);
  CHECK(!offload->check_now(check));
  CHECK(all_are(check, Answer::unknown));
  // The other pages of such a request have their answers.
  Pages pages(1);
  pages.fill(0);
  check.add(pages.at(), 1);
  CHECK(!offload->check_now(check));
  CHECK(check.answers().back() == Answer::zero);
  CHECK(check.answers().front() == Answer::unknown);
  check_mixed_pages(*offload, 4);
}

// QEMU aborts.
DSA_CASE(qemu_async_zero_len) {
  const auto offload = backend.open();
  Pages pages(1);
  pages.fill(0);
  PageCheck check = check_of(pages.at(), kBatchPages, 0);
  CHECK(!offload->check_now(check));
  CHECK(all_are(check, Answer::unknown));
  CHECK_EQ(sum_of_counters(*offload).descriptors, uint64_t{0});
  check_mixed_pages(*offload, 5);
}

// QEMU returns an error. Here a request may have any size: what does not go into one batch goes into the next.
DSA_CASE(qemu_async_oversized_batch) {
  const auto offload = backend.open();
  Pages pages(kBatchPages + 1);
  fill_mixed(pages, 6);
  PageCheck check = check_of(pages.at(), kBatchPages + 1);
  CHECK(offload->check_now(check));
  CHECK_EQ(check.answers().size(), kBatchPages + 1);
  CHECK(all_right(check));
  // A real queue may take less.
  if (!backend.has_batches() || offload->reports().front().batch_pages < kBatchPages) return;
  // A batch has at least two members, so the last page goes alone.
  CHECK_EQ(sum_of_counters(*offload).batches, uint64_t{1});
  CHECK_EQ(sum_of_counters(*offload).descriptors, uint64_t{kBatchPages + 1});
}

DSA_CASE(qemu_async_zero_count) {
  const auto offload = backend.open();
  const uint64_t executed = backend.emulator() != nullptr ? backend.emulator()->executed() : 0;
  Pages pages(1);
  PageCheck check = check_of(pages.at(), 0);
  CHECK(offload->check_now(check));
  CHECK_EQ(check.answers().size(), size_t{0});
  PageCheck without_runs;
  CHECK(offload->check_now(without_runs));
  CHECK_EQ(sum_of_counters(*offload).descriptors, uint64_t{0});
  if (backend.emulator() != nullptr) CHECK_EQ(backend.emulator()->executed(), executed);
}

DSA_CASE(qemu_async_single_zero) {
  const auto offload = backend.open();
  Pages pages(1);
  pages.fill(0);
  PageCheck check = check_of(pages.at(), 1);
  CHECK(offload->check_now(check));
  CHECK(all_are(check, Answer::zero));
}

DSA_CASE(qemu_async_single_nonzero) {
  const auto offload = backend.open();
  Pages pages(1);
  pages.fill(1);
  PageCheck check = check_of(pages.at(), 1);
  CHECK(offload->check_now(check));
  CHECK(all_are(check, Answer::not_zero));
}

// QEMU aborts. Here there is no way to say it; the nearest is a request that nobody submitted.
DSA_CASE(qemu_async_null_task) {
  static_assert(!std::is_invocable_v<decltype(&Offload::submit), Offload&, std::nullptr_t>);
  static_assert(!std::is_invocable_v<decltype(&Offload::wait), Offload&, std::nullptr_t>);
  const auto offload = backend.open();
  Pages pages(1);
  PageCheck check = check_of(pages.at(), 1);
  offload->wait(check);
  CHECK(all_are(check, Answer::unknown));
  check_mixed_pages(*offload, 7);
}

DSA_CASE(qemu_async_page_fault) {
  const auto offload = backend.open();
  constexpr size_t kBytes = kBatchPages * kPageBytes;
  void* const shared = mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  CHECK(shared != MAP_FAILED);
  CHECK(answers_rightly(*offload, shared, kBatchPages));
  munmap(shared, kBytes);
  const uint64_t faults = sum_of_counters(*offload).page_faults;
  CHECK(faults > 0);

  // Of malloc nobody says what is in it: what the CPU finds there counts.
  const std::unique_ptr<void, void (*)(void*)> heap(std::malloc(kBytes), std::free);
  CHECK(answers_rightly(*offload, heap.get(), kBatchPages));

  Pages anonymous(kBatchPages);
  CHECK(answers_rightly(*offload, anonymous.at(), kBatchPages));
  CHECK(sum_of_counters(*offload).page_faults > faults);
}

DSA_CASE(qemu_double_start_stop) {
  std::unique_ptr<Offload> first = backend.open();
  // A dedicated queue is one opener's: the second start is refused, and the first does not notice.
  Offload::Opened second = Offload::open(backend.options());
  CHECK_EQ(second.offload == nullptr, backend.is_dedicated());
  if (second.offload != nullptr) check_mixed_pages(*second.offload, 8);
  check_mixed_pages(*first, 9);
  second.offload.reset();
  second.offload.reset();
  check_mixed_pages(*first, 10);
  first.reset();
  first.reset();
  first = backend.open();
  check_mixed_pages(*first, 11);
}

DSA_CASE(qemu_is_running) {
  Offload::Opened opened;
  CHECK(opened.offload == nullptr);
  opened = Offload::open(backend.options());
  CHECK(opened.offload != nullptr && opened.offload->usable());
  CHECK(opened.reason.empty());
  opened.offload->distrust();
  CHECK(!opened.offload->usable());
  Pages pages(1);
  pages.fill(0);
  PageCheck check = check_of(pages.at(), 1);
  CHECK(!opened.offload->check_now(check));
  CHECK(all_are(check, Answer::unknown));
}

// QEMU leaks what the first configuration mapped.
DSA_CASE(qemu_configure_dsa_twice) {
  CountingCalls calls(backend.calls());
  dsa::OffloadOptions options = backend.options();
  options.calls = &calls;
  Offload::Opened opened = Offload::open(options);
  if (backend.is_dedicated()) opened = {};
  opened = Offload::open(options);
  CHECK(opened.offload != nullptr);
  if (opened.offload != nullptr) check_mixed_pages(*opened.offload, 12);
  opened = {};
  CHECK_EQ(calls.opened.load(), size_t{2});
  CHECK(calls.all_given_back());
}

DSA_CASE(qemu_configure_dsa_bad_path) {
  dsa::OffloadOptions options = backend.options();
  options.nodes = {"/dev/dsa/there-is-no-such-queue"};
  const Offload::Opened opened = Offload::open(options);
  CHECK(opened.offload == nullptr);
  CHECK_EQ(opened.queues.size(), size_t{1});
  CHECK_EQ(opened.queues.at(0).steps.back().error, ENOENT);
  CHECK(opened.reason.find("/dev/dsa/there-is-no-such-queue") != std::string::npos);
  CHECK(!opened.hint.empty());
}

DSA_CASE(qemu_cleanup_before_configure) {
  { const Offload::Opened never_opened; }
  {
    std::unique_ptr<Offload> none;
    none.reset();
  }
  check_mixed_pages(*backend.open(), 13);
}

DSA_CASE(qemu_configure_dsa_num_devices) {
  const auto offload = backend.open(1);
  CHECK_EQ(offload->reports().size(), size_t{1});
  check_mixed_pages(*offload, 14);
}

DSA_CASE(qemu_cleanup_twice) {
  for (uint64_t round = 0; round < 2; ++round) {
    std::unique_ptr<Offload> offload = backend.open();
    check_mixed_pages(*offload, 15 + round);
    offload.reset();
    offload.reset();
  }
  check_mixed_pages(*backend.open(), 17);
}

}  // namespace vmsnap::test
