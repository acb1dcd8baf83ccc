// What holds for every decision and every simulation, whatever the lanes look like.
#include <algorithm>
#include <array>

#include "check.hpp"
#include "penstock/batcher/simulator.hpp"
#include "policy_fixture.hpp"

namespace {

using namespace penstock::batcher;
using namespace penstock::test;

constexpr std::uint64_t kNow = 100 * kSecond;
constexpr std::array<std::uint32_t, 4> kSizes{4, 8, 32, 64};

// Up to five models with up to two buckets, and any state of their lanes.
struct World {
  std::vector<CostModel> costs;
  std::vector<LaneSettings> settings;
  std::vector<LaneView> views;

  explicit World(std::mt19937_64& random) {
    const std::uint64_t models = 1 + below(random, 5);
    costs.reserve(models);
    settings.reserve(models * 2 * kRowClasses);
    for (std::uint32_t m = 0; m < models; ++m) add_model(random, m);
    for (const LaneSettings& lane : settings) views.push_back({.settings = &lane, .cost = &costs[lane.model]});
    change(random);
  }

  void add_model(std::mt19937_64& random, std::uint32_t m) {
    costs.push_back(below(random, 8) == 0 ? CostModel{}
                                          : affine(1e4 + static_cast<double>(below(random, 5 * kMs)), 1e5));
    LaneSettings lane;
    lane.model = m;
    lane.block_rows = 1U << below(random, 4);
    lane.slo_ns = below(random, 2) * (1 + below(random, 100)) * kMs;
    lane.queue_delay_ns = below(random, 2) * below(random, 5 * kMs);
    lane.weight = static_cast<std::uint32_t>(1 + below(random, 1000));
    if (below(random, 3) == 0) lane.batch_sizes = kSizes;
    for (lane.bucket = 0; lane.bucket <= below(random, 2); ++lane.bucket) {
      for (std::uint32_t c = 0; c < kRowClasses; ++c) {
        lane.row_class = static_cast<RowClass>(c);
        lane.batch_rows_max = lane.row_class == RowClass::kReproducible ? 1 : 64;
        settings.push_back(lane);
      }
    }
  }

  void change(std::mt19937_64& random) {
    for (LaneView& view : views) {
      view.rows = static_cast<std::uint32_t>(below(random, 2) * below(random, view.settings->batch_rows_max + 1));
      view.ripe = view.rows >= view.settings->batch_rows_max;
      view.requeued = below(random, 40) == 0;
      view.oldest_ns = below(random, 5) == 0 ? 0 : kNow - below(random, below(random, 9) == 0 ? 5 * kSecond : 50 * kMs);
      view.deadline_ns = below(random, 3) == 0 ? kNoDeadline : kNow - 10 * kMs + below(random, 100 * kMs);
      view.rows_seen += view.rows;
    }
  }
};

void is_valid(const Decision& decision, const std::vector<LaneView>& views, std::uint64_t now_ns) {
  const bool pending = std::ranges::any_of(views, [](const LaneView& v) { return v.rows > 0 || v.requeued; });
  if (decision.action == Action::kWait) CHECK(!pending);
  if (decision.action == Action::kWaitUntil) CHECK(pending && decision.until_ns > now_ns);
  if (decision.action != Action::kRun) return;
  const LaneView& view = views[decision.lane];
  CHECK(decision.requeued ? view.requeued : view.rows > 0);
  CHECK(decision.lane_rows >= 1 && decision.lane_rows <= decision.rows);
  CHECK(decision.rows <= view.settings->batch_rows_max);
  if (decision.requeued || view.settings->row_class == RowClass::kReproducible) return;
  CHECK(decision.lane_rows <= view.rows);
  // What is not all of the lane is whole blocks, so that a taker has nothing to round.
  CHECK(decision.lane_rows % view.settings->block_rows == 0 || decision.lane_rows == view.rows);
}

bool is_same(const Decision& a, const Decision& b) {
  return a.action == b.action && a.lane == b.lane && a.rows == b.rows && a.lane_rows == b.lane_rows &&
         a.requeued == b.requeued && a.reason == b.reason && a.until_ns == b.until_ns;
}

void decisions_are_valid_repeatable_and_linear() {
  std::mt19937_64 random(6);
  for (int round = 0; round < 3'000; ++round) {
    World world(random);
    Scheduler scheduler(round % 5 == 0 ? SchedulingPolicy::kRoundRobin : SchedulingPolicy::kDeadline);
    for (int step = 0; step < 20; ++step) {
      const std::uint64_t now_ns = kNow + static_cast<std::uint64_t>(step) * kMs;
      const std::uint64_t before = scheduler.views_visited();
      const Decision decision = scheduler.decide(world.views, now_ns);
      CHECK(scheduler.views_visited() - before <= 3 * world.views.size());
      is_valid(decision, world.views, now_ns);
      CHECK(is_same(decision, scheduler.decide(world.views, now_ns)));
      if (decision.action == Action::kRun) scheduler.charge(world.views, decision.lane, kMs);
      world.change(random);
    }
  }
}

void classes_are_strict_but_for_age() {
  std::mt19937_64 random(7);
  const auto rank = [](const LaneView& view) {
    return view.settings->row_class == RowClass::kReproducible ? RowClass::kNormal : view.settings->row_class;
  };
  for (int round = 0; round < 20'000; ++round) {
    const ModelLanes model({});
    std::vector<LaneView> views = model.views();
    for (LaneView& view : views) {
      view.rows = static_cast<std::uint32_t>(below(random, 2));
      view.oldest_ns = kNow - below(random, 900 * kMs);
    }
    Scheduler scheduler;
    const Decision decision = scheduler.decide(views, kNow);
    if (decision.action != Action::kRun) continue;
    for (const LaneView& view : views) CHECK(view.rows == 0 || rank(views[decision.lane]) <= rank(view));
  }
}

SimulationSettings any_simulation(std::mt19937_64& random) {
  SimulationSettings settings;
  settings.rows = 4'000;
  settings.seed = random();
  settings.instances = static_cast<std::uint32_t>(1 + below(random, 3));
  settings.admission = below(random, 2) == 0;
  const std::uint64_t models = 1 + below(random, 4);
  for (std::uint64_t m = 0; m < models; ++m) {
    SimulatedModel model;
    const double row_ns = 1e4 + static_cast<double>(below(random, kMs));
    model.cost = affine(static_cast<double>(below(random, 3 * kMs)), row_ns);
    model.rows_per_second = 1e9 / row_ns * (0.1 + static_cast<double>(below(random, 20)) / 10);
    model.arrivals = static_cast<ArrivalProcess>(below(random, 3));
    model.limit_ns = (1 + below(random, 100)) * kMs;
    model.has_objective = below(random, 4) != 0;
    model.class_shares = {static_cast<double>(below(random, 2)), 1, static_cast<double>(below(random, 2))};
    model.lane.block_rows = 1U << below(random, 4);
    if (below(random, 3) == 0) model.lane.batch_sizes = kSizes;
    settings.models.push_back(model);
  }
  return settings;
}

// Every row that counts is answered, shed or refused, once; a simulation that leaves rows waiting throws.
void every_row_has_one_fate() {
  std::mt19937_64 random(8);
  for (int round = 0; round < 300; ++round) {
    const SimulationSettings settings = any_simulation(random);
    const SimulationFigures figures = simulate(settings);
    std::uint64_t rows = 0;
    for (const ModelFigures& model : figures.models) {
      CHECK(model.in_time + model.late + model.shed + model.refused == model.rows);
      rows += model.rows;
    }
    CHECK(rows >= settings.rows - settings.rows / 20 - 1 && rows <= settings.rows);
    if (settings.models.size() == 1) CHECK(figures.idle_with_rows_ns == 0);  // no idling with work for a lone model
    const SimulationFigures again = simulate(settings);
    for (std::size_t m = 0; m < figures.models.size(); ++m) {
      CHECK(again.models[m].in_time == figures.models[m].in_time &&
            again.models[m].batches == figures.models[m].batches);
    }
  }
}

}  // namespace

int main() {
  decisions_are_valid_repeatable_and_linear();
  classes_are_strict_but_for_age();
  every_row_has_one_fate();
}
