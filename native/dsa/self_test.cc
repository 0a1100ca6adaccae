#include "self_test.h"

#include <cstring>
#include <memory>
#include <span>

#include <sys/mman.h>

namespace vmsnap::dsa {

namespace {

constexpr size_t kPageBytes = 4096;
/// More than one batch of the usual size.
constexpr size_t kMixedPages = 200;

struct Unmap {
  void operator()(uint8_t* pages) const { munmap(pages, kMixedPages * kPageBytes); }
};
using Pages = std::unique_ptr<uint8_t, Unmap>;

/// Resident and zero: written to, so that the device finds them.
Pages make_pages() {
  void* pages = mmap(nullptr, kMixedPages * kPageBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (pages == MAP_FAILED) return nullptr;
  std::memset(pages, 0, kMixedPages * kPageBytes);
  return Pages(static_cast<uint8_t*>(pages));
}

/// One run for each page, so that each is compared on its own and the answer is exact.
SelfTestResult check_pages(Offload& offload, const char* name, const uint8_t* pages, std::span<const Answer> expected) {
  PageCheck check;
  check.reset(kPageBytes);
  for (size_t page = 0; page < expected.size(); ++page) check.add(pages + page * kPageBytes, 1);
  offload.check_now(check);
  SelfTestResult result = {.name = name, .pages = expected.size()};
  for (size_t page = 0; page < expected.size(); ++page) {
    const Answer answer = check.answers()[page];
    if (answer == Answer::unknown) ++result.unknown;
    if (answer == expected[page]) ++result.right;
  }
  result.wrong = result.pages - result.right - result.unknown;
  return result;
}

SelfTestResult check_difference(Offload& offload, const char* name, uint8_t* page, size_t at) {
  page[at] = 1;
  const Answer expected[] = {Answer::not_zero};
  const SelfTestResult result = check_pages(offload, name, page, expected);
  page[at] = 0;
  return result;
}

SelfTestResult check_mixed(Offload& offload, uint8_t* pages) {
  std::vector<Answer> expected(kMixedPages, Answer::zero);
  // Every third page differs, each time a little further on.
  for (size_t page = 1; page < kMixedPages; page += 3) {
    pages[page * kPageBytes + page * 61 % kPageBytes] = 0x80;
    expected[page] = Answer::not_zero;
  }
  return check_pages(offload, "mixed", pages, expected);
}

}  // namespace

std::vector<SelfTestResult> run_self_test(Offload& offload) {
  const Pages pages = make_pages();
  if (pages == nullptr) return {};
  const Answer zero[] = {Answer::zero};
  std::vector<SelfTestResult> results;
  results.push_back(check_pages(offload, "zero", pages.get(), zero));
  results.push_back(check_difference(offload, "first-byte", pages.get(), 0));
  results.push_back(check_difference(offload, "middle-byte", pages.get(), kPageBytes / 2));
  results.push_back(check_difference(offload, "last-byte", pages.get(), kPageBytes - 1));
  results.push_back(check_mixed(offload, pages.get()));
  return results;
}

}  // namespace vmsnap::dsa
