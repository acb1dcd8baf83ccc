// Several models on one device: what the engine carries, against round-robin at its best.
#include <algorithm>
#include <array>
#include <cstdio>
#include <vector>

#include "check.hpp"
#include "penstock/batcher/simulator.hpp"
#include "policy_fixture.hpp"

namespace {

using namespace penstock::batcher;
using namespace penstock::test;

constexpr std::uint64_t kRows = 150'000;
constexpr double kPrecision = 0.004;

struct Curve {
  double fixed_ns;
  double row_ns;
  double limit_ns;
};
using Mix = std::vector<Curve>;

// Rates at which each model's rows alone would fill an equal share of the device: the factor is the load.
SimulationSettings settings_of(const Mix& mix) {
  SimulationSettings settings;
  settings.rows = kRows;
  const double tightest_ns = std::ranges::min(mix, {}, &Curve::limit_ns).limit_ns;
  for (const Curve& curve : mix) {
    SimulatedModel model;
    model.cost = affine(curve.fixed_ns, curve.row_ns);
    model.rows_per_second = 1e9 / curve.row_ns / static_cast<double>(mix.size());
    model.limit_ns = static_cast<std::uint64_t>(curve.limit_ns);
    // A block must not hold the device for longer than the tightest limit allows.
    const double rows = (std::min(curve.limit_ns / 1.99, tightest_ns) - curve.fixed_ns) / curve.row_ns;
    model.lane.batch_rows_max = 1;
    while (model.lane.batch_rows_max * 2 <= rows) model.lane.batch_rows_max *= 2;
    model.lane.block_rows = std::clamp(model.lane.batch_rows_max / 8, 1U, 64U);
    settings.models.push_back(model);
  }
  return settings;
}

double round_robin(const Mix& mix, ArrivalProcess arrivals) {
  double best = 0;
  for (const double delay : {0.0, 0.05, 0.1}) {
    for (const double longest : {0.5, 0.35, 0.25}) {
      SimulationSettings settings = settings_of(mix);
      settings.policy = SimulatedPolicy::kRoundRobin;
      for (SimulatedModel& model : settings.models) {
        const auto limit_ns = static_cast<double>(model.limit_ns);
        model.arrivals = arrivals;
        model.has_objective = false;
        model.lane.block_rows = 1;
        model.lane.queue_delay_ns = static_cast<std::uint64_t>(delay * limit_ns);
        model.lane.batch_rows_max =
            std::clamp(model.cost.rows_within(static_cast<std::uint64_t>(longest * limit_ns)), 1U, 4096U);
      }
      best = std::max(best, capacity_factor(settings, 0.01, 1, kPrecision));
    }
  }
  return best;
}

double engine(const Mix& mix, ArrivalProcess arrivals) {
  SimulationSettings settings = settings_of(mix);
  for (SimulatedModel& model : settings.models) model.arrivals = arrivals;
  return capacity_factor(settings, 0.01, 1, kPrecision);
}

void compare(const char* name, const Mix& mix, ArrivalProcess arrivals, double least) {
  const double others = round_robin(mix, arrivals);
  const double ours = engine(mix, arrivals);
  std::printf("%s: load %.3f, round-robin at best %.3f, ratio %.2f\n", name, ours, others, ours / others);
  CHECK(ours >= least * others);
}

// One tenant's burst does not move another's tail: it sheds its own rows.
void a_burst_is_paid_by_who_sends_it() {
  SimulationSettings settings = settings_of({{0.5e6, 20e3, 20e6}, {0.5e6, 20e3, 20e6}});
  settings.models[0].rows_per_second *= 0.4;
  settings.models[1].rows_per_second *= 0.4;
  const ModelFigures calm = simulate(settings).models[0];
  settings.models[1].rows_per_second *= 10;
  for (const bool admission : {false, true}) {
    settings.admission = admission;
    const SimulationFigures figures = simulate(settings);
    std::printf("beside a burst, admission %d: %.4f late or shed, of the burst %.4f\n", admission,
                figures.models[0].violations(), figures.models[1].violations());
    CHECK(calm.violations() < 0.001 && figures.models[0].violations() < 0.01);
    CHECK(figures.models[1].violations() > 0.5 && figures.busy > 0.99);
  }
}

// With other models about, a batch may wait for more rows; alone it may not.
void waiting_saves_device_time_at_low_load(const Mix& mix) {
  SimulationSettings settings = settings_of(mix);
  for (SimulatedModel& model : settings.models) model.rows_per_second *= 0.3;
  const SimulationFigures figures = simulate(settings);
  std::printf("busy at a load of 0.3: %.2f\n", figures.busy);
  CHECK(figures.busy < 0.7 && figures.idle_with_rows_ns > 0);
  settings.models.resize(1);
  CHECK(simulate(settings).idle_with_rows_ns == 0);
}

}  // namespace

int main() {
  // As in docs/batching.md: limits far apart, and equal ones.
  const Mix four{{0.7e6, 20e3, 5e6}, {0.7e6, 20e3, 20e6}, {0.7e6, 20e3, 60e6}, {0.7e6, 20e3, 200e6}};
  const Mix four_unlike{{0.3e6, 50e3, 5e6}, {0.5e6, 100e3, 20e6}, {0.5e6, 100e3, 60e6}, {0.5e6, 200e3, 200e6}};
  const Mix two{{0.1e6, 10e3, 2e6}, {0.3e6, 500e3, 100e6}};
  const Mix eight(8, {0.5e6, 20e3, 20e6});
  const Mix sixteen(16, {0.2e6, 10e3, 20e6});
  compare("4 models, 5 to 200 ms", four, ArrivalProcess::kPoisson, 1.15);
  compare("4 models, 5 to 200 ms, bursty", four, ArrivalProcess::kBursty, 1.15);
  compare("4 unlike models, 5 to 200 ms", four_unlike, ArrivalProcess::kPoisson, 1.15);
  compare("2 models, 2 and 100 ms", two, ArrivalProcess::kPoisson, 1.15);
  compare("2 models, 2 and 100 ms, bursty", two, ArrivalProcess::kBursty, 1.15);
  compare("8 equal models, 20 ms", eight, ArrivalProcess::kPoisson, 0.98);
  compare("16 equal models, 20 ms", sixteen, ArrivalProcess::kPoisson, 0.98);
  a_burst_is_paid_by_who_sends_it();
  waiting_saves_device_time_at_low_load(two);
}
