#include "work_queue.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "clock.h"
#include "status.h"

namespace vmsnap::dsa {

namespace {

constexpr uint32_t kGoodTests = 2;
/// Each operation is tried once more, but a queue that ends so many submissions with nothing but trouble is sick.
constexpr uint32_t kFruitlessFlights = 2;
/// How often the record of a test is looked at.
constexpr int64_t kTestPollNanoseconds = kNanosecondsPerMillisecond;
/// The interval between tests doubles this often at most, with each time that the queue became sick again.
constexpr uint32_t kIntervalDoublings = 6;
/// Of a compare where there are no batches: what is saved in dense memory by smaller ones (one operation in 16) is
/// less than what they cost in memory that is mostly zero.
constexpr uint64_t kLeastSingleBytes = uint64_t{64} << 10;
/// What a transfer size can say.
constexpr uint64_t kMostTransferBytes = uint64_t{1} << 31;

int64_t nanoseconds(uint32_t milliseconds) { return int64_t{milliseconds} * kNanosecondsPerMillisecond; }

uint32_t entries_of(const QueueInfo& info) {
  const bool limited = info.mode == QueueMode::shared && info.threshold != 0;
  return std::max(limited ? std::min(info.threshold, info.size) : info.size, 1U);
}

uint64_t least_known(uint64_t wanted, uint64_t limit) { return limit == 0 ? wanted : std::min(wanted, limit); }

/// Nothing but errors, and not because of limits that are smaller than told, which is mended by asking for less.
bool is_fruitless(const Settlement& settlement) {
  const bool is_limit =
      settlement.refused_unit_bytes != 0 || settlement.refused_batch_members != 0 || settlement.batch_refused;
  return !is_limit && settlement.pages_zero + settlement.pages_not_zero == 0;
}

}  // namespace

WorkQueue::WorkQueue(ProbedQueue probed, const QueueReport& report, const OffloadLimits& limits)
    : probed_(std::move(probed)),
      info_(report.info),
      limits_(limits),
      way_(report.way),
      retries_(limits.submit_retries),
      batches_(report.batches),
      batch_members_(static_cast<uint32_t>(least_known(std::max(limits.batch_pages, 1U), report.info.max_batch))),
      depth_(static_cast<uint32_t>(least_known(entries_of(report.info), limits.depth))),
      most_unit_bytes_(least_known(std::clamp(limits.max_unit_bytes, uint64_t{1}, kMostTransferBytes),
                                   report.info.max_transfer_bytes)),
      most_page_bytes_(least_known(kMostTransferBytes, report.info.max_transfer_bytes)) {
  if (batch_members_ < 2) batches_ = false;
  // Several submissions under way at once, where batches do not make up for it.
  single_members_ = (depth_ + 3) / 4;
  capacity_ = std::max(batches_ ? batch_members_ : 1, single_members_);
}

uint32_t WorkQueue::free_entries() const {
  return state_ != State::good || blocked_ || entries_ >= depth_ ? 0 : depth_ - entries_;
}

CutLimits WorkQueue::cut_limits(size_t page_bytes) const {
  CutLimits limits;
  limits.members = batches_ ? batch_members_ : std::min(single_members_, free_entries());
  limits.least_unit_bytes = batches_ ? 0 : kLeastSingleBytes;
  limits.most_unit_bytes = std::max<uint64_t>(most_unit_bytes_, page_bytes);
  return limits;
}

std::unique_ptr<Flight> WorkQueue::take_flight() {
  if (free_flights_.empty()) {
    return Flight::create(capacity_);
  }
  std::unique_ptr<Flight> flight = std::move(free_flights_.back());
  free_flights_.pop_back();
  return flight;
}

void WorkQueue::give_flight(std::unique_ptr<Flight> flight) {
  flight->pieces.clear();
  flight->members = 0;
  flight->entries = 0;
  flight->deadline_nanoseconds = 0;
  flight->next = nullptr;
  free_flights_.push_back(std::move(flight));
}

void WorkQueue::begin(Flight& flight) {
  flight.queue = this;
  // A batch has at least two members.
  flight.as_batch = batches_ && flight.members > 1;
  flight.entries = flight.descriptor_count();
  entries_ += flight.entries;
}

void WorkQueue::submitted(Flight& flight, const Sent& sent) {
  entries_ -= flight.entries - sent.taken;
  flight.entries = sent.taken;
  counters_.retries += sent.refusals;
  counters_.short_writes += sent.short_writes;
  if (sent.taken > 0) {
    counters_.descriptors += flight.members;
    counters_.batches += flight.as_batch ? 1 : 0;
    for (const Piece& piece : flight.pieces) counters_.bytes += piece.span.size_bytes();
    refused_since_ = 0;
  }
  if (sent.error == 0) return;
  if (sent.error == EAGAIN) {
    blocked_ = true;
    if (refused_since_ == 0) refused_since_ = now_nanoseconds();
  } else if (sent.error == EINVAL && flight.as_batch) {
    stop_batches();
  } else if (sent.error == EINVAL || sent.error == EPERM) {
    ++counters_.errors;
    set_aside(std::string("write() to it fails: ") + std::strerror(sent.error));
  } else {
    ++counters_.errors;
    become_sick(std::string("write() to it fails: ") + std::strerror(sent.error));
  }
}

void WorkQueue::settled(Flight& flight, const Settlement& settlement) {
  counters_.pages_zero += settlement.pages_zero;
  counters_.pages_not_zero += settlement.pages_not_zero;
  counters_.pages_unknown += settlement.pages_unknown;
  counters_.page_faults += settlement.page_faults;
  counters_.batch_faults += settlement.batch_faults;
  counters_.errors += settlement.errors;
  counters_.lost += settlement.lost;
  if (settlement.lost == 0) entries_ -= flight.entries;
  blocked_ = false;
  if (settlement.errors == 0) {
    fruitless_flights_ = 0;
    return;
  }
  if (settlement.refused_unit_bytes != 0) refuse_unit(settlement.refused_unit_bytes);
  if (settlement.refused_batch_members != 0) refuse_batch(settlement.refused_batch_members);
  if (settlement.batch_refused) stop_batches();
  if (settlement.compare_refused) set_aside(std::string("it refuses compares: ") + describe(settlement.last_error));
  fruitless_flights_ = is_fruitless(settlement) ? fruitless_flights_ + 1 : 0;
  if (settlement.trouble || fruitless_flights_ >= kFruitlessFlights) become_sick(describe(settlement.last_error));
}

void WorkQueue::lose(std::unique_ptr<Flight> flight) {
  flight->pieces.clear();
  lost_flights_.push_back(std::move(flight));
  const std::string why = "operations were not answered in time";
  if (state_ != State::good) return;
  // Where a record cannot be written that register is the only word of it. The kernel keeps it until the device is
  // reset, so it may be an older one.
  const std::string also = " (the device has reported an error: cat " + std::string(kSysfsRoot) + "/dsa" +
                           std::to_string(info_.device) + "/errors)";
  become_sick(probed_.handle->has_software_error() ? why + also : why);
}

void WorkQueue::reclaim_answered() {
  for (std::unique_ptr<Flight>& flight : lost_flights_) {
    if (!flight->is_done()) continue;
    entries_ -= flight->entries;
    // Flights of tests hold NOOPs and no queue.
    if (flight->queue == this) give_flight(std::move(flight));
    flight.reset();
  }
  std::erase(lost_flights_, nullptr);
}

void WorkQueue::unblock(int64_t now) {
  blocked_ = false;
  if (refused_since_ != 0 && now - refused_since_ > nanoseconds(limits_.record_milliseconds)) {
    become_sick("it took nothing for too long");
  }
}

void WorkQueue::test(int64_t now) {
  if (state_ != State::sick) return;
  if (!test_flight_) {
    if (now >= next_test_) start_test(now);
  } else if (test_flight_->is_done()) {
    const bool good = classify(status_of(test_flight_->records()[0])) == StatusClass::done;
    entries_ -= test_flight_->entries;
    test_flight_.reset();
    test_ended(now, good);
  } else if (now >= test_deadline_) {
    lost_flights_.push_back(std::move(test_flight_));
    test_ended(now, false);
  }
}

int64_t WorkQueue::next_test(int64_t now) const {
  if (state_ != State::sick) return 0;
  return test_flight_ ? std::min(test_deadline_, now + kTestPollNanoseconds) : next_test_;
}

void WorkQueue::start_test(int64_t now) {
  reclaim();
  test_drains_ = tests_passed_ >= kGoodTests;
  // Even where all places are counted as taken: what was lost may have left the queue, and a dropped test costs
  // nothing.
  std::unique_ptr<Flight> flight = Flight::create(1);
  if (!flight) return test_ended(now, false);
  if (test_drains_) {
    flight->fill_drain();
  } else {
    flight->fill_noops(1, false);
  }
  const Sent sent = probed_.handle->send(flight->first_descriptor(), 1, retries_);
  if (sent.taken != 1) return test_ended(now, false);
  flight->entries = 1;
  ++entries_;
  test_flight_ = std::move(flight);
  test_deadline_ = now + nanoseconds(limits_.probe_milliseconds);
}

void WorkQueue::test_ended(int64_t now, bool good) {
  if (test_drains_) {
    if (good) free_lost_entries();
    // Without a drain it goes on with what the lost ones leave.
    return entries_ < depth_ ? recover() : test_failed(now);
  }
  if (!good) return test_failed(now);
  ++tests_passed_;
  reclaim();
  const bool has_lost = std::any_of(lost_flights_.begin(), lost_flights_.end(),
                                    [](const std::unique_ptr<Flight>& flight) { return flight->entries > 0; });
  if (tests_passed_ >= kGoodTests && !has_lost) return recover();
  start_test(now);
}

/// Their memory stays theirs: where a record could not be written the kernel may bring it later on.
void WorkQueue::free_lost_entries() {
  for (const std::unique_ptr<Flight>& flight : lost_flights_) {
    entries_ -= flight->entries;
    flight->entries = 0;
  }
}

void WorkQueue::test_failed(int64_t now) {
  tests_passed_ = 0;
  test_drains_ = false;
  if (++tests_failed_ >= limits_.sick_tests) {
    set_aside(reason_ + ", and it does not recover");
    return;
  }
  const auto doublings = static_cast<unsigned>(
      std::min<uint64_t>(counters_.times_sick == 0 ? 0 : counters_.times_sick - 1, kIntervalDoublings));
  next_test_ = now + (nanoseconds(limits_.sick_retest_milliseconds) << doublings);
}

void WorkQueue::recover() {
  reclaim();
  if (lost_flights_.size() > 4 * size_t{depth_} + limits_.sick_tests) {
    set_aside("it has lost too many operations");
    return;
  }
  blocked_ = false;
  refused_since_ = 0;
  reason_.clear();
  state_ = State::good;
}

void WorkQueue::become_sick(const std::string& why) {
  if (state_ != State::good) return;
  state_ = State::sick;
  reason_ = why;
  ++counters_.times_sick;
  fruitless_flights_ = 0;
  tests_failed_ = 0;
  tests_passed_ = 0;
  test_drains_ = false;
  next_test_ = now_nanoseconds() + nanoseconds(limits_.sick_retest_milliseconds);
  if (limits_.sick_tests == 0) set_aside(why);
}

void WorkQueue::set_aside(const std::string& why) {
  if (state_ == State::aside) return;
  state_ = State::aside;
  reason_ = why;
  if (test_flight_) lost_flights_.push_back(std::move(test_flight_));
}

void WorkQueue::distrust() { set_aside("an answer of a device was found wrong"); }

void WorkQueue::refuse_unit(uint32_t unit_bytes) {
  if (unit_bytes > most_unit_bytes_ && unit_halved_) return;  // on its way since before
  if (unit_halved_) {
    set_aside(std::string("it refuses compares: ") + describe(DSA_COMP_XFER_ERANGE));
    return;
  }
  unit_halved_ = true;
  most_unit_bytes_ = std::max(unit_bytes / 2, 1U);
  most_page_bytes_ = std::min(most_page_bytes_, most_unit_bytes_);
}

void WorkQueue::refuse_batch(uint32_t members) {
  if (members > batch_members_) return;  // on its way since before
  if (batch_halved_ || members < 4) {
    stop_batches();
    return;
  }
  batch_halved_ = true;
  batch_members_ = members / 2;
}

void WorkQueue::stop_batches() {
  batches_ = false;
  if (way_ == SubmitWay::write_batch) way_ = SubmitWay::write_single;
}

void WorkQueue::close() { probed_.handle.reset(); }

void WorkQueue::fill(QueueReport& report) const {
  report.way = way_;
  report.batches = batches_;
  report.depth = depth_;
  report.batch_pages = batches_ ? batch_members_ : 1;
  report.max_unit_bytes = most_unit_bytes_;
  report.reason = reason_;
  report.sick = state_ != State::good;
  report.counters = counters_;
}

}  // namespace vmsnap::dsa
