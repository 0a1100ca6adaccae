#include "settlement.h"

#include <algorithm>
#include <utility>

#include "reach.h"
#include "status.h"

namespace vmsnap::dsa {

namespace {

using AliasedWord = uint16_t __attribute__((may_alias));

/// Status and result as one number, little endian as the device writes them. What ends as a compare should is one of
/// these two.
constexpr uint32_t kEqual = DSA_COMP_SUCCESS;
constexpr uint32_t kDifferent = DSA_COMP_SUCCESS | 0x100;

uint32_t status_and_result(const CompletionRecord& record) {
  return __atomic_load_n(reinterpret_cast<const AliasedWord*>(&record), __ATOMIC_RELAXED);
}

bool all_equal(const CompletionRecord* record, uint32_t count) {
  uint32_t difference = 0;
#pragma GCC unroll 8
  for (const CompletionRecord* const end = record + count; record != end; ++record) {
    difference |= status_and_result(*record) ^ kEqual;
  }
  return difference == 0;
}

class Settler {
 public:
  Settler(const Flight& flight, const SettleRules& rules, Settlement& settlement)
      : flight_(flight), rules_(rules), out_(settlement) {}

  void settle() {
    if (!rules_.trusted || !look_at_batch()) {
      for (const Piece& piece : flight_.pieces) leave_unknown(piece.span);
      return;
    }
    const CompletionRecord* records = flight_.records();
    for (const Piece& piece : flight_.pieces) {
      settle_piece(piece, records);
      records += piece.members;
    }
  }

 private:
  /// False where the members' records cannot be believed.
  bool look_at_batch() {
    if (!flight_.as_batch) return true;
    const uint8_t status = status_of(flight_.batch_record());
    switch (classify(status)) {
      case StatusClass::done:
      case StatusClass::look_inside:
        return true;
      case StatusClass::pending:  // lost
        ++out_.lost;
        return true;
      case StatusClass::resume:
      case StatusClass::unreadable:
      case StatusClass::resume_batch:
        ++out_.batch_faults;
        return true;
      case StatusClass::device_trouble:
        note_error(status);
        batch_had_trouble_ = true;
        return true;
      case StatusClass::caller_error:
        note_error(status);
        if ((status & kStatusCodeMask) == DSA_COMP_DESC_CNT_ERANGE) {
          out_.refused_batch_members = flight_.members;
        } else {
          out_.batch_refused = true;
        }
        return true;
      case StatusClass::foreign:
        break;
    }
    note_error(status);
    out_.trouble = true;
    return false;
  }

  void settle_piece(const Piece& piece, const CompletionRecord* records) {
    if (all_equal(records, piece.members)) {
      answer(piece.span, Answer::zero);
      return;
    }
    if (piece.span.unit_pages == 1) {
      settle_single_pages(piece, records);
      return;
    }
    for (uint32_t i = 0; i < piece.members; ++i) settle_member(unit(piece, i), records[i]);
  }

  /// Zero pages and others in any order: a few instructions for each that ended well.
  void settle_single_pages(const Piece& piece, const CompletionRecord* records) {
    const auto page_bytes = static_cast<uint32_t>(piece.span.page_bytes());
    Answer* const answers = piece.span.answers;
    uint64_t different = 0;
    uint64_t equal = 0;
    for (uint32_t i = 0; i < piece.members; ++i) {
      const uint32_t word = status_and_result(records[i]);
      if (word == kEqual) {
        answers[i] = Answer::zero;
        ++equal;
      } else if (word == kDifferent && records[i].hw.bytes_completed < page_bytes) {
        answers[i] = Answer::not_zero;
        ++different;
      } else {
        settle_member(unit(piece, i), records[i]);
      }
    }
    out_.pages_zero += equal;
    out_.pages_not_zero += different;
    out_.saw_difference = out_.saw_difference || different != 0;
  }

  static Span unit(const Piece& piece, uint32_t member) {
    return piece.span.part(size_t{member} * piece.span.unit_pages, piece.span.unit_pages);
  }

  void settle_member(const Span& span, const CompletionRecord& record) {
    const uint8_t status = status_of(record);
    switch (classify(status)) {
      case StatusClass::done:
        settle_done(span, record);
        return;
      case StatusClass::pending:
        settle_unwritten(span);
        return;
      case StatusClass::resume:
        settle_fault(span, record);
        return;
      case StatusClass::unreadable:
        settle_unreadable(span, record);
        return;
      case StatusClass::device_trouble:
        note_error(status);
        settle_trouble(span);
        return;
      case StatusClass::caller_error:
        note_error(status);
        settle_refused(span, status);
        return;
      case StatusClass::look_inside:
      case StatusClass::resume_batch:
      case StatusClass::foreign:
        break;
    }
    note_error(status);
    out_.trouble = true;
    leave_unknown(span);
  }

  void settle_done(const Span& span, const CompletionRecord& record) {
    // The false predicate is about an expected result, and we tell the device none.
    if ((status_of(record) & kStatusCodeMask) != DSA_COMP_SUCCESS) {
      distrust_record(span, record);
      return;
    }
    if (record.hw.result == 0) {
      answer(span, Answer::zero);
      return;
    }
    size_t zero_pages = 0;
    if (record.hw.result != 1 || !believe(span, record, zero_pages)) {
      distrust_record(span, record);
      return;
    }
    out_.saw_difference = true;
    if (span.pages == 1) {
      answer(span, Answer::not_zero);
      return;
    }
    answer(span.part(0, zero_pages), Answer::zero);
    // The device tells a lower bound: the page that holds it may still be zero. It is asked again with the others, for
    // the ten instructions that a page costs; the CPU would have to read it.
    Span rest = span.part(zero_pages, span.pages - zero_pages);
    rest.unit_pages = 1;
    rest.tries = {};
    ask_again(rest);
  }

  void settle_unwritten(const Span& span) {
    if (rules_.lost) {
      if (!flight_.as_batch) ++out_.lost;
      leave_unknown(span);
      return;
    }
    Span again = span;
    // Each round through a batch that ends early settles something, or counts.
    again.tries.abandoned = some_member_written() ? 0 : static_cast<uint8_t>(again.tries.abandoned + 1);
    if (batch_had_trouble_) {
      settle_trouble(again);
    } else if (again.tries.abandoned > std::max(rules_.fault_retries, 1U)) {
      leave_unknown(span);
    } else {
      ask_again(again);
    }
  }

  void settle_fault(const Span& span, const CompletionRecord& record) {
    ++out_.page_faults;
    size_t zero_pages = 0;
    if (!believe(span, record, zero_pages)) {
      distrust_record(span, record);
      return;
    }
    answer(span.part(0, zero_pages), Answer::zero);
    Span rest = span.part(zero_pages, span.pages - zero_pages);
    if (zero_pages > 0) rest.tries.faults = 0;
    if (++rest.tries.faults > rules_.fault_retries) {
      leave_unknown(rest);
      return;
    }
    if (!make_reachable(rest.address, rest.size_bytes())) {
      // Some page cannot be had. If it is the first, the others may still be.
      const Span page = rest.part(0, 1);
      if (rest.pages == 1 || !make_reachable(page.address, page.size_bytes())) {
        leave_unknown(page);
        rest = rest.part(1, rest.pages - 1);
      }
    }
    ask_whole(rest);
  }

  void settle_unreadable(const Span& span, const CompletionRecord& record) {
    ++out_.page_faults;
    size_t before = 0;
    if (!believe(span, record, before)) {
      distrust_record(span, record);
      return;
    }
    leave_unknown(span.part(before, 1));
    // Only after a page fault does the specification promise that what comes before is equal.
    for (Span rest : {span.part(0, before), span.part(before + 1, span.pages - before - 1)}) {
      if (++rest.tries.faults > rules_.fault_retries) {
        leave_unknown(rest);
      } else {
        ask_whole(rest);
      }
    }
  }

  void settle_trouble(const Span& span) {
    Span again = span;
    if (++again.tries.troubles > 1) {
      out_.trouble = true;
      leave_unknown(span);
    } else {
      ask_again(again);
    }
  }

  void settle_refused(const Span& span, uint8_t status) {
    if ((status & kStatusCodeMask) == DSA_COMP_XFER_ERANGE) {
      out_.refused_unit_bytes = std::max(out_.refused_unit_bytes, static_cast<uint32_t>(span.size_bytes()));
      ask_again(span);
      return;
    }
    out_.compare_refused = true;
    leave_unknown(span);
  }

  /// Whole pages before `bytes completed`; false if those cannot be true.
  static bool believe(const Span& span, const CompletionRecord& record, size_t& whole_pages) {
    whole_pages = record.hw.bytes_completed / span.page_bytes();
    return record.hw.bytes_completed < span.size_bytes();
  }

  void distrust_record(const Span& span, const CompletionRecord& record) {
    note_error(record.hw.status);
    leave_unknown(span);
  }

  void note_error(uint8_t status) {
    ++out_.errors;
    out_.last_error = status;
  }

  bool some_member_written() {
    if (!progress_known_) {
      progress_known_ = true;
      for (uint32_t i = 0; i < flight_.members && !progress_; ++i) {
        progress_ = status_of(flight_.records()[i]) != DSA_COMP_NONE;
      }
    }
    return progress_;
  }

  void answer(const Span& span, Answer answer) {
    std::fill_n(span.answers, span.pages, answer);
    (answer == Answer::zero ? out_.pages_zero : out_.pages_not_zero) += span.pages;
  }

  void leave_unknown(const Span& span) { out_.pages_unknown += span.pages; }

  /// In one compare, however many pages they are.
  void ask_whole(Span span) {
    span.unit_pages = static_cast<uint32_t>(span.pages);
    ask_again(span);
  }

  void ask_again(const Span& span) {
    if (span.pages == 0) return;
    if (!out_.again.empty() && out_.again.back().continues_with(span)) {
      out_.again.back().pages += span.pages;
    } else {
      out_.again.push_back(span);
    }
  }

  const Flight& flight_;
  const SettleRules& rules_;
  Settlement& out_;
  bool batch_had_trouble_ = false;
  bool progress_known_ = false;
  bool progress_ = false;
};

}  // namespace

void Settlement::clear() {
  std::vector<Span> kept = std::move(again);
  kept.clear();
  *this = {};
  again = std::move(kept);
}

void settle(const Flight& flight, const SettleRules& rules, Settlement& settlement) {
  settlement.clear();
  Settler(flight, rules, settlement).settle();
}

}  // namespace vmsnap::dsa
