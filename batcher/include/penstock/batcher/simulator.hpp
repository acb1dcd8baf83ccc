// The engine on a virtual clock: the takers' own decisions over modelled lanes, arrivals and run times.
//
// What it answers is what a deployment can carry, before there is one: `penstock simulate` and the tests of the policy
// run it. One thread; a simulation depends on its settings and seed only.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "penstock/batcher/cost_model.hpp"
#include "penstock/batcher/scheduler.hpp"

namespace penstock::batcher {

enum class ArrivalProcess : std::uint8_t {
  kPoisson,
  kBursty,  // two-state Markov-modulated Poisson: rates 0.4 and 1.6 of the mean, each kept for 10 limits on average
  kGamma,   // gaps of a gamma distribution with the coefficient of variation `gap_cv`
  kTrace,   // the gaps of `trace_ns`, stretched to the rate, again and again
};

// Who decides: the engine, or a rule of other servers to compare it with. The last four know one model only.
enum class SimulatedPolicy : std::uint8_t {
  kEngine,
  kRoundRobin,          // models in turn, a partial batch held for queue_delay_ns
  kTimeoutFromArrival,  // batch_rows_max rows, or the oldest is timeout_ns old; 0: greedy
  kTimeoutFromTake,     // as above, counted from when the worker took the first row
  kWindow,              // drop every head that the next full batch would make late
  kDropLate,            // earliest deadline first: as many as the head allows, heads dropped when they are late
};

struct SimulatedModel {
  CostModel cost;
  double rows_per_second = 0;
  ArrivalProcess arrivals = ArrivalProcess::kPoisson;
  double gap_cv = 2;
  std::span<const std::uint64_t> trace_ns;      // arrival times, ascending
  std::uint64_t limit_ns = 0;                   // a later answer is late; 0: none is
  bool has_objective = true;                    // the engine knows the limit: slo_ms
  std::array<double, 3> class_shares{0, 1, 0};  // interactive, normal, batch
  // slo_ns, model and row_class are set by the simulator.
  LaneSettings lane{};
};

struct SimulationSettings {
  std::vector<SimulatedModel> models;
  std::uint32_t instances = 1;
  SimulatedPolicy policy = SimulatedPolicy::kEngine;
  std::uint64_t timeout_ns = 0;
  bool admission = true;         // kEngine: refuse at arrival what would be late
  double jitter = 0.015;         // of run times: sigma of a lognormal factor
  std::uint64_t rows = 300'000;  // arrivals in all, the first twentieth of which does not count
  std::uint64_t seed = 1;
};

struct ModelFigures {
  std::uint64_t rows = 0;  // that arrived and count: in_time + late + shed + refused
  std::uint64_t in_time = 0;
  std::uint64_t late = 0;
  std::uint64_t shed = 0;
  std::uint64_t refused = 0;
  std::uint64_t batches = 0;
  std::uint64_t rows_run = 0;
  double goodput = 0;                         // rows in time per second
  std::array<std::uint64_t, 4> latency_ns{};  // p50, p99, p99.9 and maximum of what was answered

  [[nodiscard]] double violations() const noexcept {
    return rows == 0 ? 0 : 1 - static_cast<double>(in_time) / static_cast<double>(rows);
  }
};

struct SimulationFigures {
  std::vector<ModelFigures> models;
  double seconds = 0;  // of virtual time that counts
  double busy = 0;     // share of it in which a device ran
  std::uint64_t decisions = 0;
  std::uint64_t idle_with_rows_ns = 0;  // time in which a worker waited although rows were there
};

// std::invalid_argument for settings that make no sense.
[[nodiscard]] SimulationFigures simulate(const SimulationSettings& settings);

// Largest factor on all rates at which every model has at most `violations_max` late, shed or refused rows, to within
// `precision`; searched from 0 to `factor_max`.
[[nodiscard]] double capacity_factor(SimulationSettings settings, double violations_max = 0.01, double factor_max = 1.5,
                                     double precision = 0.002);

}  // namespace penstock::batcher
