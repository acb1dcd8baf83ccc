// How fast rows come to a ring: what admission expects to join the batch that a row will run in.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>

namespace penstock::dataplane {

// Written by whichever loop collects a batch when a step is over, read by all: numbers, not messages, so all relaxed.
class ArrivalRate {
 public:
  // `rows` came since the start.
  void note(std::uint64_t rows, std::uint64_t now_ns) noexcept {
    std::uint64_t last_ns = last_ns_.load(std::memory_order_relaxed);
    if (now_ns < last_ns + kStepNs) return;
    if (!last_ns_.compare_exchange_strong(last_ns, now_ns, std::memory_order_relaxed)) return;  // another loop's step
    const std::uint64_t before = rows_.exchange(rows, std::memory_order_relaxed);
    const double elapsed_ns = static_cast<double>(now_ns - last_ns);
    if (last_ns == 0 || rows < before) return;
    const double recent = static_cast<double>(rows - before) / elapsed_ns * 1e9;
    const double known = per_second_.load(std::memory_order_relaxed);
    per_second_.store(known + (recent - known) * std::min(1.0, elapsed_ns / kMemoryNs), std::memory_order_relaxed);
  }
  [[nodiscard]] double per_second() const noexcept { return per_second_.load(std::memory_order_relaxed); }

 private:
  static constexpr std::uint64_t kStepNs = 2'000'000;
  static constexpr double kMemoryNs = 50e6;  // a burst is over, or is the new rate, after about as long

  std::atomic<std::uint64_t> last_ns_{0};
  std::atomic<std::uint64_t> rows_{0};
  std::atomic<double> per_second_{0};
};

}  // namespace penstock::dataplane
