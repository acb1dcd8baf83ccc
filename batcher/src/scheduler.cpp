#include "penstock/batcher/scheduler.hpp"

#include <algorithm>
#include <array>

#include "batch_plan.hpp"
#include "scheduler_model.hpp"

namespace penstock::batcher {

namespace {

// A lane that has had rows but no batch for so long, and for so many of its own batches, goes first once: whatever
// comes in higher classes, it gets a twentieth of the device.
constexpr std::uint64_t kAgeingNs = 1'000'000'000;
constexpr std::uint64_t kAgeingBatches = 20;

// A sleeper is woken late, and a run may be slow: who is held until the last moment would be shed.
constexpr std::uint64_t kHeldMargin = 8;
constexpr std::uint64_t kWakeNs = 500'000;

// Smaller goes first. Rows that run apart for their answers' sake are worth as much as normal ones.
constexpr std::uint32_t rank_of(RowClass row_class) noexcept {
  constexpr std::array<std::uint32_t, kRowClasses> kRanks{1, 2, 3, 2};
  return kRanks[static_cast<std::size_t>(row_class)];
}

std::uint64_t arrival_ns(const LaneView& view, std::uint64_t now_ns) noexcept {
  return view.oldest_ns == 0 ? now_ns : view.oldest_ns;
}

bool is_aged(const LaneView& view, std::uint64_t last_run_ns, std::uint64_t now_ns) noexcept {
  const std::uint64_t since_ns = std::max(arrival_ns(view, now_ns), last_run_ns);
  if (now_ns < since_ns + kAgeingNs) return false;
  return now_ns - since_ns >= kAgeingBatches * view.cost->mean_ns(view.settings->batch_rows_max);
}

// Until when a partial batch without an objective waits for more rows; now or earlier: it does not.
std::uint64_t held_until_ns(const LaneView& view, std::uint64_t now_ns) noexcept {
  const LaneSettings& lane = *view.settings;
  if (lane.queue_delay_ns == 0 || lane.slo_ns > 0 || view.ripe || view.rows >= lane.batch_rows_max) return 0;
  if (lane.row_class == RowClass::kReproducible) return 0;
  const std::uint64_t due_ns = arrival_ns(view, now_ns) + lane.queue_delay_ns;
  if (view.deadline_ns == kNoDeadline) return due_ns;
  const std::uint64_t run_ns = view.cost->p99_ns(padded_rows(lane.batch_sizes, view.rows));
  const std::uint64_t needed_ns = run_ns + run_ns / kHeldMargin + kWakeNs;
  return std::min(due_ns, view.deadline_ns - std::min(needed_ns, view.deadline_ns));
}

// Of two lanes of one model and rank: the one with the earlier deadline, then the older one.
bool goes_before(const LaneView& a, const LaneView& b, std::uint64_t now_ns) noexcept {
  if (a.deadline_ns != b.deadline_ns) return a.deadline_ns < b.deadline_ns;
  return arrival_ns(a, now_ns) < arrival_ns(b, now_ns);
}

bool rides_with(const LaneSettings& rider, const LaneSettings& first) noexcept {
  return rider.model == first.model && rider.bucket == first.bucket && rider.row_class != RowClass::kReproducible &&
         first.row_class < rider.row_class;
}

}  // namespace

Scheduler::Scheduler(SchedulingPolicy policy) : policy_(policy) {}
Scheduler::~Scheduler() = default;
Scheduler::Scheduler(Scheduler&&) noexcept = default;
Scheduler& Scheduler::operator=(Scheduler&&) noexcept = default;

Decision Scheduler::decide(std::span<const LaneView> lanes, std::uint64_t now_ns) noexcept {
  remember(lanes, now_ns);
  const Gathered gathered = gather(lanes, now_ns);
  if (gathered.requeued_lane != kNoLane) {
    const Decision requeued = decide_requeued(lanes, gathered);
    if (requeued.action == Action::kRun) return requeued;
  }
  if (gathered.models_pending == 0) {
    if (gathered.held_until_ns == kNoDeadline) return {};
    return {.action = Action::kWaitUntil, .until_ns = gathered.held_until_ns};
  }
  if (policy_ == SchedulingPolicy::kRoundRobin) return decide_in_turn(lanes);
  return models_.size() == 1 ? decide_alone(lanes) : decide_shared(lanes);
}

void Scheduler::charge(std::span<const LaneView> lanes, std::uint32_t lane, std::uint64_t cost_ns) noexcept {
  if (lane >= lanes_.size()) return;
  Model& model = models_[lanes_[lane].model];
  const std::uint32_t weight = std::max(1U, lanes[lane].settings->weight);
  model.virtual_ns += static_cast<double>(cost_ns) * kWeightUnit / weight;
  lanes_[lane].last_run_ns = now_ns_;
  turn_ = lanes_[lane].model;
  may_put_off_ = !put_off_;
}

// The lanes' models, found again only when the lanes change: a taker's lanes stay what they are for long.
void Scheduler::remember(std::span<const LaneView> lanes, std::uint64_t now_ns) {
  now_ns_ = now_ns;
  views_visited_ += lanes.size();
  bool same = lanes.size() == lanes_.size();
  for (std::size_t i = 0; same && i < lanes.size(); ++i) same = models_[lanes_[i].model].id == lanes[i].settings->model;
  if (same) return;
  std::vector<Model> known = std::move(models_);
  models_.clear();
  lanes_.assign(lanes.size(), {});
  for (std::size_t i = 0; i < lanes.size(); ++i) {
    const std::uint32_t id = lanes[i].settings->model;
    auto model = std::ranges::find(models_, id, &Model::id);
    if (model == models_.end()) {
      const auto before = std::ranges::find(known, id, &Model::id);
      models_.push_back(before == known.end() ? Model{.id = id} : *before);
      model = models_.end() - 1;
    }
    lanes_[i].model = static_cast<std::uint32_t>(model - models_.begin());
  }
  turn_ = 0;
}

// Each model's lane that goes first, and what may ride with it.
Scheduler::Gathered Scheduler::gather(std::span<const LaneView> lanes, std::uint64_t now_ns) noexcept {
  Gathered gathered;
  for (Model& model : models_) model.forget_views();
  for (std::uint32_t i = 0; i < lanes.size(); ++i) {
    const LaneView& view = lanes[i];
    Model& model = models_[lanes_[i].model];
    model.see(view, i);
    if (view.requeued && gathered.requeued_lane == kNoLane) gathered.requeued_lane = i;
    if (view.rows == 0) continue;
    if (const std::uint64_t held_ns = held_until_ns(view, now_ns); held_ns > now_ns) {
      gathered.held_until_ns = std::min(gathered.held_until_ns, held_ns);
      continue;
    }
    const bool aged = is_aged(view, lanes_[i].last_run_ns, now_ns);
    const std::uint32_t rank = aged ? kAgedRank : rank_of(view.settings->row_class);
    if (model.lane == kNoLane) {
      ++gathered.models_pending;
    } else if (rank > model.rank || (rank == model.rank && !goes_before(view, lanes[model.lane], now_ns))) {
      continue;
    }
    model.lane = i;
    model.rank = rank;
  }
  if (lanes.size() == models_.size()) return gathered;  // nothing can ride
  views_visited_ += lanes.size();
  for (std::uint32_t i = 0; i < lanes.size(); ++i) {
    Model& model = models_[lanes_[i].model];
    if (model.lane == kNoLane || lanes[i].rows == 0) continue;
    if (rides_with(*lanes[i].settings, *lanes[model.lane].settings)) model.riders += lanes[i].rows;
  }
  return gathered;
}

Decision Scheduler::decide_alone(std::span<const LaneView> lanes) const noexcept {
  const Model& model = models_.front();
  return run(plan_batch(lanes[model.lane], model.riders, {}, now_ns_), lanes[model.lane], model.lane);
}

// Rows of a dead worker have waited longest. What would be late behind them goes first, once.
Decision Scheduler::decide_requeued(std::span<const LaneView> lanes, const Gathered& gathered) noexcept {
  const std::uint32_t lane = gathered.requeued_lane;
  const LaneSettings& settings = *lanes[lane].settings;
  const std::uint64_t done_ns = now_ns_ + lanes[lane].cost->p99_ns(settings.batch_rows_max);
  put_off_ = false;
  for (const Model& model : models_) {
    if (!may_put_off_ || model.lane == kNoLane) continue;
    const BatchPlan plan = plan_batch(lanes[model.lane], model.riders, {}, now_ns_);
    put_off_ |= plan.latest_start_ns >= now_ns_ && plan.latest_start_ns < done_ns;
  }
  if (put_off_) return {};
  return {.action = Action::kRun,
          .lane = lane,
          .rows = settings.batch_rows_max,
          .lane_rows = settings.batch_rows_max,
          .requeued = true,
          .reason = SealReason::kRequeued};
}

Decision Scheduler::decide_in_turn(std::span<const LaneView> lanes) const noexcept {
  for (std::size_t step = 1; step <= models_.size(); ++step) {
    const Model& model = models_[(turn_ + step) % models_.size()];
    if (model.lane == kNoLane) continue;
    LaneView view = lanes[model.lane];
    view.deadline_ns = kNoDeadline;
    return run(plan_batch(view, model.riders, {}, now_ns_), view, model.lane);
  }
  return {};
}

Decision Scheduler::run(const BatchPlan& plan, const LaneView& view, std::uint32_t lane) noexcept {
  const LaneSettings& settings = *view.settings;
  const bool delayed = settings.queue_delay_ns > 0 && settings.slo_ns == 0 && plan.reason == SealReason::kIdle;
  return {.action = Action::kRun,
          .lane = lane,
          .rows = plan.rows,
          .lane_rows = plan.lane_rows,
          .requeued = false,
          .reason = delayed ? SealReason::kDelay : plan.reason};
}

}  // namespace penstock::batcher
