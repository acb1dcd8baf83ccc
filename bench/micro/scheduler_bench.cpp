// What deciding costs: the next batch among the lanes of one model and of many, which rows of a batch are shed, when a
// row that arrives would be done, and what stands behind all of them: the curve and its learner.
//
// The budget of a decision is 2 us: a batch of 64 rows then pays 30 ns a row for it, as much as for claiming a row.
#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "penstock/batcher/admission.hpp"
#include "penstock/batcher/cost_learner.hpp"
#include "penstock/batcher/scheduler.hpp"
#include "report.hpp"

namespace {

using namespace penstock::batcher;
using penstock::bench::keep;
using penstock::bench::Limit;
using penstock::bench::Report;

constexpr std::uint64_t kMs = 1'000'000;
constexpr Limit kBudget{.value = 2000, .source = "budget of a decision"};
constexpr std::size_t kSituations = 64;

CostModel affine(double fixed_ns, double row_ns) {
  CostModel cost;
  for (std::size_t i = 0; i < kCostKnots; ++i) {
    const double mean = fixed_ns + row_ns * static_cast<double>(1U << i);
    cost.mean_ns_at[i] = static_cast<float>(mean);
    cost.p99_ns_at[i] = static_cast<float>(mean * 1.02);
  }
  return cost;
}

// Lanes of `models` models, each of the four classes, and what a taker may see of them at some moments.
struct Device {
  explicit Device(std::uint32_t models) : cost(affine(1e6, 1e5)), settings(models * kRowClasses) {
    std::mt19937_64 random(models);
    for (std::uint32_t i = 0; i < settings.size(); ++i) {
      settings[i].model = i / kRowClasses;
      settings[i].row_class = static_cast<RowClass>(i % kRowClasses);
      settings[i].block_rows = 8;
      settings[i].slo_ns = (5 + 15 * (settings[i].model % 8)) * kMs;
    }
    for (std::size_t situation = 0; situation < kSituations; ++situation) {
      const std::uint64_t now_ns = 1'000 * kMs + situation * kMs;
      std::vector<LaneView>& views = situations.emplace_back(settings.size());
      for (std::size_t i = 0; i < views.size(); ++i) {
        views[i] = {.settings = &settings[i], .cost = &cost, .rows = static_cast<std::uint32_t>(random() % 65)};
        views[i].ripe = views[i].rows == 64;
        views[i].oldest_ns = now_ns - random() % (settings[i].slo_ns / 2);
        views[i].deadline_ns = views[i].oldest_ns + settings[i].slo_ns;
        views[i].rows_seen = situation * 50;
      }
    }
  }

  CostModel cost;
  std::vector<LaneSettings> settings;
  std::vector<std::vector<LaneView>> situations;
};

void decide(Report& report, std::uint32_t models) {
  const Device device(models);
  Scheduler scheduler;
  std::uint64_t round = 0;
  const std::string what = "decide, " + std::to_string(models) + " models of 4 lanes";
  // Beyond some ten models on one device a batch is longer, and so may be its decision.
  report.measure(what, models <= 8 ? kBudget : Limit{}, [&] {
    const std::size_t situation = round % kSituations;
    const std::uint64_t now_ns = 1'000 * kMs + round++ * kMs;
    keep(scheduler.decide(device.situations[situation], now_ns).rows);
  });
}

void shed(Report& report, std::uint32_t rows) {
  Device device(1);
  std::mt19937_64 random(rows);
  const std::uint64_t now_ns = 1'000 * kMs;
  std::vector<std::uint64_t> deadlines_ns(rows);
  for (std::uint64_t& deadline_ns : deadlines_ns) deadline_ns = now_ns + random() % (30 * kMs);
  std::ranges::sort(deadlines_ns);
  std::vector<std::uint8_t> marks(rows);
  report.measure("shed_late, " + std::to_string(rows) + " rows", rows <= 64 ? kBudget : Limit{}, [&] {
    std::ranges::fill(marks, std::uint8_t{0});
    keep(shed_late(deadlines_ns, device.settings[1], device.cost, now_ns, marks));
  });
}

void admit(Report& report) {
  Device device(1);
  const std::uint64_t now_ns = 1'000 * kMs;
  QueueLoad load{.rows_ahead = 0, .free_at_ns = now_ns + kMs, .rows_per_second = 5000};
  report.measure("predict when a row is done", {.value = 100, .source = "a tenth of a request"}, [&] {
    load.rows_ahead = (load.rows_ahead + 7) % 1000;
    keep(predict_done_ns(load, device.settings[1], device.cost, now_ns));
  });
}

void curves(Report& report) {
  const CostModel cost = affine(2e6, 1e5);
  std::uint32_t rows = 1;
  report.measure("p99_ns", {}, [&] { keep(cost.p99_ns(rows = rows % 64 + 1)); });
  report.measure("rows_within", {}, [&] { keep(cost.rows_within(kMs * (rows = rows % 64 + 1))); });
  CostLearner learner;
  report.measure("learner: add", {}, [&] {
    rows = rows % 64 + 1;
    learner.add({.rows = rows, .ns = 2 * kMs + rows * 100'000});
  });
  report.measure("learner: publish", {}, [&] { keep(learner.publish()); });
}

}  // namespace

int main(int argc, char** argv) {
  Report report("scheduler", argc, argv);
  for (const std::uint32_t models : {1U, 4U, 8U, 16U, 64U}) decide(report, models);
  for (const std::uint32_t rows : {64U, 1024U}) shed(report, rows);
  admit(report);
  curves(report);
  return 0;
}
