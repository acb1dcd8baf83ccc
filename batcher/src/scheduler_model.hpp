// What a scheduler knows of a model: of the views before it, and from one decision to the next.
#pragma once

#include <cstdint>

#include "batch_plan.hpp"
#include "penstock/batcher/scheduler.hpp"

namespace penstock::batcher {

inline constexpr std::uint32_t kNoLane = ~std::uint32_t{0};
inline constexpr std::uint32_t kAgedRank = 0;  // of a lane that has waited too long: before every class
inline constexpr double kWeightUnit = 100;     // the default weight

struct Scheduler::Gathered {
  std::uint32_t models_pending = 0;
  std::uint32_t requeued_lane = kNoLane;
  std::uint64_t held_until_ns = kNoDeadline;  // earliest time at which a held batch is due
};

struct Scheduler::Model {
  std::uint32_t id = 0;

  // Of this decision.
  std::uint32_t any_lane = kNoLane;  // one of its lanes, for settings and cost
  std::uint32_t lane = kNoLane;      // the lane that goes first; kNoLane: nothing to run
  std::uint32_t rank = 0;
  std::uint32_t riders = 0;  // rows of lower classes that may fill up its batch
  std::uint64_t rows_seen = 0;
  std::uint32_t planned_rows = 0;  // of the batch that it runs in the long run
  std::uint64_t planned_ns = 0;
  BatchPlan plan{};

  // Kept.
  double rate_per_ns = 0;
  std::uint64_t marked_ns = 0;  // when the rate was last brought up to date, and the rows seen by then
  std::uint64_t marked_rows = 0;
  double virtual_ns = 0;  // device time it has had, over its weight

  void forget_views() noexcept {
    lane = any_lane = kNoLane;
    riders = 0;
    rows_seen = 0;
  }
  void see(const LaneView& view, std::uint32_t index) noexcept {
    // Its normal lane if there is one: a lane of reproducible rows has another batch size.
    if (any_lane == kNoLane || view.settings->row_class == RowClass::kNormal) any_lane = index;
    rows_seen += view.rows_seen;
  }
  [[nodiscard]] bool is_pending() const noexcept { return lane != kNoLane; }
  // Whether it has rows, or had some lately.
  [[nodiscard]] bool is_active() const noexcept { return is_pending() || rate_per_ns > 0; }
  [[nodiscard]] bool goes_before(const Model& other) const noexcept {
    return rank != other.rank ? rank < other.rank : plan.latest_start_ns < other.plan.latest_start_ns;
  }
  void learn_rate(std::uint64_t slo_ns, std::uint64_t now_ns) noexcept;
};

}  // namespace penstock::batcher
