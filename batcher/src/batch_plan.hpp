// The batch that one lane would run now, whatever the other models do: its size, its latest start, why it has that
// size.
#pragma once

#include <cstdint>

#include "penstock/batcher/scheduler.hpp"

namespace penstock::batcher {

// A head may shrink a batch to this share of what is there or planned; one that would shrink it further is shed.
// docs/batching.md has the simulations behind the values.
inline constexpr double kFloor = 0.8;

struct PlanLimits {
  std::uint32_t rows_max = ~std::uint32_t{0};      // so that other models are not blocked too long
  std::uint32_t rows_planned = ~std::uint32_t{0};  // what arrives until a batch is due
};

struct BatchPlan {
  std::uint32_t rows = 0;
  std::uint32_t lane_rows = 0;
  bool ripe = false;  // waiting would add nothing to it
  SealReason reason = SealReason::kIdle;
  std::uint64_t cost_ns = 0;                    // 99th percentile
  std::uint64_t latest_start_ns = kNoDeadline;  // 0: its head is late already
};

// `filling_rows` wait in lower classes of the same model and bucket.
[[nodiscard]] BatchPlan plan_batch(const LaneView& view, std::uint32_t filling_rows, const PlanLimits& limits,
                                   std::uint64_t now_ns) noexcept;

// The batch cut to at most `rows`, but not below a block.
void trim(BatchPlan& plan, const LaneView& view, std::uint32_t rows) noexcept;

// Rows of a batch that takes half of the latency limit: what is in the queue when it starts waits at most the time of
// the batch before it, so that with twice its time every row is in time at the 99th percentile.
[[nodiscard]] std::uint32_t balanced_rows(const LaneSettings& lane, const CostModel& cost,
                                          std::uint64_t limit_ns) noexcept;

}  // namespace penstock::batcher
