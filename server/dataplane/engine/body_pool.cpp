#include "engine/body_pool.hpp"

#include <sys/mman.h>

#include <bit>
#include <cstdlib>
#include <new>

namespace penstock::dataplane {
namespace {

// From here on blocks are mapped and unmapped one by one: the allocator would keep them, and memory would not be flat.
constexpr std::size_t kMapBytes = 128 * 1024;
// Kept of those that were given back, all together.
constexpr std::size_t kKeptBytesMax = 16 * 1024 * 1024;

// Four sizes between powers of two, so that bodies of nearly the same size use the same blocks.
std::size_t mapped_bytes(std::size_t bytes) noexcept {
  const std::size_t step = std::bit_floor(bytes) / 4;
  return (bytes + step - 1) / step * step;
}

}  // namespace

BodyPool::~BodyPool() {
  for (const Kept& each : kept_) {
    if (each.data != nullptr) ::munmap(each.data, each.bytes);
  }
}

char* BodyPool::allocate(std::size_t bytes) noexcept {
  if (bytes < kMapBytes) return static_cast<char*>(std::malloc(bytes));
  const std::size_t mapping = mapped_bytes(bytes);
  if (char* const kept = take_kept(mapping); kept != nullptr) return kept;
  void* mapped = ::mmap(nullptr, mapping, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return mapped == MAP_FAILED ? nullptr : static_cast<char*>(mapped);
}

char* BodyPool::take_kept(std::size_t mapping) noexcept {
  const std::lock_guard lock(kept_mutex_);
  for (Kept& each : kept_) {
    if (each.bytes != mapping) continue;
    kept_bytes_ -= mapping;
    each.bytes = 0;
    return std::exchange(each.data, nullptr);
  }
  return nullptr;
}

// In place of the one that was kept longest. What has no room is unmapped outside the lock: that takes milliseconds.
void BodyPool::keep(char* data, std::size_t mapping) noexcept {
  Kept given{data, mapping};
  Kept evicted;
  {
    const std::lock_guard lock(kept_mutex_);
    Kept& place = kept_[next_kept_];
    next_kept_ = (next_kept_ + 1) % kept_.size();
    kept_bytes_ -= place.bytes;
    std::swap(place, evicted);
    if (kept_bytes_ + mapping <= kKeptBytesMax) {
      kept_bytes_ += mapping;
      std::swap(place, given);
    }
  }
  if (given.data != nullptr) ::munmap(given.data, given.bytes);
  if (evicted.data != nullptr) ::munmap(evicted.data, evicted.bytes);
}

void Block::reset() noexcept {
  if (data_ == nullptr) return;
  pool_->release(std::exchange(data_, nullptr), std::exchange(bytes_, 0));
}

Block BodyPool::try_acquire(std::size_t bytes) noexcept {
  // Relaxed: the budget is a number, not a message; the block itself is handed over by other means.
  std::uint64_t used = used_.load(std::memory_order_relaxed);
  do {
    if (used + bytes > bytes_max_) {
      refused_.fetch_add(1, std::memory_order_relaxed);
      return {};
    }
  } while (!used_.compare_exchange_weak(used, used + bytes, std::memory_order_relaxed));
  char* data = allocate(bytes);
  if (data == nullptr) {
    used_.fetch_sub(bytes, std::memory_order_relaxed);
    return {};
  }
  return {this, data, bytes};
}

Block BodyPool::acquire_owed(std::size_t bytes) {
  char* data = allocate(bytes);
  if (data == nullptr) throw std::bad_alloc();
  used_.fetch_add(bytes, std::memory_order_relaxed);
  return {this, data, bytes};
}

void BodyPool::release(char* data, std::size_t bytes) noexcept {
  if (bytes < kMapBytes) {
    std::free(data);
  } else {
    keep(data, mapped_bytes(bytes));
  }
  used_.fetch_sub(bytes, std::memory_order_relaxed);
}

}  // namespace penstock::dataplane
