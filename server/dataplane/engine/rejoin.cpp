#include "engine/rejoin.hpp"

#include <algorithm>
#include <cstring>

namespace penstock::dataplane {
namespace {

constexpr std::size_t kSmallBytes = 2 * kConnectionBytes;
constexpr std::size_t kFewRows = 4096;  // memory of a request of more is given back with it

template <class T>
void clear(std::vector<T>& values) noexcept {
  if (values.capacity() > kFewRows) {
    values = {};
  } else {
    values.clear();
  }
}

bool lies_in(std::string_view bytes, const Column& column) noexcept {
  const auto* const first = reinterpret_cast<const std::byte*>(bytes.data());
  return column.data >= first && column.data < first + bytes.size();
}

}  // namespace

char* Rejoin::allocate(std::size_t bytes, BodyPool& pool) {
  const auto aligned = static_cast<std::size_t>(align_up(bytes, kTensorAlignment));
  if (aligned <= kSmallBytes - small_used) {
    char* const found = small.get() + small_used;
    small_used += aligned;
    return found;
  }
  Block block = pool.try_acquire(bytes);
  if (!block) return nullptr;
  blocks.push_back(std::move(block));
  return blocks.back().data();
}

bool Rejoin::refers_to(std::string_view bytes) const noexcept {
  return std::ranges::any_of(columns, [&](const Column& column) { return lies_in(bytes, column); });
}

bool Rejoin::keep_body(std::string_view bytes, BodyPool& pool) {
  if (!refers_to(bytes)) return true;
  const auto* const first = reinterpret_cast<const std::byte*>(bytes.data());
  char* const kept = allocate(bytes.size(), pool);
  if (kept == nullptr) return false;
  std::memcpy(kept, bytes.data(), bytes.size());
  for (Column& column : columns) {
    if (lies_in(bytes, column)) column.data = reinterpret_cast<std::byte*>(kept) + (column.data - first);
  }
  return true;
}

Rejoin* RejoinPool::acquire() {
  if (free_.empty()) {
    all_.push_back(std::make_unique<Rejoin>());
    all_.back()->small = std::make_unique_for_overwrite<char[]>(kSmallBytes);
    free_.reserve(all_.size());  // so that release() never allocates
    return all_.back().get();
  }
  Rejoin* const rejoin = free_.back();
  free_.pop_back();
  return rejoin;
}

void RejoinPool::release(Rejoin& rejoin) noexcept {
  rejoin.shares = rejoin.joined = rejoin.stalled = false;
  rejoin.rows = rejoin.cursor = rejoin.refused = rejoin.answered = rejoin.under_way = 0;
  rejoin.longest = rejoin.next_fault = rejoin.waiting = 0;
  rejoin.oldest_ns = 0;
  clear(rejoin.again);
  rejoin.entry = nullptr;
  clear(rejoin.parts);
  clear(rejoin.lengths);
  clear(rejoin.faults);
  rejoin.columns.clear();
  rejoin.infer.clear();
  rejoin.outputs.clear();
  rejoin.results.clear();
  rejoin.body.reset();
  rejoin.blocks.clear();
  rejoin.small_used = 0;
  free_.push_back(&rejoin);
}

}  // namespace penstock::dataplane
