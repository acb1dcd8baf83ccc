// What the engine reaches in simulation, against the figures that were worked out before it was built.
//
// Capacity: the largest rate at which 99 % are in time, over the bound (1 - 1.99 a/D)/c of a device with run time
// l(b) = a + c b and limit D. docs/batching.md shows the table.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdio>

#include "check.hpp"
#include "penstock/batcher/simulator.hpp"
#include "policy_fixture.hpp"

namespace {

using namespace penstock::batcher;
using namespace penstock::test;

// One row of the table: what must be reached of the bound, with Poisson and with bursty arrivals.
struct Scenario {
  const char* name;
  double fixed_ns;
  double row_ns;
  double limit_ns;
  double poisson;
  double bursty;
};
constexpr std::array kScenarios{
    Scenario{"A", 0.4e6, 11e3, 15e6, 1.005, 0.64}, Scenario{"B", 2e6, 100e3, 20e6, 0.972, 0.62},
    Scenario{"C", 2e6, 100e3, 10e6, 0.903, 0.58},  Scenario{"D", 1e6, 1e6, 20e6, 0.843, 0.54},
    Scenario{"E", 20e3, 500, 1e6, 1.007, 0.64},    Scenario{"F", 1.5e6, 110e3, 130e6, 1.008, 0.64},
};
constexpr double kTolerance = 0.01;
constexpr std::uint64_t kRows = 200'000;

double bound(const Scenario& s) { return (1 - 1.99 * s.fixed_ns / s.limit_ns) / s.row_ns * 1e9; }

// The batch that takes half of the limit.
std::uint32_t balanced_rows(const Scenario& s) {
  return static_cast<std::uint32_t>((s.limit_ns / 1.99 - s.fixed_ns) / s.row_ns);
}

SimulationSettings settings_of(const Scenario& s, bool blocks, bool admission) {
  SimulatedModel model;
  model.cost = affine(s.fixed_ns, s.row_ns);
  model.rows_per_second = bound(s);
  model.limit_ns = static_cast<std::uint64_t>(s.limit_ns);
  model.lane.batch_rows_max = 1;
  while (model.lane.batch_rows_max < 1.3 * balanced_rows(s)) model.lane.batch_rows_max *= 2;
  model.lane.block_rows = blocks ? std::min(64U, model.lane.batch_rows_max / 8) : 1;
  return {.models = {model}, .admission = admission, .rows = kRows};
}

void capacity_is_what_the_table_says() {
  for (const Scenario& scenario : kScenarios) {
    for (const bool blocks : {false, true}) {
      for (const bool admission : {false, true}) {
        const double reached = capacity_factor(settings_of(scenario, blocks, admission));
        std::printf("%s blocks %d admission %d: %.3f of the bound, table %.3f\n", scenario.name, blocks, admission,
                    reached, scenario.poisson);
        CHECK(reached >= scenario.poisson - kTolerance);
      }
    }
    SimulationSettings greedy = settings_of(scenario, false, false);
    greedy.policy = SimulatedPolicy::kTimeoutFromArrival;
    greedy.models[0].lane.batch_rows_max = balanced_rows(scenario);
    std::printf("%s greedy: %.3f of the bound\n", scenario.name, capacity_factor(greedy));
  }
}

void bursts_cost_what_the_table_says() {
  for (const Scenario& scenario : kScenarios) {
    SimulationSettings settings = settings_of(scenario, true, true);
    settings.models[0].arrivals = ArrivalProcess::kBursty;
    settings.rows = 4 * kRows;  // a burst is one sample
    const double reached = capacity_factor(settings);
    std::printf("%s bursty: %.3f of the bound, table %.3f\n", scenario.name, reached, scenario.bursty);
    CHECK(reached >= scenario.bursty - kTolerance);
  }
}

void overload_costs_nothing() {
  for (const Scenario& scenario : kScenarios) {
    for (const double load : {0.9, 1.2, 2.0}) {
      for (const bool admission : {false, true}) {
        SimulationSettings settings = settings_of(scenario, true, admission);
        settings.models[0].rows_per_second *= load;
        const ModelFigures figures = simulate(settings).models[0];
        const double goodput = figures.goodput / bound(scenario);
        const double shed = static_cast<double>(figures.shed) / static_cast<double>(figures.rows);
        std::printf("%s at %.1f of the bound, admission %d: goodput %.3f, shed %.3f\n", scenario.name, load, admission,
                    goodput, shed);
        CHECK(goodput >= std::min(load, 0.98) * 0.975);
        // What cannot be in time is told so when it comes, not after it has waited.
        if (admission && load == 2.0) CHECK(shed < 0.1);
      }
    }
  }
}

// Otherwise the simulator would flatter: what is known to collapse must collapse here.
void other_rules_fall_behind() {
  SimulationSettings settings = settings_of(kScenarios[1], false, false);
  const double engine = capacity_factor(settings);
  settings.policy = SimulatedPolicy::kDropLate;
  settings.models[0].rows_per_second = 0.9 * bound(kScenarios[1]);
  CHECK(simulate(settings).models[0].goodput < 0.6 * bound(kScenarios[1]));
  settings.models[0].rows_per_second = bound(kScenarios[1]);
  settings.models[0].lane.batch_rows_max = 81;
  settings.policy = SimulatedPolicy::kTimeoutFromArrival;
  const double greedy = capacity_factor(settings);
  CHECK(std::abs(greedy - 0.940) < kTolerance && greedy < engine);
  settings.policy = SimulatedPolicy::kWindow;
  CHECK(std::abs(capacity_factor(settings) - 0.970) < kTolerance);
  settings.policy = SimulatedPolicy::kTimeoutFromTake;
  settings.timeout_ns = 2 * kMs;
  CHECK(std::abs(capacity_factor(settings) - 0.750) < 2 * kTolerance);
  settings.timeout_ns = 6 * kMs;
  CHECK(std::abs(capacity_factor(settings) - 0.443) < 2 * kTolerance);
}

}  // namespace

int main() {
  capacity_is_what_the_table_says();
  bursts_cost_what_the_table_says();
  overload_costs_nothing();
  other_rules_fall_behind();
}
