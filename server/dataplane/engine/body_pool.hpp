// Memory for bodies and replies that do not fit a connection's own buffers: blocks under one budget.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <utility>

namespace penstock::dataplane {

class BodyPool;

// A block of memory that gives itself and its share of the budget back. Movable between threads.
class Block {
 public:
  Block() = default;
  Block(Block&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)),
        data_(std::exchange(other.data_, nullptr)),
        bytes_(std::exchange(other.bytes_, 0)) {}
  Block& operator=(Block&& other) noexcept {
    if (this != &other) {
      reset();
      pool_ = std::exchange(other.pool_, nullptr);
      data_ = std::exchange(other.data_, nullptr);
      bytes_ = std::exchange(other.bytes_, 0);
    }
    return *this;
  }
  ~Block() { reset(); }

  [[nodiscard]] char* data() const noexcept { return data_; }
  [[nodiscard]] std::size_t bytes() const noexcept { return bytes_; }
  [[nodiscard]] explicit operator bool() const noexcept { return data_ != nullptr; }
  void reset() noexcept;

 private:
  friend class BodyPool;
  Block(BodyPool* pool, char* data, std::size_t bytes) noexcept : pool_(pool), data_(data), bytes_(bytes) {}

  BodyPool* pool_ = nullptr;
  char* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// Thread-safe. The budget counts what was asked for; pages of a block are touched only as bytes arrive.
//
// A few mapped blocks that were given back are kept for the next request of their size: a page that is touched for the
// first time costs as much as copying a few kilobytes into it.
class BodyPool {
 public:
  explicit BodyPool(std::uint64_t bytes_max) noexcept : bytes_max_(bytes_max) {}
  ~BodyPool();
  BodyPool(const BodyPool&) = delete;
  BodyPool& operator=(const BodyPool&) = delete;

  // An empty block when the budget (or the system) has no room for it.
  [[nodiscard]] Block try_acquire(std::size_t bytes) noexcept;
  // Goes over the budget rather than fail: only for replies that are small and already owed.
  [[nodiscard]] Block acquire_owed(std::size_t bytes);

  [[nodiscard]] std::uint64_t bytes_used() const noexcept { return used_.load(std::memory_order_relaxed); }
  [[nodiscard]] std::uint64_t bytes_max() const noexcept { return bytes_max_; }
  [[nodiscard]] std::uint64_t refused() const noexcept { return refused_.load(std::memory_order_relaxed); }

 private:
  friend class Block;
  struct Kept {
    char* data = nullptr;
    std::size_t bytes = 0;  // mapped
  };

  [[nodiscard]] char* allocate(std::size_t bytes) noexcept;
  void release(char* data, std::size_t bytes) noexcept;
  [[nodiscard]] char* take_kept(std::size_t mapped_bytes) noexcept;
  void keep(char* data, std::size_t mapped_bytes) noexcept;

  std::mutex kept_mutex_;  // a block of this size takes far longer to fill
  std::array<Kept, 16> kept_{};
  std::size_t next_kept_ = 0;  // the place that was filled longest ago
  std::size_t kept_bytes_ = 0;
  const std::uint64_t bytes_max_;
  std::atomic<std::uint64_t> used_{0};
  std::atomic<std::uint64_t> refused_{0};
};

}  // namespace penstock::dataplane
