#include "engine/body_pool.hpp"

#include <sys/mman.h>

#include <cstdlib>
#include <new>

namespace penstock::dataplane {
namespace {

// From here on blocks are mapped and unmapped one by one: the allocator would keep them, and memory would not be flat.
constexpr std::size_t kMapBytes = 128 * 1024;

char* allocate(std::size_t bytes) noexcept {
  if (bytes < kMapBytes) return static_cast<char*>(std::malloc(bytes));
  void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  return mapped == MAP_FAILED ? nullptr : static_cast<char*>(mapped);
}

}  // namespace

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
    ::munmap(data, bytes);
  }
  used_.fetch_sub(bytes, std::memory_order_relaxed);
}

}  // namespace penstock::dataplane
