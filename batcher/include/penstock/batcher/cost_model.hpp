// What a batch costs: run time by rows, as it was learned.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

namespace penstock::batcher {

inline constexpr std::size_t kCostKnots = 13;  // batches of 1, 2, 4, ... 4096 rows

// Mean and 99th percentile of the run time, in nanoseconds: linear between the knots, never decreasing. A value: takers
// copy it out of shared memory. All zero: nothing is known yet, and everything seems to take no time.
struct CostModel {
  std::array<float, kCostKnots> mean_ns_at{};
  std::array<float, kCostKnots> p99_ns_at{};

  [[nodiscard]] bool is_known() const noexcept { return mean_ns_at.back() > 0; }
  [[nodiscard]] std::uint64_t mean_ns(std::uint32_t rows) const noexcept;
  [[nodiscard]] std::uint64_t p99_ns(std::uint32_t rows) const noexcept;
  // Most rows whose p99 run time is at most `ns`; 0 when one row takes longer already.
  [[nodiscard]] std::uint32_t rows_within(std::uint64_t ns) const noexcept;
};

}  // namespace penstock::batcher
