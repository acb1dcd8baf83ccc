// Several models on one device: least laxity first, with a guard, caps against blocking, and shares by weight.
#include <algorithm>
#include <cmath>

#include "penstock/batcher/scheduler.hpp"
#include "scheduler_model.hpp"

namespace penstock::batcher {

namespace {

// Start so much earlier than the latest moment, in parts of what the other models may put in between.
constexpr double kGuard = 0.5;
// A batch takes at most this share of what the tightest other model can wait, and of the time until one has to start.
constexpr double kBlockingShare = 0.95;
constexpr double kRoomShare = 0.9;
// Nothing is put off into the last part of its objective: sleepers wake late, and batches do not run as predicted.
constexpr std::uint64_t kSafePart = 4;
// A rate is brought up to date after so many rows and a quarter of the objective, or after this many objectives.
constexpr std::uint64_t kRateRows = 20;
constexpr std::uint64_t kRateObjectivesMax = 8;
constexpr double kRateGain = 0.3;
// A model without an objective counts as one with this, for its rate.
constexpr std::uint64_t kLongObjectiveNs = 100'000'000;
// A model may be this many of the longest planned batches ahead of its share before others are preferred.
constexpr double kCreditBatches = 4;

std::uint64_t sub(std::uint64_t a, std::uint64_t b) noexcept { return a > b ? a - b : 0; }

}  // namespace

void Scheduler::Model::learn_rate(std::uint64_t slo_ns, std::uint64_t now_ns) noexcept {
  if (marked_ns == 0 || rows_seen < marked_rows) {
    marked_ns = now_ns;
    marked_rows = rows_seen;
    return;
  }
  const std::uint64_t objective_ns = slo_ns > 0 ? slo_ns : kLongObjectiveNs;
  const std::uint64_t passed_ns = sub(now_ns, marked_ns);
  const std::uint64_t rows = rows_seen - marked_rows;
  const bool due = passed_ns >= objective_ns / 4 && rows >= kRateRows;
  if (!due && passed_ns < kRateObjectivesMax * objective_ns) return;
  const double rate = static_cast<double>(rows) / static_cast<double>(std::max<std::uint64_t>(passed_ns, 1));
  rate_per_ns = rows == 0 ? 0 : rate_per_ns == 0 ? rate : rate_per_ns + kRateGain * (rate - rate_per_ns);
  marked_ns = now_ns;
  marked_rows = rows_seen;
}

// What every model's batch is in the long run: as many rows as come in half of its objective, at most what is balanced.
void Scheduler::plan_long_run(std::span<const LaneView> lanes) noexcept {
  double behind_ns = -1;
  models_active_ = 0;
  longest_ = nullptr;
  longest_ns_ = second_longest_ns_ = 0;
  for (Model& model : models_) {
    const LaneView& view = lanes[model.any_lane];
    const std::uint64_t slo_ns = view.settings->slo_ns;
    model.learn_rate(slo_ns, now_ns_);
    const std::uint64_t limit_ns = slo_ns > 0 ? slo_ns : kLongObjectiveNs;
    const double coming = model.rate_per_ns * static_cast<double>(limit_ns) / 2;
    const std::uint32_t balanced = balanced_rows(*view.settings, *view.cost, limit_ns);
    model.planned_rows =
        coming > 0 ? static_cast<std::uint32_t>(std::clamp(coming, 1.0, static_cast<double>(balanced))) : balanced;
    model.planned_ns = model.is_active() ? view.cost->p99_ns(model.planned_rows) : 0;
    models_active_ += model.is_active() ? 1 : 0;
    second_longest_ns_ = std::max(second_longest_ns_, std::min(model.planned_ns, longest_ns_));
    if (model.planned_ns > longest_ns_) {
      longest_ns_ = model.planned_ns;
      longest_ = &model;
    }
    if (model.is_pending() && (behind_ns < 0 || model.virtual_ns < behind_ns)) behind_ns = model.virtual_ns;
  }
  // Who had nothing to run has not saved up a share meanwhile.
  for (Model& model : models_) {
    if (!model.is_pending()) model.virtual_ns = std::max(model.virtual_ns, behind_ns);
  }
}

// Every pending model's batch, under caps that keep the others in time. Rows of another model that came while its own
// batch ran, then wait for this one and then run, need twice that batch's time beside this one's.
void Scheduler::plan_batches(std::span<const LaneView> lanes) noexcept {
  const Model* least = nullptr;  // the active model with the least slack beside a batch of its own
  std::uint64_t least_ns = kNoDeadline;
  std::uint64_t second_ns = kNoDeadline;
  std::uint64_t tightest_ns = kNoDeadline;
  std::uint64_t loosest_ns = 0;
  for (const Model& model : models_) {
    const std::uint64_t slo_ns = lanes[model.any_lane].settings->slo_ns;
    if (slo_ns == 0 || !model.is_active()) continue;
    const std::uint64_t slack_ns = std::max(sub(slo_ns, 2 * model.planned_ns), slo_ns / 4);
    second_ns = std::min(second_ns, std::max(slack_ns, least_ns));
    if (slack_ns < least_ns) {
      least_ns = slack_ns;
      least = &model;
    }
    tightest_ns = std::min(tightest_ns, slo_ns);
    loosest_ns = std::max(loosest_ns, slo_ns);
  }
  alike_ = tightest_ns == kNoDeadline || loosest_ns / 2 <= tightest_ns;
  pending_ns_ = 0;
  for (Model& model : models_) {
    if (!model.is_pending()) continue;
    const LaneView& view = lanes[model.lane];
    PlanLimits limits{.rows_planned = model.planned_rows};
    const std::uint64_t others_ns = &model == least ? second_ns : least_ns;
    if (others_ns != kNoDeadline) {
      const auto most_ns = static_cast<std::uint64_t>(kBlockingShare * static_cast<double>(others_ns));
      limits.rows_max = std::max(1U, view.cost->rows_within(most_ns));
    }
    model.plan = plan_batch(view, model.riders, limits, now_ns_);
    model.plan.ripe |= view.deadline_ns == kNoDeadline;
    if (model.plan.latest_start_ns != kNoDeadline)
      model.plan.latest_start_ns = sub(model.plan.latest_start_ns, view.settings->slo_ns / kSafePart);
    pending_ns_ += model.plan.cost_ns;
  }
}

// The model with a deadline that has to start first. One that is ahead of its share gives way to one that is due too.
Scheduler::Model* Scheduler::first_due() noexcept {
  Model* first = nullptr;
  double least_ns = -1;
  std::uint64_t longest_ns = 0;
  for (Model& model : models_) {
    longest_ns = std::max(longest_ns, model.planned_ns);
    if (!model.is_pending()) continue;
    if (least_ns < 0 || model.virtual_ns < least_ns) least_ns = model.virtual_ns;
    if (model.plan.latest_start_ns == kNoDeadline) continue;
    if (first == nullptr || model.goes_before(*first)) first = &model;
  }
  const double credit_ns = least_ns + kCreditBatches * static_cast<double>(longest_ns);
  if (first == nullptr || first->virtual_ns <= credit_ns) return first;
  Model* instead = nullptr;
  for (Model& model : models_) {
    if (!model.is_pending() || model.virtual_ns > credit_ns || now_ns_ < guarded_start_ns(model)) continue;
    if (instead == nullptr || model.goes_before(*instead)) instead = &model;
  }
  return instead != nullptr ? instead : first;
}

// The model without a deadline that has had least of the device, or among equals waits longest.
Scheduler::Model* Scheduler::first_free(std::span<const LaneView> lanes) noexcept {
  Model* first = nullptr;
  for (Model& model : models_) {
    if (!model.is_pending() || model.plan.latest_start_ns != kNoDeadline) continue;
    const auto before = [&](const Model& a, const Model& b) {
      if (a.rank != b.rank) return a.rank < b.rank;
      const double credit_ns = kCreditBatches * static_cast<double>(std::max(a.plan.cost_ns, b.plan.cost_ns));
      if (std::abs(a.virtual_ns - b.virtual_ns) > credit_ns) return a.virtual_ns < b.virtual_ns;
      return lanes[a.lane].oldest_ns - 1 < lanes[b.lane].oldest_ns - 1;  // 0: not known yet, goes last
    };
    if (first == nullptr || before(model, *first)) first = &model;
  }
  return first;
}

// When a model's batch starts at the latest if the others may have their batches before it.
std::uint64_t Scheduler::guarded_start_ns(const Model& model) const noexcept {
  if (model.plan.latest_start_ns == kNoDeadline) return kNoDeadline;
  const std::uint64_t others_ns =
      pending_ns_ - model.plan.cost_ns + (&model == longest_ ? second_longest_ns_ : longest_ns_);
  return sub(model.plan.latest_start_ns, static_cast<std::uint64_t>(kGuard * static_cast<double>(others_ns)));
}

// The batch of another model that comes before `due` has to start: one that waits for nothing more and is not cut much
// for it. What `due` has to do it does best late, when more of its rows are there.
Scheduler::Model* Scheduler::fitting(std::span<const LaneView> lanes, const Model& due) noexcept {
  const auto room_ns =
      static_cast<std::uint64_t>(kRoomShare * static_cast<double>(sub(due.plan.latest_start_ns, now_ns_)));
  Model* fit = nullptr;
  for (Model& model : models_) {
    if (&model == &due || !model.is_pending() || !model.plan.ripe) continue;
    if (lanes[model.lane].cost->rows_within(room_ns) < kFloor * model.plan.rows) continue;
    if (fit == nullptr || model.goes_before(*fit)) fit = &model;
  }
  return fit;
}

// Cuts a batch so that those which can still be in time after it are.
void Scheduler::leave_room(std::span<const LaneView> lanes, Model& chosen) const noexcept {
  std::uint64_t until_ns = kNoDeadline;
  for (const Model& model : models_) {
    if (&model == &chosen || !model.is_pending() || model.plan.latest_start_ns <= now_ns_) continue;
    until_ns = std::min(until_ns, model.plan.latest_start_ns);
  }
  if (until_ns >= now_ns_ + chosen.plan.cost_ns) return;
  const LaneView& view = lanes[chosen.lane];
  trim(chosen.plan, view, view.cost->rows_within(until_ns - now_ns_));
}

Decision Scheduler::decide_shared(std::span<const LaneView> lanes) noexcept {
  plan_long_run(lanes);
  plan_batches(lanes);
  Model* const due = first_due();
  Model* const free = first_free(lanes);
  Model* chosen = due;
  if (due == nullptr || (free != nullptr && free->rank < due->rank)) {
    chosen = free;
  } else if (!alike_ && models_active_ > 1 && due->rank != kAgedRank) {
    chosen = fitting(lanes, *due);
    if (chosen == nullptr) {
      // Nobody else wants the device now, but somebody may soon: the batch grows until it has to start.
      const std::uint64_t start_ns = guarded_start_ns(*due);
      const bool wanted = std::ranges::any_of(
          models_, [&](const Model& model) { return &model != due && model.is_pending() && model.plan.ripe; });
      if (!wanted && !due->plan.ripe && now_ns_ < start_ns) return {.action = Action::kWaitUntil, .until_ns = start_ns};
      chosen = due;
    }
  }
  if (!alike_ || chosen != due) leave_room(lanes, *chosen);
  return run(chosen->plan, lanes[chosen->lane], chosen->lane);
}

}  // namespace penstock::batcher
