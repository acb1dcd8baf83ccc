// Rules of other servers, for one model: what the engine is compared with.
#include <algorithm>

#include "simulation.hpp"

namespace penstock::batcher {

namespace {

constexpr std::uint32_t kLane = static_cast<std::uint32_t>(RowClass::kNormal);

}  // namespace

void Simulation::drop_heads(std::uint64_t done_ns) {
  SimulatedLane& lane = lanes_[kLane];
  while (lane.rows() > 0 && lane.head().deadline_ns < done_ns) {
    tallies_.front().figures.shed += lane.pop().counts ? 1 : 0;
  }
}

bool Simulation::decide_as_others(Worker& worker) {
  SimulatedLane& lane = lanes_[kLane];
  const CostModel& cost = settings_.models.front().cost;
  const auto there = [&] {
    return static_cast<std::uint32_t>(std::min<std::size_t>(lane.rows(), lane_settings_[kLane].batch_rows_max));
  };
  if (settings_.policy == SimulatedPolicy::kWindow) drop_heads(now_ns_ + cost.p99_ns(there()));
  if (settings_.policy == SimulatedPolicy::kDropLate) drop_heads(now_ns_ + cost.p99_ns(1));
  std::uint32_t rows = there();
  if (rows == 0) return false;
  const bool from_arrival = settings_.policy == SimulatedPolicy::kTimeoutFromArrival;
  if (from_arrival || settings_.policy == SimulatedPolicy::kTimeoutFromTake) {
    const std::uint64_t arrival_ns = lane.head().arrival_ns;
    const std::uint64_t from_ns = from_arrival ? arrival_ns : std::max(arrival_ns, worker.idle_from_ns);
    if (rows < lane_settings_[kLane].batch_rows_max && now_ns_ < from_ns + settings_.timeout_ns) {
      worker.wake_ns = from_ns + settings_.timeout_ns;
      return false;
    }
  }
  if (settings_.policy == SimulatedPolicy::kDropLate) {
    rows = std::clamp(cost.rows_within(lane.head().deadline_ns - now_ns_), 1U, rows);
  }
  batch_.clear();
  for (std::uint32_t i = 0; i < rows; ++i) batch_.push_back(lane.pop());
  start(worker, kLane, rows);
  return false;
}

}  // namespace penstock::batcher
