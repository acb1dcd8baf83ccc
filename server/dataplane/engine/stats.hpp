// Counters with one writer (an I/O loop) and any number of readers, and the histograms of /metrics.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "penstock/batcher/scheduler.hpp"

namespace penstock::dataplane {

// A monotonic counter written by one thread. A plain load and store: an atomic add would cost a locked instruction for
// nothing.
class Counter {
 public:
  void add(std::uint64_t amount = 1) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
  }
  void sub(std::uint64_t amount = 1) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) - amount, std::memory_order_relaxed);
  }
  void raise_to(std::uint64_t value) noexcept {
    if (value > value_.load(std::memory_order_relaxed)) value_.store(value, std::memory_order_relaxed);
  }
  [[nodiscard]] std::uint64_t get() const noexcept { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<std::uint64_t> value_{0};
};

// Upper bounds of time histograms, in nanoseconds.
inline constexpr std::array<std::uint64_t, 19> kTimeBoundsNs{
    10'000,      25'000,        50'000,        100'000,       250'000,       500'000,     1'000'000,
    2'500'000,   5'000'000,     10'000'000,    25'000'000,    50'000'000,    100'000'000, 250'000'000,
    500'000'000, 1'000'000'000, 2'500'000'000, 5'000'000'000, 10'000'000'000};

inline constexpr std::array<std::uint64_t, 13> kSizeBounds{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096};

// Of shares, in thousandths.
inline constexpr std::array<std::uint64_t, 12> kShareBounds{5, 10, 20, 50, 100, 150, 200, 300, 500, 1000, 2000, 5000};

template <std::size_t N, const std::array<std::uint64_t, N>& Bounds>
class Histogram {
 public:
  void add(std::uint64_t value, std::uint64_t times = 1) noexcept {
    std::size_t index = kFirst[static_cast<std::size_t>(std::bit_width(value))];
    while (index < N && value > Bounds[index]) ++index;
    counts_[index].add(times);
    sum_.add(value * times);
  }
  [[nodiscard]] std::uint64_t count(std::size_t index) const noexcept { return counts_[index].get(); }
  [[nodiscard]] std::uint64_t sum() const noexcept { return sum_.get(); }

 private:
  // First bucket that a value of this bit width can fall into: the search then takes at most three steps.
  static constexpr std::array<std::uint8_t, 65> make_first() {
    std::array<std::uint8_t, 65> first{};
    for (std::size_t width = 0; width <= 64; ++width) {
      const std::uint64_t least = width == 0 ? 0 : (std::uint64_t{1} << (width - 1));
      std::uint8_t index = 0;
      while (index < N && least > Bounds[index]) ++index;
      first[width] = index;
    }
    return first;
  }
  static constexpr std::array<std::uint8_t, 65> kFirst = make_first();

  std::array<Counter, N + 1> counts_{};
  Counter sum_;
};

using TimeHistogram = Histogram<kTimeBoundsNs.size(), kTimeBoundsNs>;
using SizeHistogram = Histogram<kSizeBounds.size(), kSizeBounds>;
using ShareHistogram = Histogram<kShareBounds.size(), kShareBounds>;

// Batches of one size.
struct SizeStats {
  Counter batches;
  Counter batch_ns;  // taken -> done
  Counter run_ns;    // of that, the model's own
};

// What one loop saw of one ring.
struct RingStats {
  Counter rows_out;  // claimed and not answered, and requests that will claim more: while there are any the ring stays
  Counter rows_ok;
  Counter rows_failed;
  Counter rows_shed;              // dropped by a worker before they ran, since they would have been late
  Counter rows_refused_deadline;  // not admitted, since they would have been late
  Counter rows_cancelled;         // nobody waited for the answer any more
  Counter deadline_exceeded;
  Counter cache_hits;
  Counter cache_hit_ns;  // what looking for them took, by one in kLookupsPerClock
  Counter cache_misses;  // rows that ran since no answer was known
  Counter cache_miss_ns;
  Counter cache_coalesced;  // requests that shared the row of another one
  Counter padded_rows;      // that batches were padded with
  std::array<Counter, batcher::kRowClasses> rows_by_class;
  std::array<Counter, batcher::kRowClasses> rows_refused_by_class;  // not admitted
  std::array<Counter, batcher::kSealReasons> batches_by_reason;
  ShareHistogram prediction_error;  // of admitted rows: |predicted - real| / real latency
  Counter batches_done;
  TimeHistogram queue;  // a row's last byte read -> its batch taken
  TimeHistogram batch;  // batch taken -> batch done
  TimeHistogram run;    // inside the worker, once the rows were complete -> done
  TimeHistogram total;  // a row's last byte read -> its reply formed
  SizeHistogram batch_size;
  std::vector<SizeStats> by_size;  // by a batch's rows, from 0 to the ring's largest; padding apart
  // When a batch was last seen done, or a probe let through. Of the loop alone.
  std::uint64_t done_ns = 0;

  // For a batch of so many rows; a worker that claims more than there may be is counted with the largest.
  [[nodiscard]] SizeStats& of_size(std::uint32_t rows) noexcept {
    return by_size[std::min<std::size_t>(rows, by_size.size() - 1)];
  }
};

struct LoopStats {
  Counter connections_open;
  Counter connections_accepted;
  Counter connections_refused;
  Counter connections_timed_out;
  Counter passes;
  Counter wakeups;  // epoll_wait calls that had to block
  Counter longest_pass_ns;
  Counter lost_wakeups;
  Counter control_forwarded;
  Counter control_failed;
  Counter control_active;
  Counter memory_waits;
  TimeHistogram refusal;               // a request's last byte read -> its refusal by admission sent
  std::array<Counter, 600> responses;  // by status
};

}  // namespace penstock::dataplane
