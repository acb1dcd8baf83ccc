// What the policy costs: a decision among few and many lanes, shedding, the curve and its learner.
//
// The budget of a decision is 2 us, and 100 ns for the four lanes of a lone model, which asks several times per batch.
#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "penstock/batcher/cost_learner.hpp"
#include "penstock/batcher/scheduler.hpp"
#include "report.hpp"

namespace {

using namespace penstock::batcher;

constexpr std::uint64_t kMs = 1'000'000;
constexpr std::uint64_t kNow = 10'000 * kMs;

CostModel affine(double fixed_ns, double row_ns) {
  CostModel cost;
  for (std::size_t k = 0; k < kCostKnots; ++k) {
    const double mean = fixed_ns + row_ns * static_cast<double>(1U << k);
    cost.mean_ns_at[k] = static_cast<float>(mean);
    cost.p99_ns_at[k] = static_cast<float>(mean * 1.03);
  }
  return cost;
}

// Lanes of `models` models, four each, three of which have rows.
class Lanes {
 public:
  Lanes(std::uint32_t models, bool objective) : cost_(affine(2e6, 1e5)), settings_(std::size_t{models} * kRowClasses) {
    std::mt19937_64 random(1);
    for (std::uint32_t i = 0; i < settings_.size(); ++i) {
      LaneSettings& lane = settings_[i];
      lane.model = i / kRowClasses;
      lane.row_class = static_cast<RowClass>(i % kRowClasses);
      if (objective) lane.slo_ns = 20 * kMs * (1 + lane.model % 4);
      LaneView view{.settings = &lane, .cost = &cost_};
      if (lane.row_class != RowClass::kReproducible) {
        view.rows = static_cast<std::uint32_t>(1 + random() % 64);
        view.oldest_ns = kNow - random() % (10 * kMs);
        if (objective) view.deadline_ns = view.oldest_ns + lane.slo_ns;
      }
      views_.push_back(view);
    }
  }
  [[nodiscard]] const std::vector<LaneView>& views() const { return views_; }

 private:
  CostModel cost_;
  std::vector<LaneSettings> settings_;
  std::vector<LaneView> views_;
};

void measure_decisions(penstock::bench::Report& report) {
  for (const bool objective : {false, true}) {
    for (const std::uint32_t models : {1U, 4U, 16U, 64U}) {
      const Lanes lanes(models, objective);
      Scheduler scheduler;
      std::uint64_t now_ns = kNow;
      const double budget = models == 1 && !objective ? 100 : 2000;
      report.measure("decide, " + std::to_string(models * kRowClasses) + (objective ? " lanes, objectives" : " lanes"),
                     {.value = budget, .source = "its budget"}, [&] {
                       const Decision decision = scheduler.decide(lanes.views(), ++now_ns);
                       penstock::bench::keep(decision);
                     });
    }
  }
}

void measure_shedding(penstock::bench::Report& report) {
  const CostModel cost = affine(2e6, 1e5);
  const LaneSettings lane;
  std::mt19937_64 random(2);
  std::vector<std::uint64_t> deadlines(64);
  std::vector<std::uint8_t> shed(64);
  for (std::uint64_t& deadline : deadlines) deadline = kNow + 20 * kMs + random() % (10 * kMs);
  const auto run = [&](std::uint64_t now_ns) {
    return [&, now_ns] {
      const std::uint32_t rows = shed_late(deadlines, lane, cost, now_ns, shed);
      penstock::bench::keep(rows);
    };
  };
  report.measure("shed_late, 64 rows in time", {}, run(kNow));
  report.measure("shed_late, 64 rows, half late", {}, run(kNow + 18 * kMs));
}

void measure_curves(penstock::bench::Report& report) {
  const CostModel cost = affine(2e6, 1e5);
  std::uint32_t rows = 1;
  report.measure("p99_ns", {}, [&] {
    const std::uint64_t ns = cost.p99_ns(rows = rows % 64 + 1);
    penstock::bench::keep(ns);
  });
  report.measure("rows_within", {}, [&] {
    const std::uint32_t within = cost.rows_within(kMs * (rows = rows % 64 + 1));
    penstock::bench::keep(within);
  });
  CostLearner learner;
  report.measure("learner: add", {}, [&] {
    rows = rows % 64 + 1;
    learner.add({.rows = rows, .ns = 2 * kMs + rows * 100'000});
  });
  report.measure("learner: publish", {}, [&] {
    const CostModel published = learner.publish();
    penstock::bench::keep(published);
  });
}

}  // namespace

int main(int argc, char** argv) {
  penstock::bench::Report report("policy", argc, argv);
  measure_decisions(report);
  measure_shedding(report);
  measure_curves(report);
}
