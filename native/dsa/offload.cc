// One lock guards what the dispatcher decides: which work goes to which queue, what is in line, what is settled. It is
// held neither while descriptors are filled and submitted nor while records are read, and taken once for each flight (a
// batch, or several single descriptors in one submission).
//
//   submit():          put the request in line; pump
//   pump:              while a queue has room and work is in line: take a flight with work, fill it, send it, and
//                      hand it to the completion thread, or what was not taken back to the line
//   completion thread: take what was handed over; look at the records that are awaited; settle what is done (answers,
//                      work to be asked again); free its entries; pump; tell the waiting
//                      nothing done: wait, first in the core, then asleep for short times; after a time each flight is
//                      lost, refused queues are tried again, sick ones tested
//                      nothing in flight: asleep until somebody submits, or a sick queue is due
//
// So every flight ends, by its records or by its time, and every page in a flight is answered, unknown or in line
// again; what is in line ends because a queue takes it or because there is no good queue left (a queue that takes
// nothing for the time of a record is sick). How often a page can come back is bounded (span.h). Therefore wait() ends.
#include "offload.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <cstring>
#include <mutex>
#include <utility>

#include <pthread.h>
#include <sys/prctl.h>

#include "clock.h"
#include "cpu_wait.h"
#include "dispatcher.h"
#include "fork_guard.h"
#include "numa.h"
#include "offload_open.h"
#include "settlement.h"

namespace vmsnap::dsa {

namespace {

/// Passes over the records between two looks at the clock while there is always something done.
constexpr uint32_t kPassesPerTending = 256;
/// And while there is nothing done.
constexpr uint32_t kSleepsPerTending = 8;
/// As many as a device executes at once, more or less; the others are hardly done before them.
constexpr size_t kWatchedFlights = 4;
constexpr unsigned long kTimerSlackNanoseconds = 1000;

/// All signals but those that an instruction of the thread itself raises.
sigset_t foreign_signals() {
  sigset_t signals;
  sigfillset(&signals);
  for (const int own : {SIGSEGV, SIGILL, SIGBUS, SIGFPE, SIGTRAP, SIGSYS}) sigdelset(&signals, own);
  return signals;
}

}  // namespace

const char* name_of(SubmitWay way) {
  switch (way) {
    case SubmitWay::none:
      break;
    case SubmitWay::enqcmd:
      return "enqcmd";
    case SubmitWay::movdir64b:
      return "movdir64b";
    case SubmitWay::write_batch:
      return "write-batch";
    case SubmitWay::write_single:
      return "write-single";
  }
  return "none";
}

class Offload::Implementation {
 public:
  Implementation(OpenedQueues opened, const OffloadOptions& options)
      : limits_(options.limits),
        time_submission_(options.time_submission),
        reports_(std::move(opened.reports)),
        places_(std::move(opened.places)),
        dispatcher_(std::move(opened.queues), options.limits) {}

  ~Implementation() {
    if (!running_) return;
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
      dispatcher_.stop();
      work_.notify_one();
    }
    pthread_join(thread_, nullptr);
    dispatcher_.close();
  }

  /// 0 or an errno.
  int start() {
    const sigset_t signals = foreign_signals();
    sigset_t before;
    pthread_sigmask(SIG_BLOCK, &signals, &before);
    const int error = pthread_create(&thread_, nullptr, &Implementation::run, this);
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    running_ = error == 0;
    return error;
  }

  bool in_child() const { return guard_.in_child(); }

  void submit(PageCheck& check) {
    const int64_t before = time_submission_ ? thread_cpu_nanoseconds() : 0;
    std::unique_lock lock(mutex_);
    dispatcher_.add(check);
    if (dispatcher_.has_several_nodes()) node_ = current_numa_node();
    pump(lock, node_);
    if (asleep_ && (!arrivals_.empty() || dispatcher_.has_work())) work_.notify_one();
    if (dispatcher_.take_news()) settled_.notify_all();
    if (time_submission_) submission_cpu_ += static_cast<uint64_t>(thread_cpu_nanoseconds() - before);
  }

  void wait(PageCheck& check) {
    std::unique_lock lock(mutex_);
    if (Dispatcher::is_settled(check)) return;
    const int64_t before = now_nanoseconds();
    settled_.wait(lock, [&] { return Dispatcher::is_settled(check); });
    waiting_ += static_cast<uint64_t>(now_nanoseconds() - before);
  }

  void distrust() {
    trusted_.store(false, std::memory_order_relaxed);
    std::unique_lock lock(mutex_);
    dispatcher_.distrust();
    pump(lock, node_);
    if (dispatcher_.take_news()) settled_.notify_all();
  }

  bool usable() const {
    const std::lock_guard lock(mutex_);
    return dispatcher_.usable();
  }

  std::vector<QueueReport> reports() const {
    const std::lock_guard lock(mutex_);
    std::vector<QueueReport> reports = reports_;
    for (size_t i = 0; i < places_.size(); ++i) dispatcher_.queue(i).fill(reports[places_[i]]);
    return reports;
  }

  OffloadTimes times() const {
    OffloadTimes times;
    clockid_t clock = CLOCK_THREAD_CPUTIME_ID;
    if (pthread_getcpuclockid(thread_, &clock) == 0) times.completion_cpu = static_cast<uint64_t>(read_clock(clock));
    const std::lock_guard lock(mutex_);
    times.submission_cpu = submission_cpu_;
    times.waiting = waiting_;
    return times;
  }

 private:
  static void* run(void* self) {
    pthread_setname_np(pthread_self(), "vmsnap-dsa");
    prctl(PR_SET_TIMERSLACK, kTimerSlackNanoseconds);
    static_cast<Implementation*>(self)->complete();
    return nullptr;
  }

  /// Called with the lock, returns with it.
  void pump(std::unique_lock<std::mutex>& lock, int node) {
    while (Flight* flight = dispatcher_.next_flight(node)) {
      lock.unlock();
      flight->fill();
      const Sent sent = flight->queue->send(*flight);
      lock.lock();
      if (Flight* const under_way = dispatcher_.submitted(flight, sent); under_way != nullptr) {
        arrivals_.push_back(under_way);
        arrived_.store(true, std::memory_order_relaxed);
      }
    }
  }

  /// The completion thread.
  void complete() {
    CpuWait pause;
    for (uint32_t pass = 0;; ++pass) {
      wait_for_device(pause);
      take_arrivals();
      collect_done();
      const bool idle = done_.empty();
      const bool tending = idle || pass % kPassesPerTending == 0;
      const int64_t now = tending ? now_nanoseconds() : 0;
      if (tending) collect_overdue(now);
      if (!done_.empty()) pause.reset();
      settle_done();
      if (!finish_pass(tending, now, pause)) return;
    }
  }

  /// Until something is done or new, or it is time for other things. Apart from the rest, and with as few instructions
  /// as can be, because this is what waiting costs.
  __attribute__((noinline)) void wait_for_device(CpuWait& pause) {
    if (active_.empty()) return;
    Flight* const* const flights = active_.data();
    Flight* const* const end = flights + active_.size();
    Flight* const* const watched_end = flights + std::min(active_.size(), kWatchedFlights);
    uint32_t sleeps = 0;
    while (!arrived_.load(std::memory_order_relaxed)) {
      const bool is_short = pause.is_short();
      Flight* const* const look_end = is_short ? watched_end : end;
      for (Flight* const* flight = flights; flight != look_end; ++flight) {
        if ((*flight)->is_done()) return;
      }
      if (!is_short && ++sleeps > kSleepsPerTending) return;
      pause.wait(flights[0]->awaited());
    }
  }

  void take_arrivals() {
    if (!arrived_.load(std::memory_order_relaxed)) return;
    const std::lock_guard lock(mutex_);
    active_.insert(active_.end(), arrivals_.begin(), arrivals_.end());
    arrivals_.clear();
    arrived_.store(false, std::memory_order_relaxed);
  }

  __attribute__((noinline)) void collect_done() {
    size_t kept = 0;
    for (Flight* const flight : active_) {
      if (flight->is_done()) {
        done_.push_back({flight, false});
      } else {
        active_[kept++] = flight;
      }
    }
    active_.resize(kept);
  }

  /// The time of a flight begins when it is first seen here: no clock is read for those that end soon.
  void collect_overdue(int64_t now) {
    size_t kept = 0;
    for (Flight* const flight : active_) {
      if (flight->deadline_nanoseconds == 0) {
        flight->deadline_nanoseconds = now + int64_t{limits_.record_milliseconds} * kNanosecondsPerMillisecond;
      }
      if (now >= flight->deadline_nanoseconds) {
        done_.push_back({flight, true});
      } else {
        active_[kept++] = flight;
      }
    }
    active_.resize(kept);
  }

  void settle_done() {
    if (settlements_.size() < done_.size()) settlements_.resize(done_.size());
    for (size_t i = 0; i < done_.size(); ++i) {
      const SettleRules rules = {limits_.fault_retries, done_[i].lost, trusted_.load(std::memory_order_relaxed)};
      settle(*done_[i].flight, rules, settlements_[i]);
    }
  }

  /// What needs the lock. False when this thread has nothing to do any more.
  bool finish_pass(bool tending, int64_t now, CpuWait& pause) {
    std::unique_lock lock(mutex_);
    const bool progress = !done_.empty();
    for (size_t i = 0; i < done_.size(); ++i) dispatcher_.settled(done_[i].flight, settlements_[i]);
    done_.clear();
    if (stopping_) dispatcher_.stop();
    if (tending) dispatcher_.tend(now);
    if (dispatcher_.has_work()) pump(lock, node_);
    if (dispatcher_.take_news()) settled_.notify_all();
    if (progress || !arrivals_.empty()) return true;
    if (active_.empty() && !dispatcher_.has_work() && dispatcher_.flights_out() == 0) {
      if (stopping_) return false;
      sleep_until_needed(lock, now);
      pause.reset();
      return true;
    }
    lock.unlock();
    if (active_.empty()) pause.sleep();
    return true;
  }

  void sleep_until_needed(std::unique_lock<std::mutex>& lock, int64_t now) {
    asleep_ = true;
    const int64_t next_test = dispatcher_.next_test(now);
    if (next_test == 0) {
      work_.wait(lock);
    } else if (next_test > now) {
      work_.wait_for(lock, std::chrono::nanoseconds(next_test - now));
    }
    asleep_ = false;
  }

  struct Done {
    Flight* flight;
    bool lost;
  };

  const OffloadLimits limits_;
  const bool time_submission_;
  const ForkGuard guard_;
  const std::vector<QueueReport> reports_;
  /// Of each queue of the dispatcher: where its report stands.
  const std::vector<size_t> places_;

  mutable std::mutex mutex_;
  std::condition_variable settled_;
  std::condition_variable work_;
  Dispatcher dispatcher_;
  /// Under way, and not yet known to the completion thread.
  std::vector<Flight*> arrivals_;
  std::atomic<bool> arrived_{false};
  std::atomic<bool> trusted_{true};
  int node_ = 0;
  bool asleep_ = false;
  bool stopping_ = false;
  uint64_t submission_cpu_ = 0;
  uint64_t waiting_ = 0;

  // Of the completion thread alone.
  std::vector<Flight*> active_;
  std::vector<Done> done_;
  std::vector<Settlement> settlements_;

  pthread_t thread_{};
  bool running_ = false;
};

Offload::Opened Offload::open(const OffloadOptions& options) {
  Opened opened;
  OpenedQueues queues = open_queues(options);
  opened.queues = queues.reports;
  if (queues.queues.empty()) {
    opened.reason = queues.reason;
    opened.hint = queues.hint;
    return opened;
  }
  auto implementation = std::make_unique<Implementation>(std::move(queues), options);
  if (const int error = implementation->start(); error != 0) {
    opened.reason = std::string("the thread that waits for completions cannot be started: ") + std::strerror(error);
    opened.hint = "raise the limit of processes and threads (ulimit -u) or of memory (ulimit -v)";
    return opened;
  }
  opened.offload.reset(new Offload(std::move(implementation)));
  opened.queues = opened.offload->reports();
  return opened;
}

Offload::Offload(std::unique_ptr<Implementation> implementation) : implementation_(std::move(implementation)) {}

Offload::~Offload() {
  // The thread, and whoever held a lock, are in the parent. The kernel takes the memory when the child ends.
  if (implementation_->in_child()) static_cast<void>(implementation_.release());
}

void Offload::submit(PageCheck& check) {
  if (implementation_->in_child()) {
    Dispatcher::abandon(check);
    return;
  }
  implementation_->submit(check);
}

void Offload::wait(PageCheck& check) {
  if (implementation_->in_child()) {
    if (!Dispatcher::is_settled(check)) Dispatcher::abandon(check);
    return;
  }
  implementation_->wait(check);
}

bool Offload::check_now(PageCheck& check) {
  submit(check);
  wait(check);
  for (const Answer answer : check.answers()) {
    if (answer == Answer::unknown) return false;
  }
  return true;
}

void Offload::distrust() {
  if (!implementation_->in_child()) implementation_->distrust();
}

bool Offload::usable() const { return !implementation_->in_child() && implementation_->usable(); }

std::vector<QueueReport> Offload::reports() const {
  if (implementation_->in_child()) return {};
  return implementation_->reports();
}

OffloadTimes Offload::times() const {
  if (implementation_->in_child()) return {};
  return implementation_->times();
}

}  // namespace vmsnap::dsa
