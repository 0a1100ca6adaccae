#include "flight.h"

#include <algorithm>
#include <new>

#include <sys/mman.h>

namespace vmsnap::dsa {

namespace {

constexpr size_t kPageBytes = 4096;

/// The loop over all pages of a submission: two stores to the descriptor, one to the record.
void fill_members(Descriptor* descriptor, CompletionRecord* record, const Piece& piece) {
  const uint32_t unit_bytes = piece.unit_bytes();
  auto address = reinterpret_cast<uintptr_t>(piece.span.address);
#pragma GCC unroll 4
  for (Descriptor* const end = descriptor + piece.members; descriptor != end; ++descriptor, ++record) {
    descriptor->hw.src_addr = address;
    descriptor->hw.xfer_size = unit_bytes;
    clear_record(*record);
    address += unit_bytes;
  }
}

}  // namespace

std::unique_ptr<Flight> Flight::create(uint32_t capacity) {
  std::unique_ptr<Flight> flight(new (std::nothrow) Flight);
  if (!flight) return nullptr;
  const size_t bytes = (size_t{capacity} + 1) * (kDescriptorBytes + kRecordBytes) + kRecordBytes;
  flight->memory_bytes_ = (bytes + kPageBytes - 1) / kPageBytes * kPageBytes;
  void* const memory =
      mmap(nullptr, flight->memory_bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
  if (memory == MAP_FAILED) return nullptr;
  madvise(memory, flight->memory_bytes_, MADV_DONTFORK);
  flight->memory_ = memory;
  flight->capacity_ = capacity;
  flight->batch_ = static_cast<Descriptor*>(memory);
  flight->descriptors_ = flight->batch_ + 1;
  flight->batch_record_ = reinterpret_cast<CompletionRecord*>(flight->descriptors_ + capacity);
  flight->records_ = flight->batch_record_ + 1;
  flight->awaited_ = flight->records_;
  *flight->batch_ = batch_descriptor(flight->descriptors_, capacity, flight->batch_record_);
  for (uint32_t i = 0; i < capacity; ++i) {
    flight->descriptors_[i] = zero_check_descriptor(nullptr, 0, &flight->records_[i]);
  }
  return flight;
}

Flight::~Flight() {
  if (memory_ != nullptr) munmap(memory_, memory_bytes_);
}

void Flight::fill() {
  uint32_t member = 0;
  for (const Piece& piece : pieces) {
    fill_members(descriptors_ + member, records_ + member, piece);
    member += piece.members;
  }
  batch_->hw.desc_count = members;
  await_first();
}

void Flight::await_first() {
  clear_record(*batch_record_);
  awaited_ = as_batch ? batch_record_ : records_;
}

void Flight::put_back(uint32_t kept, Line& line) {
  // From the end, so that the line has them in their order.
  while (members > kept) {
    Piece& last = pieces.back();
    const uint32_t taken = std::min(last.members, members - kept);
    const size_t stay = size_t{last.members - taken} * last.span.unit_pages;
    line.add_again(last.span.part(stay, last.span.pages - stay));
    last.span.pages = stay;
    last.members -= taken;
    members -= taken;
    if (last.members == 0) pieces.pop_back();
  }
}

void Flight::fill_noops(uint32_t count, bool batch) {
  for (uint32_t i = 0; i < count; ++i) {
    descriptors_[i] = noop_descriptor(&records_[i]);
    clear_record(records_[i]);
  }
  members = count;
  as_batch = batch;
  batch_->hw.desc_count = count;
  await_first();
}

void Flight::fill_drain() {
  fill_noops(1, false);
  descriptors_[0] = drain_descriptor(&records_[0]);
}

}  // namespace vmsnap::dsa
