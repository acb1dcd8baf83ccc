// Scheduler::decide(): what a free taker does for the lanes it sees.
#include <array>

#include "check.hpp"
#include "policy_fixture.hpp"

namespace {

using namespace penstock::batcher;
using namespace penstock::test;

constexpr std::uint64_t kNow = 10 * kSecond;
enum Lane : std::uint32_t { kInteractive, kNormal, kBatch, kReproducible };

bool is_run(const Decision& d, std::uint32_t lane, std::uint32_t lane_rows, std::uint32_t rows) {
  return d.action == Action::kRun && d.lane == lane && d.lane_rows == lane_rows && d.rows == rows && !d.requeued;
}

void put(LaneView& view, std::uint32_t rows, std::uint64_t age_ns, std::uint64_t deadline_ns = kNoDeadline) {
  view.rows = rows;
  view.oldest_ns = kNow - age_ns;
  view.deadline_ns = deadline_ns;
  view.ripe = rows >= view.settings->batch_rows_max;
}

void without_an_objective_it_conserves_work() {
  const ModelLanes model({});
  Scheduler scheduler;
  std::vector<LaneView> views = model.views();
  CHECK(scheduler.decide(views, kNow).action == Action::kWait);
  put(views[kNormal], 1, 0);
  CHECK(is_run(scheduler.decide(views, kNow), kNormal, 1, 1));
  CHECK(scheduler.decide(views, kNow).reason == SealReason::kIdle);
  put(views[kNormal], 64, 0);
  CHECK(is_run(scheduler.decide(views, kNow), kNormal, 64, 64));
  CHECK(scheduler.decide(views, kNow).reason == SealReason::kFull);
}

void higher_classes_go_first() {
  const ModelLanes model({});
  Scheduler scheduler;
  std::vector<LaneView> views = model.views();
  put(views[kBatch], 64, 500 * kMs);
  put(views[kNormal], 1, 1 * kMs);
  CHECK(scheduler.decide(views, kNow).lane == kNormal);
  put(views[kInteractive], 1, 0);
  CHECK(scheduler.decide(views, kNow).lane == kInteractive);
  put(views[kReproducible], 1, 2 * kMs);
  views[kInteractive].rows = 0;
  const Decision decision = scheduler.decide(views, kNow);  // as a normal row, and older
  CHECK(is_run(decision, kReproducible, 1, 1) && decision.reason == SealReason::kReproducible);
}

void a_lane_that_waited_too_long_goes_first_once() {
  const ModelLanes model({});
  Scheduler scheduler;
  std::vector<LaneView> views = model.views();
  put(views[kInteractive], 1, 0);
  put(views[kBatch], 64, 3 * kSecond);
  CHECK(scheduler.decide(views, kNow).lane == kBatch);
  scheduler.charge(views, kBatch, kMs);
  CHECK(scheduler.decide(views, kNow + kMs).lane == kInteractive);
  CHECK(scheduler.decide(views, kNow + 3 * kSecond).lane == kBatch);
}

void lower_classes_fill_up() {
  const std::array<std::uint32_t, 3> sizes{8, 16, 64};
  LaneSettings like;
  like.batch_sizes = sizes;
  const ModelLanes padded(like);
  Scheduler scheduler;
  std::vector<LaneView> views = padded.views();
  put(views[kInteractive], 10, 0);
  put(views[kBatch], 40, 0);
  // Ten rows alone would run as 8 and 2; with the rows of the batch class 16 are free of charge.
  CHECK(scheduler.decide(views, kNow).rows <= 16);
  put(views[kInteractive], 14, 0);
  CHECK(is_run(scheduler.decide(views, kNow), kInteractive, 14, 16));

  const ModelLanes any({});
  views = any.views();
  put(views[kInteractive], 10, 0);  // 2 ms: a tenth more is two rows
  put(views[kNormal], 40, 0);
  CHECK(is_run(scheduler.decide(views, kNow), kInteractive, 10, 12));
  put(views[kInteractive], 10, 0, kNow + 20 * kMs);  // time for many
  CHECK(scheduler.decide(views, kNow).rows > 40);
}

void deadlines_bound_a_batch() {
  LaneSettings like;
  like.slo_ns = 20 * kMs;
  like.batch_rows_max = 256;
  const ModelLanes model(like);
  Scheduler scheduler;
  std::vector<LaneView> views = model.views();
  put(views[kNormal], 100, 9500 * kUs, kNow + 10500 * kUs);  // 91 rows are in time, over nine tenths of 85
  const Decision shrunk = scheduler.decide(views, kNow);
  CHECK(is_run(shrunk, kNormal, 91, 91) && shrunk.reason == SealReason::kDeadline);
  put(views[kNormal], 100, 15 * kMs, kNow + 5 * kMs);  // 38 would be: the head is given up instead
  const Decision floored = scheduler.decide(views, kNow);
  CHECK(floored.lane_rows > 80 && floored.reason == SealReason::kDeadline);
}

void a_delay_holds_partial_batches_only() {
  LaneSettings like;
  like.queue_delay_ns = 5 * kMs;
  const ModelLanes model(like);
  Scheduler scheduler;
  std::vector<LaneView> views = model.views();
  put(views[kNormal], 3, 1 * kMs);
  const Decision held = scheduler.decide(views, kNow);
  CHECK(held.action == Action::kWaitUntil && held.until_ns == kNow + 4 * kMs);
  const Decision due = scheduler.decide(views, kNow + 4 * kMs);
  CHECK(is_run(due, kNormal, 3, 3) && due.reason == SealReason::kDelay);
  put(views[kNormal], 64, 0);
  CHECK(is_run(scheduler.decide(views, kNow), kNormal, 64, 64));
  // A row with a deadline of its own is held until it can still be run, with time to wake up for it.
  put(views[kNormal], 3, 0, kNow + 4 * kMs);
  const Decision early = scheduler.decide(views, kNow);
  CHECK(early.action == Action::kWaitUntil);
  CHECK(early.until_ns + views[kNormal].cost->p99_ns(3) + kMs / 2 <= kNow + 4 * kMs);
}

void rows_of_a_dead_worker_go_first_unless_others_are_urgent() {
  LaneSettings like;
  like.slo_ns = 20 * kMs;
  const ModelLanes model(like);
  Scheduler scheduler;
  std::vector<LaneView> views = model.views();
  put(views[kNormal], 8, 0, kNow + 20 * kMs);
  views[kNormal].requeued = true;
  const Decision requeued = scheduler.decide(views, kNow);
  CHECK(requeued.action == Action::kRun && requeued.requeued && requeued.reason == SealReason::kRequeued);
  put(views[kInteractive], 8, 15 * kMs, kNow + 5 * kMs);
  CHECK(!scheduler.decide(views, kNow).requeued);
  CHECK(!scheduler.decide(views, kNow).requeued);
  scheduler.charge(views, kInteractive, kMs);
  CHECK(scheduler.decide(views, kNow).requeued);  // once only
}

void models_share_by_weight() {
  LaneSettings like;
  like.weight = 300;
  const ModelLanes heavy(like);
  like.model = 7;
  like.weight = 100;
  const ModelLanes light(like);
  Scheduler scheduler;
  std::vector<LaneView> views = heavy.views();
  for (const LaneView& view : light.views()) views.push_back(view);
  std::array<int, 2> runs{};
  for (int i = 0; i < 4000; ++i) {
    put(views[kNormal], 64, 10 * kMs);
    put(views[4 + kNormal], 64, 20 * kMs);
    const Decision decision = scheduler.decide(views, kNow);
    CHECK(decision.action == Action::kRun);
    scheduler.charge(views, decision.lane, views[0].cost->mean_ns(decision.rows));
    ++runs[decision.lane / 4];
  }
  CHECK(runs[0] > 2950 && runs[0] < 3050);
}

void turns_are_taken_in_round_robin() {
  const ModelLanes a({});
  LaneSettings like;
  like.model = 1;
  const ModelLanes b(like);
  Scheduler scheduler(SchedulingPolicy::kRoundRobin);
  std::vector<LaneView> views = a.views();
  for (const LaneView& view : b.views()) views.push_back(view);
  put(views[kNormal], 3, 0);
  put(views[4 + kNormal], 5, 0);
  std::uint32_t before = scheduler.decide(views, kNow).lane;
  for (int i = 0; i < 10; ++i) {
    scheduler.charge(views, before, kMs);
    const std::uint32_t next = scheduler.decide(views, kNow).lane;
    CHECK(next != before);
    before = next;
  }
}

}  // namespace

int main() {
  without_an_objective_it_conserves_work();
  higher_classes_go_first();
  a_lane_that_waited_too_long_goes_first_once();
  lower_classes_fill_up();
  deadlines_bound_a_batch();
  a_delay_holds_partial_batches_only();
  rows_of_a_dead_worker_go_first_unless_others_are_urgent();
  models_share_by_weight();
  turns_are_taken_in_round_robin();
}
