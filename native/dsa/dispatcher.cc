#include "dispatcher.h"

#include <algorithm>
#include <utility>

namespace vmsnap::dsa {

Dispatcher::Dispatcher(std::vector<std::unique_ptr<WorkQueue>> queues, const OffloadLimits& limits,
                       NumaDistances distances)
    : queues_(std::move(queues)), limits_(limits), distances_(std::move(distances)) {
  for (const std::unique_ptr<WorkQueue>& queue : queues_) {
    several_nodes_ = several_nodes_ || queue->numa_node() != queues_.front()->numa_node();
  }
}

void Dispatcher::add(PageCheck& check) {
  abandon(check);
  if (check.page_bytes_ == 0) return;
  Answer* answers = check.answers_.data();
  for (const PageRun& run : check.runs_) {
    Span span;
    span.check = &check;
    span.address = run.address;
    span.answers = answers;
    span.pages = run.pages;
    answers += run.pages;
    if (run.address == nullptr) continue;
    line_.add(span);
    check.pending_ += run.pages;
  }
}

void Dispatcher::abandon(PageCheck& check) {
  std::fill(check.answers_.begin(), check.answers_.end(), Answer::unknown);
  check.pending_ = 0;
}

WorkQueue* Dispatcher::pick(size_t page_bytes, int node, bool& some_serves) {
  WorkQueue* best = nullptr;
  uint32_t best_distance = 0;
  some_serves = false;
  for (size_t i = 0; i < queues_.size(); ++i) {
    WorkQueue& queue = *queues_[(turn_ + i) % queues_.size()];
    if (!queue.serves(page_bytes)) continue;
    some_serves = true;
    const uint64_t free_entries = queue.free_entries();
    if (free_entries == 0) continue;
    const uint32_t distance = several_nodes_ ? distances_.between(node, queue.numa_node()) : 0;
    // The nearest, and of those the one with the largest part free.
    if (best == nullptr || distance < best_distance ||
        (distance == best_distance && free_entries * best->depth() > uint64_t{best->free_entries()} * queue.depth())) {
      best = &queue;
      best_distance = distance;
    }
  }
  if (best != nullptr) ++turn_;
  return best;
}

Flight* Dispatcher::next_flight(int node) {
  while (!line_.empty()) {
    const size_t page_bytes = line_.first_page_bytes();
    bool some_serves = false;
    WorkQueue* const queue = stopped_ ? nullptr : pick(page_bytes, node, some_serves);
    if (queue == nullptr) {
      if (some_serves) return nullptr;
      drop_first();
      continue;
    }
    std::unique_ptr<Flight> flight = queue->take_flight();
    if (!flight) {
      drop_first();
      continue;
    }
    flight->members = line_.cut(queue->cut_limits(page_bytes), density_, flight->pieces);
    queue->begin(*flight);
    ++flights_out_;
    return flight.release();
  }
  return nullptr;
}

Flight* Dispatcher::submitted(Flight* flight, const Sent& sent) {
  WorkQueue& queue = *flight->queue;
  if (sent.taken < flight->descriptor_count()) flight->put_back(sent.taken, line_);
  queue.submitted(*flight, sent);
  if (sent.taken != 0) return flight;
  --flights_out_;
  queue.give_flight(std::unique_ptr<Flight>(flight));
  return nullptr;
}

void Dispatcher::settled(Flight* flight, const Settlement& settlement) {
  if (settlement.saw_difference) {
    density_.saw_difference();
  } else if (settlement.all_zero()) {
    density_.saw_zeros(limits_.max_unit_bytes / flight->pieces.front().span.page_bytes());
  }
  // What is asked again stays pending, so it is taken off and added.
  for (const Span& span : settlement.again) {
    span.check->pending_ += span.pages;
    line_.add_again(span);
  }
  for (const Piece& piece : flight->pieces) finish(*piece.span.check, piece.span.pages);
  --flights_out_;
  WorkQueue& queue = *flight->queue;
  queue.settled(*flight, settlement);
  std::unique_ptr<Flight> owned(flight);
  if (settlement.lost != 0) {
    queue.lose(std::move(owned));
  } else {
    queue.give_flight(std::move(owned));
  }
}

void Dispatcher::finish(PageCheck& check, size_t pages) {
  check.pending_ -= pages;
  news_ = news_ || check.pending_ == 0;
}

void Dispatcher::drop_first() {
  const Span span = line_.drop_first();
  finish(*span.check, span.pages);
}

bool Dispatcher::take_news() { return std::exchange(news_, false); }

void Dispatcher::tend(int64_t now) {
  for (const std::unique_ptr<WorkQueue>& queue : queues_) {
    queue->reclaim();
    queue->unblock(now);
    queue->test(now);
  }
}

int64_t Dispatcher::next_test(int64_t now) const {
  int64_t next = 0;
  for (const std::unique_ptr<WorkQueue>& queue : queues_) {
    const int64_t wanted = queue->next_test(now);
    if (wanted != 0 && (next == 0 || wanted < next)) next = wanted;
  }
  return next;
}

void Dispatcher::stop() {
  stopped_ = true;
  while (!line_.empty()) drop_first();
}

void Dispatcher::distrust() {
  for (const std::unique_ptr<WorkQueue>& queue : queues_) queue->distrust();
}

bool Dispatcher::usable() const {
  return std::any_of(queues_.begin(), queues_.end(),
                     [](const std::unique_ptr<WorkQueue>& queue) { return queue->state() != WorkQueue::State::aside; });
}

void Dispatcher::close() {
  for (const std::unique_ptr<WorkQueue>& queue : queues_) queue->close();
}

}  // namespace vmsnap::dsa
