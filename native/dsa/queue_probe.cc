#include "queue_probe.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include <sys/mman.h>

#include "clock.h"
#include "cpu_wait.h"
#include "queue_reasons.h"
#include "status.h"

namespace vmsnap::dsa {

namespace {

constexpr uint32_t kProbePages = 2;
constexpr size_t kProbePageBytes = 4096;
/// In the second probe page, where nobody who looks only at the beginning would find it.
constexpr size_t kDifferenceAt = 2777;

/// Pages with known contents.
class KnownPages {
 public:
  KnownPages()
      : address_(mmap(nullptr, kProbePages * kProbePageBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0)) {
    if (address_ != MAP_FAILED) bytes()[kProbePageBytes + kDifferenceAt] = 1;
  }
  ~KnownPages() {
    if (address_ != MAP_FAILED) munmap(address_, kProbePages * kProbePageBytes);
  }
  KnownPages(const KnownPages&) = delete;
  KnownPages& operator=(const KnownPages&) = delete;

  bool valid() const { return address_ != MAP_FAILED; }
  uint8_t* bytes() const { return static_cast<uint8_t*>(address_); }

 private:
  void* address_;
};

class Prober {
 public:
  Prober(const DeviceInfo& device, const OffloadOptions& options, DeviceCalls& calls, QueueReport& report)
      : device_(device), options_(options), calls_(calls), report_(report) {
    queue_.handle = std::make_unique<QueueHandle>(calls);
  }

  ProbedQueue probe() {
    if (!check_attributes() || !open() || !(try_portal() || try_write()) || !check_answers()) {
      report_.way = SubmitWay::none;
      report_.batches = false;
      // Closed first, then the memory of what was not answered goes.
      queue_.handle.reset();
      queue_.unanswered.clear();
    }
    return std::move(queue_);
  }

 private:
  bool check_attributes() {
    const Unusable why = unusable_by_attributes(device_, report_.info);
    report_.steps.push_back({"sysfs", why.error, 0});
    return why.error == 0 || give_up(why);
  }

  bool open() {
    const int error = queue_.handle->open(report_.info.node);
    report_.steps.push_back({"open", error, 0});
    return error == 0 || give_up(cannot_open(report_.info, error));
  }

  bool try_portal() {
    const SubmitWay way = report_.info.mode == QueueMode::shared      ? SubmitWay::enqcmd
                          : report_.info.mode == QueueMode::dedicated ? SubmitWay::movdir64b
                                                                      : SubmitWay::none;
    if (way == SubmitWay::none || !wanted(way) || !can_execute(way)) return false;
    const int error = queue_.handle->map(way);
    report_.steps.push_back({"map", error, 0});
    if (error != 0) {
      failure_ = cannot_map(report_.info, error);
      return false;
    }
    if (!works(try_noops(1, false), "noop-portal")) {
      queue_.handle->unmap();
      return false;
    }
    report_.way = way;
    // Not asked of the attributes: kernels that keep batches from write() hide them there from portals too.
    report_.batches = batches_wanted() && works(try_noops(2, true), "batch-portal");
    return true;
  }

  bool try_write() {
    if (!wanted(SubmitWay::write_batch) && !wanted(SubmitWay::write_single)) return give_up(failure_or_no_way());
    if (!works(try_noops(1, false), "noop-write")) return give_up(failure_);
    report_.batches = wanted(SubmitWay::write_batch) && batches_known() && works(try_noops(2, true), "batch-write");
    report_.way = report_.batches ? SubmitWay::write_batch : SubmitWay::write_single;
    return wanted(report_.way) || give_up(failure_or_no_way());
  }

  /// One page that is zero and one that is not. One at a time where there are no batches: a dedicated queue of one
  /// entry would drop the second.
  bool check_answers() {
    const KnownPages pages;
    const uint32_t members = report_.batches ? kProbePages : 1;
    ProbeStep step = {"compare", pages.valid() ? 0 : ENOMEM, 0};
    for (uint32_t page = 0; page < kProbePages && step.error == 0; page += members) {
      step = compare_known(pages, page, members);
    }
    report_.steps.push_back(step);
    if (step.error == ENOMEM) return give_up(no_memory());
    return step.error == 0 || give_up(wrong_answers(step));
  }

  ProbeStep compare_known(const KnownPages& pages, uint32_t first, uint32_t members) {
    std::unique_ptr<Flight> flight = Flight::create(members);
    if (!flight) return {"compare", ENOMEM, 0};
    PageCheck check;
    check.reset(kProbePageBytes);
    Piece piece;
    piece.span.check = &check;
    piece.span.address = pages.bytes() + first * kProbePageBytes;
    piece.span.pages = members;
    piece.span.unit_pages = 1;
    piece.members = members;
    flight->pieces.push_back(piece);
    flight->members = members;
    flight->as_batch = report_.batches;
    flight->fill();
    const Flight* const sent = flight.get();
    ProbeStep step = send_and_wait(std::move(flight));
    step.what = "compare";
    for (uint32_t i = 0; i < members && step.error == 0; ++i) {
      if (!is_answer(sent->records()[i], first + i == 0 ? 0 : 1)) step.error = EIO;
    }
    finished_.clear();
    return step;
  }

  static bool is_answer(const CompletionRecord& record, uint8_t result) {
    return (status_of(record) & kStatusCodeMask) == DSA_COMP_SUCCESS && record.hw.result == result;
  }

  ProbeStep try_noops(uint32_t count, bool batch) {
    std::unique_ptr<Flight> flight = Flight::create(count);
    if (!flight) return {"", ENOMEM, 0};
    flight->fill_noops(count, batch);
    const ProbeStep outcome = send_and_wait(std::move(flight));
    finished_.clear();
    return outcome;
  }

  bool works(ProbeStep outcome, const char* what) {
    outcome.what = what;
    report_.steps.push_back(outcome);
    if (outcome.error == 0 && (outcome.status & kStatusCodeMask) == DSA_COMP_SUCCESS) return true;
    failure_ = probe_failed(report_.info, outcome);
    return false;
  }

  /// An answered flight lies in finished_ afterwards, another one in queue_.unanswered.
  ProbeStep send_and_wait(std::unique_ptr<Flight> flight) {
    const int64_t deadline =
        now_nanoseconds() + int64_t{options_.limits.probe_milliseconds} * kNanosecondsPerMillisecond;
    uint32_t taken = 0;
    CpuWait pause;
    const uint32_t count = flight->descriptor_count();
    int error = 0;
    while (taken < count) {
      const Sent sent = queue_.handle->send(flight->first_descriptor() + taken, count - taken, 1);
      taken += sent.taken;
      error = sent.error;
      if (error != 0 && (error != EAGAIN || now_nanoseconds() > deadline)) break;
      if (error != 0) pause.sleep();
    }
    if (taken < count) {
      (taken == 0 ? finished_ : queue_.unanswered).push_back(std::move(flight));
      return {"", error, 0};
    }
    pause.reset();
    while (!flight->is_done()) {
      if (!pause.is_short() && now_nanoseconds() > deadline) {
        queue_.unanswered.push_back(std::move(flight));
        return {"", ETIMEDOUT, 0};
      }
      pause.wait(flight->awaited());
    }
    const uint8_t status = flight->as_batch ? status_of(flight->batch_record()) : status_of(flight->records()[0]);
    finished_.push_back(std::move(flight));
    return {"", 0, status};
  }

  bool wanted(SubmitWay way) const {
    return options_.ways.empty() || std::find(options_.ways.begin(), options_.ways.end(), way) != options_.ways.end();
  }

  /// The instruction ends the process where the CPU does not know it.
  bool can_execute(SubmitWay way) const {
    if (calls_.catches_instructions()) return true;
    return way == SubmitWay::enqcmd ? cpu_has_enqcmd() : cpu_has_movdir64b();
  }

  bool batches_known() const { return supports(report_.info.operations, DSA_OPCODE_BATCH); }
  bool batches_wanted() const { return options_.limits.batch_pages > 1 && report_.info.max_batch != 1; }

  Unusable failure_or_no_way() const { return failure_.error != 0 ? failure_ : no_wanted_way(); }

  bool give_up(const Unusable& why) {
    report_.reason = why.reason;
    report_.hint = why.hint;
    return false;
  }

  const DeviceInfo& device_;
  const OffloadOptions& options_;
  DeviceCalls& calls_;
  QueueReport& report_;
  ProbedQueue queue_;
  std::vector<std::unique_ptr<Flight>> finished_;
  Unusable failure_;
};

}  // namespace

ProbedQueue probe_queue(const DeviceInfo& device, const OffloadOptions& options, DeviceCalls& calls,
                        QueueReport& report) {
  return Prober(device, options, calls, report).probe();
}

}  // namespace vmsnap::dsa
