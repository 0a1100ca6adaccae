// One request to the device: which of these pages are zero?
//
// Owned by whoever asks (one for each segment ahead, reused), filled, given to Offload::submit, and not touched before
// Offload::wait has returned. An answer is a hint that is right or missing, never a guess: `unknown` means that the CPU
// has to look, for whatever reason (no queue would take it, a page could not be reached, a status that means trouble).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "../base/page_answer.h"

namespace vmsnap::dsa {

using Answer = PageAnswer;

/// Pages that lie one after the other in memory.
struct PageRun {
  const uint8_t* address;
  size_t pages;
};

class PageCheck {
 public:
  /// `page_bytes` at least 1 and at most 2 MiB (any length, so that tests may check buffers of 16 bytes). Forgets all
  /// runs.
  void reset(size_t page_bytes) {
    page_bytes_ = page_bytes;
    runs_.clear();
    answers_.clear();
    pending_ = 0;
  }

  /// The answers of these pages follow those of the runs before. The memory must stay mapped until wait() has returned.
  void add(const uint8_t* address, size_t pages) {
    runs_.push_back({address, pages});
    answers_.resize(answers_.size() + pages, Answer::unknown);
  }

  size_t page_bytes() const { return page_bytes_; }
  std::span<const PageRun> runs() const { return runs_; }
  /// One for each page, valid after Offload::wait.
  std::span<const Answer> answers() const { return answers_; }

 private:
  friend class Dispatcher;

  size_t page_bytes_ = 4096;
  std::vector<PageRun> runs_;
  std::vector<Answer> answers_;
  // Pages without a final answer; used by Offload under its lock.
  size_t pending_ = 0;
};

}  // namespace vmsnap::dsa
