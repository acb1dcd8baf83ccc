#include "batch_plan.hpp"

#include <algorithm>

namespace penstock::batcher {

namespace {

// Without a deadline to tell how much they may cost, rows of lower classes lengthen a run by a tenth at most.
constexpr std::uint64_t kRiderShare = 10;

// What a taker can take of `there` rows with a limit of `rows`: whole blocks, at least one, or all.
std::uint32_t whole_blocks(std::uint32_t rows, std::uint32_t there, std::uint32_t block_rows) noexcept {
  if (rows >= there) return there;
  return std::min(there, std::max(block_rows, rows - rows % block_rows));
}

std::uint32_t in_blocks(const LaneView& view, std::uint32_t rows) noexcept {
  return whole_blocks(rows, view.rows, view.settings->block_rows);
}

// As whole_blocks(), to the nearest number of blocks.
std::uint32_t nearest_blocks(std::uint32_t rows, std::uint32_t there, std::uint32_t block_rows) noexcept {
  return whole_blocks(rows + block_rows / 2, there, block_rows);
}

// Largest allowed size up to `rows`; 0 when there is none.
std::uint32_t size_below(std::span<const std::uint32_t> batch_sizes, std::uint32_t rows) noexcept {
  if (batch_sizes.empty()) return rows;
  const auto above = std::ranges::upper_bound(batch_sizes, rows);
  return above == batch_sizes.begin() ? 0 : above[-1];
}

std::uint32_t rows_max(const LaneView& view, const PlanLimits& limits) noexcept {
  const LaneSettings& lane = *view.settings;
  const std::uint32_t most = std::max(std::min(lane.batch_rows_max, limits.rows_max), lane.block_rows);
  const std::uint32_t allowed = size_below(lane.batch_sizes, std::min(most, lane.batch_rows_max));
  return allowed > 0 ? allowed : std::min(lane.batch_rows_max, lane.batch_sizes.front());
}

// Pad `rows` up to the next allowed size, or run the size below and leave the rest for the next batch? Down where a row
// costs less that way, unless a row left over would be late after it.
std::uint32_t size_for(const LaneView& view, std::uint32_t rows, std::uint64_t now_ns) noexcept {
  const LaneSettings& lane = *view.settings;
  const std::uint32_t up = padded_rows(lane.batch_sizes, rows);
  const std::uint32_t down = size_below(lane.batch_sizes, rows);
  if (down == 0 || up <= rows) return std::min(up, rows);
  const std::uint64_t up_ns = view.cost->mean_ns(up);
  const std::uint64_t down_ns = view.cost->mean_ns(down);
  if (up_ns * down <= down_ns * rows) return rows;
  const std::uint32_t left = padded_rows(lane.batch_sizes, rows - down);
  const std::uint64_t left_done_ns = now_ns + view.cost->p99_ns(down) + view.cost->p99_ns(left);
  return view.deadline_ns != kNoDeadline && left_done_ns > view.deadline_ns ? rows : down;
}

// Rows in all, when lower classes have `filling_rows` that may ride with `rows`, of which `allowed` may run.
std::uint32_t with_riders(const LaneView& view, std::uint32_t rows, std::uint32_t filling_rows,
                          std::uint32_t allowed) noexcept {
  const std::uint32_t free = padded_rows(view.settings->batch_sizes, rows);
  return std::min(rows + std::min(filling_rows, view.settings->batch_rows_max), std::max({rows, free, allowed}));
}

BatchPlan finished(BatchPlan plan, const LaneView& view, std::uint32_t rows_most) noexcept {
  plan.cost_ns = view.cost->p99_ns(padded_rows(view.settings->batch_sizes, plan.rows));
  if (view.deadline_ns != kNoDeadline) {
    plan.latest_start_ns = view.deadline_ns > plan.cost_ns ? view.deadline_ns - plan.cost_ns : 0;
  }
  if (view.ripe || plan.rows >= rows_most) {
    plan.ripe = true;
    if (plan.reason == SealReason::kIdle) plan.reason = SealReason::kFull;
  }
  return plan;
}

// What the rows of a lane may take from arrival to answer.
std::uint64_t limit_of(const LaneView& view, std::uint64_t now_ns) noexcept {
  if (view.settings->slo_ns > 0) return view.settings->slo_ns;
  const std::uint64_t arrival_ns = view.oldest_ns == 0 ? now_ns : view.oldest_ns;
  return view.deadline_ns - std::min(arrival_ns, view.deadline_ns);
}

BatchPlan plan_reproducible(const LaneView& view) noexcept {
  BatchPlan plan;
  plan.rows = plan.lane_rows = view.settings->batch_rows_max;
  plan.reason = SealReason::kReproducible;
  return finished(plan, view, plan.rows);
}

BatchPlan plan_without_deadline(const LaneView& view, std::uint32_t filling_rows, std::uint32_t rows_most,
                                std::uint64_t now_ns) noexcept {
  BatchPlan plan;
  plan.lane_rows = in_blocks(view, size_for(view, std::min(view.rows, rows_most), now_ns));
  std::uint32_t allowed = plan.lane_rows;
  if (filling_rows > 0) {
    const std::uint64_t ns = view.cost->p99_ns(padded_rows(view.settings->batch_sizes, plan.lane_rows));
    allowed =
        std::min(rows_most, size_below(view.settings->batch_sizes, view.cost->rows_within(ns + ns / kRiderShare)));
  }
  plan.rows = with_riders(view, plan.lane_rows, filling_rows, allowed);
  return finished(plan, view, rows_most);
}

}  // namespace

std::uint32_t balanced_rows(const LaneSettings& lane, const CostModel& cost, std::uint64_t limit_ns) noexcept {
  const std::uint32_t rows = cost.rows_within(limit_ns / 199 * 100);
  return std::clamp(size_below(lane.batch_sizes, rows), 1U, std::max(1U, lane.batch_rows_max));
}

BatchPlan plan_batch(const LaneView& view, std::uint32_t filling_rows, const PlanLimits& limits,
                     std::uint64_t now_ns) noexcept {
  const LaneSettings& lane = *view.settings;
  if (lane.row_class == RowClass::kReproducible) return plan_reproducible(view);
  const std::uint32_t rows_most = rows_max(view, limits);
  if (view.deadline_ns == kNoDeadline) return plan_without_deadline(view, filling_rows, rows_most, now_ns);

  BatchPlan plan;
  const std::uint32_t there = std::min(view.rows, rows_most);
  const std::uint64_t slack_ns = view.deadline_ns > now_ns ? view.deadline_ns - now_ns : 0;
  const std::uint32_t in_time = size_below(lane.batch_sizes, view.cost->rows_within(slack_ns));
  if (in_time < there) {
    const std::uint32_t shrunk = in_blocks(view, in_time);
    const bool too_small = std::min(shrunk, in_time) < kFloor * std::min(there, limits.rows_planned);
    // Given up: the head. shed_late() finds the most rows of all these that are in time together.
    plan.lane_rows = too_small ? nearest_blocks(there, view.rows, lane.block_rows) : shrunk;
    plan.reason = SealReason::kDeadline;
  } else {
    plan.lane_rows = in_blocks(view, size_for(view, there, now_ns));
  }
  std::uint32_t allowed = 0;
  if (filling_rows > 0) {
    allowed = std::min({in_time, rows_most, balanced_rows(lane, *view.cost, limit_of(view, now_ns))});
  }
  plan.rows = with_riders(view, plan.lane_rows, filling_rows, allowed);
  return finished(plan, view, std::min(rows_most, limits.rows_planned));
}

void trim(BatchPlan& plan, const LaneView& view, std::uint32_t rows) noexcept {
  const LaneSettings& lane = *view.settings;
  if (rows >= plan.rows || lane.row_class == RowClass::kReproducible) return;
  const std::uint32_t kept = std::max(size_below(lane.batch_sizes, rows), std::min(lane.block_rows, plan.lane_rows));
  if (kept >= plan.rows) return;
  plan.lane_rows = std::min(plan.lane_rows, in_blocks(view, kept));
  plan.rows = std::max(kept, plan.lane_rows);
  plan.reason = SealReason::kDeadline;
  const std::uint64_t cost_ns = view.cost->p99_ns(padded_rows(lane.batch_sizes, plan.rows));
  if (plan.latest_start_ns != kNoDeadline) plan.latest_start_ns += plan.cost_ns - std::min(cost_ns, plan.cost_ns);
  plan.cost_ns = cost_ns;
}

}  // namespace penstock::batcher
