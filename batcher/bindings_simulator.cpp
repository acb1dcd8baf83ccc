#include "bindings_simulator.hpp"

#include <nanobind/stl/array.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <stdexcept>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "penstock/batcher/simulator.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock::batcher {
namespace {

template <class Value, std::size_t kCount>
Value named(const std::array<std::pair<std::string_view, Value>, kCount>& names, std::string_view name) {
  const auto found = std::ranges::find(names, name, &std::pair<std::string_view, Value>::first);
  if (found == names.end()) throw std::invalid_argument("no such arrival process or policy");
  return found->second;
}

constexpr std::array<std::pair<std::string_view, ArrivalProcess>, 4> kArrivals{{{"poisson", ArrivalProcess::kPoisson},
                                                                                {"bursty", ArrivalProcess::kBursty},
                                                                                {"gamma", ArrivalProcess::kGamma},
                                                                                {"trace", ArrivalProcess::kTrace}}};
constexpr std::array<std::pair<std::string_view, SimulatedPolicy>, 6> kPolicies{
    {{"engine", SimulatedPolicy::kEngine},
     {"round_robin", SimulatedPolicy::kRoundRobin},
     {"timeout_from_arrival", SimulatedPolicy::kTimeoutFromArrival},
     {"timeout_from_take", SimulatedPolicy::kTimeoutFromTake},
     {"window", SimulatedPolicy::kWindow},
     {"drop_late", SimulatedPolicy::kDropLate}}};

// A model with the memory that its settings point to.
struct ModelBinding {
  SimulatedModel model;
  std::vector<std::uint32_t> batch_sizes;
  std::vector<std::uint64_t> trace_ns;
};

void make_model(ModelBinding* self, const std::vector<float>& mean_ns, const std::vector<float>& p99_ns,
                double rows_per_second) {
  if (mean_ns.size() != kCostKnots || p99_ns.size() != kCostKnots) {
    throw std::invalid_argument("a curve has 13 knots: batches of 1, 2, 4, ... 4096 rows");
  }
  auto* binding = new (self) ModelBinding{};
  std::ranges::copy(mean_ns, binding->model.cost.mean_ns_at.begin());
  std::ranges::copy(p99_ns, binding->model.cost.p99_ns_at.begin());
  binding->model.rows_per_second = rows_per_second;
}

struct SimulatorBinding {
  std::vector<ModelBinding> models;
  SimulationSettings settings;

  // The spans point into this object's own vectors, wherever they have moved to.
  [[nodiscard]] SimulationSettings ready() const {
    SimulationSettings copy = settings;
    for (const ModelBinding& binding : models) {
      SimulatedModel model = binding.model;
      model.lane.batch_sizes = binding.batch_sizes;
      model.trace_ns = binding.trace_ns;
      copy.models.push_back(model);
    }
    return copy;
  }
};

void bind_model(nb::module_& module) {
  nb::class_<ModelBinding>(module, "SimulatedModel", "A model of a simulation; its curve has 13 knots.")
      .def("__init__", &make_model, "mean_ns"_a, "p99_ns"_a, "rows_per_second"_a)
      .def(
          "arrive",
          [](ModelBinding& self, std::string_view process, double gap_cv, std::vector<std::uint64_t> trace_ns) {
            self.model.arrivals = named(kArrivals, process);
            self.model.gap_cv = gap_cv;
            self.trace_ns = std::move(trace_ns);
          },
          "process"_a, "gap_cv"_a = 2.0, "trace_ns"_a = std::vector<std::uint64_t>{},
          "process: 'poisson', 'bursty', 'gamma' or 'trace'.")
      .def(
          "limit",
          [](ModelBinding& self, std::uint64_t limit_ns, bool objective) {
            self.model.limit_ns = limit_ns;
            self.model.has_objective = objective;
          },
          "limit_ns"_a, "objective"_a = true, "A later answer is late; objective: the engine knows.")
      .def(
          "batch",
          [](ModelBinding& self, std::uint32_t rows_max, std::uint32_t block_rows, std::vector<std::uint32_t> sizes) {
            self.model.lane.batch_rows_max = rows_max;
            self.model.lane.block_rows = block_rows;
            self.batch_sizes = std::move(sizes);
          },
          "rows_max"_a, "block_rows"_a, "sizes"_a = std::vector<std::uint32_t>{})
      .def(
          "share",
          [](ModelBinding& self, std::uint32_t weight, std::uint64_t queue_delay_ns, std::array<double, 3> classes) {
            self.model.lane.weight = weight;
            self.model.lane.queue_delay_ns = queue_delay_ns;
            self.model.class_shares = classes;
          },
          "weight"_a = 100, "queue_delay_ns"_a = 0, "classes"_a = std::array<double, 3>{0, 1, 0},
          "classes: shares of interactive, normal and batch rows.");
}

}  // namespace

void bind_simulator(nb::module_& module) {
  nb::class_<ModelFigures>(module, "ModelFigures", "What became of a model's rows.")
      .def_ro("rows", &ModelFigures::rows)
      .def_ro("in_time", &ModelFigures::in_time)
      .def_ro("late", &ModelFigures::late)
      .def_ro("shed", &ModelFigures::shed)
      .def_ro("refused", &ModelFigures::refused)
      .def_ro("batches", &ModelFigures::batches)
      .def_ro("rows_run", &ModelFigures::rows_run)
      .def_ro("goodput", &ModelFigures::goodput, "Rows in time per second.")
      .def_prop_ro(
          "latency_ns",
          [](const ModelFigures& f) {
            return std::make_tuple(f.latency_ns[0], f.latency_ns[1], f.latency_ns[2], f.latency_ns[3]);
          },
          "p50, p99, p99.9 and maximum.");
  nb::class_<SimulationFigures>(module, "SimulationFigures")
      .def_ro("models", &SimulationFigures::models)
      .def_ro("seconds", &SimulationFigures::seconds, "Of virtual time that count.")
      .def_ro("busy", &SimulationFigures::busy, "Share of the devices' time.")
      .def_prop_ro(
          "idle_with_rows", [](const SimulationFigures& f) { return 1e-9 * static_cast<double>(f.idle_with_rows_ns); },
          "Seconds in which a worker waited although rows were there.");
  bind_model(module);
  nb::class_<SimulatorBinding>(module, "Simulator", "The engine on a virtual clock.")
      .def(
          "__init__",
          [](SimulatorBinding* self, std::vector<ModelBinding> models, std::uint32_t instances, std::string_view policy,
             bool admission, double jitter, std::uint64_t rows, std::uint64_t seed) {
            new (self) SimulatorBinding{std::move(models), {}};
            self->settings.instances = instances;
            self->settings.policy = named(kPolicies, policy);
            self->settings.admission = admission;
            self->settings.jitter = jitter;
            self->settings.rows = rows;
            self->settings.seed = seed;
          },
          "models"_a, "instances"_a = 1, "policy"_a = "engine", "admission"_a = true, "jitter"_a = 0.015,
          "rows"_a = 300'000, "seed"_a = 1)
      .def(
          "run",
          [](const SimulatorBinding& self, double factor) {
            SimulationSettings settings = self.ready();
            for (SimulatedModel& model : settings.models) model.rows_per_second *= factor;
            const nb::gil_scoped_release released;
            return simulate(settings);
          },
          "factor"_a = 1.0, "factor: on all rates. ValueError for settings that make no sense.")
      .def(
          "capacity_factor",
          [](const SimulatorBinding& self, double violations_max, double factor_max, double precision) {
            const SimulationSettings settings = self.ready();
            const nb::gil_scoped_release released;
            return capacity_factor(settings, violations_max, factor_max, precision);
          },
          "violations_max"_a = 0.01, "factor_max"_a = 1.5, "precision"_a = 0.002,
          "Largest factor on all rates that keeps every model's late, shed and refused rows below the share.");
}

}  // namespace penstock::batcher
