// Which work goes to which queue, and what becomes of it. No thread, no lock, no waiting: offload.cc has those, and
// calls everything here under its lock.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "line.h"
#include "numa.h"
#include "offload.h"
#include "work_queue.h"

namespace vmsnap::dsa {

class Dispatcher {
 public:
  Dispatcher(std::vector<std::unique_ptr<WorkQueue>> queues, const OffloadLimits& limits,
             NumaDistances distances = NumaDistances());

  /// Puts a whole request in line. What makes no sense (null, pages of no bytes) stays unknown.
  void add(PageCheck& check);
  static bool is_settled(const PageCheck& check) { return check.pending_ == 0; }
  /// Leaves all pages of a request unknown, without a queue.
  static void abandon(PageCheck& check);

  /// What may go out now, ready for Flight::fill and WorkQueue::send; null if nothing can, at the moment. Work for
  /// which there is no queue any more is settled as unknown.
  Flight* next_flight(int node);
  /// After the sending. Returns the flight if something of it is under way now, else null: it went back in line.
  Flight* submitted(Flight* flight, const Sent& sent);
  /// Ends a flight whose records are settled, or that is lost.
  void settled(Flight* flight, const Settlement& settlement);

  bool has_work() const { return !line_.empty(); }
  size_t flights_out() const { return flights_out_; }
  /// Whether a request was settled since the last call.
  bool take_news();

  /// Lets queues be tried again that have refused, tests the sick ones.
  void tend(int64_t now);
  /// When a sick queue wants to be tended next; 0: never.
  int64_t next_test(int64_t now) const;

  /// From now on nothing goes out; what stands in line is settled as unknown.
  void stop();
  void distrust();
  bool usable() const;
  /// Callers on different nodes have different queues near.
  bool has_several_nodes() const { return several_nodes_; }

  /// Closes all queues, whose memory is freed with this object.
  void close();
  const WorkQueue& queue(size_t index) const { return *queues_[index]; }

 private:
  WorkQueue* pick(size_t page_bytes, int node, bool& some_serves);
  void drop_first();
  void finish(PageCheck& check, size_t pages);

  std::vector<std::unique_ptr<WorkQueue>> queues_;
  const OffloadLimits limits_;
  NumaDistances distances_;
  bool several_nodes_ = false;
  Line line_;
  Density density_;
  size_t turn_ = 0;
  size_t flights_out_ = 0;
  bool news_ = false;
  bool stopped_ = false;
};

}  // namespace vmsnap::dsa
