// When a row that arrives now would be answered: the prediction behind every refusal.
#pragma once

#include <cstdint>

#include "penstock/batcher/scheduler.hpp"

namespace penstock::batcher {

// What lies before a row that arrives now.
struct QueueLoad {
  std::uint64_t rows_ahead = 0;  // in its own lane and in those that go before it
  std::uint64_t free_at_ns = 0;  // when the next of the workers will be free; in the past: one is
  std::uint32_t workers = 1;     // instances that take from the queue
  std::uint64_t others_ns = 0;   // device time wanted by rows of other length buckets or models that go first
  double rows_per_second = 0;    // arrival rate; 0: unknown
};

// CLOCK_MONOTONIC time at which the row's batch will be done.
[[nodiscard]] std::uint64_t predict_done_ns(const QueueLoad& load, const LaneSettings& lane, const CostModel& cost,
                                            std::uint64_t now_ns) noexcept;

// Whether more rows come than balanced batches carry. Without an objective: than the largest ones do.
[[nodiscard]] bool is_overloaded(const QueueLoad& load, const LaneSettings& lane, const CostModel& cost) noexcept;

// Seconds after which a refused request is worth another try, at least 1: until what lies before it has run.
[[nodiscard]] std::uint32_t retry_after_s(std::uint64_t predicted_ns, std::uint64_t deadline_ns) noexcept;

}  // namespace penstock::batcher
