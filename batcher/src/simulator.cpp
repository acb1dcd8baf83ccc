#include "penstock/batcher/simulator.hpp"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "penstock/batcher/admission.hpp"
#include "simulation.hpp"

namespace penstock::batcher {

namespace {

constexpr std::uint64_t kUncounted = 20;  // the first of so many parts of the arrivals fills the queues

void check(const SimulationSettings& settings) {
  if (settings.models.empty()) throw std::invalid_argument("a simulation needs a model");
  if (settings.instances == 0) throw std::invalid_argument("a simulation needs an instance");
  const bool lone_only = settings.policy > SimulatedPolicy::kRoundRobin;
  if (lone_only && settings.models.size() > 1) throw std::invalid_argument("this policy knows one model only");
  for (const SimulatedModel& model : settings.models) {
    if (!(model.rows_per_second > 0)) throw std::invalid_argument("a model's rate must be above 0");
    if (model.lane.block_rows == 0 || model.lane.batch_rows_max == 0) throw std::invalid_argument("a batch has rows");
    if (model.arrivals == ArrivalProcess::kBursty && model.limit_ns == 0) {
      throw std::invalid_argument("bursts last for 10 limits: the model needs one");
    }
    if (model.arrivals == ArrivalProcess::kTrace && model.trace_ns.size() < 2) {
      throw std::invalid_argument("a trace needs two arrivals");
    }
  }
}

}  // namespace

Simulation::Simulation(const SimulationSettings& settings) : settings_(settings), random_(settings.seed) {
  workers_.reserve(settings.instances);
  const bool in_turn = settings.policy == SimulatedPolicy::kRoundRobin;
  for (std::uint32_t i = 0; i < settings.instances; ++i) {
    workers_.push_back({.scheduler = Scheduler(in_turn ? SchedulingPolicy::kRoundRobin : SchedulingPolicy::kDeadline)});
  }
  for (std::uint32_t m = 0; m < settings_.models.size(); ++m) {
    const SimulatedModel& model = settings_.models[m];
    streams_.emplace_back(model, settings.seed * 1000 + m);
    for (std::uint32_t c = 0; c < kClasses; ++c) {
      LaneSettings lane = model.lane;
      lane.model = m;
      lane.row_class = static_cast<RowClass>(c);
      lane.slo_ns = model.has_objective ? model.limit_ns : 0;
      lane_settings_.push_back(lane);
    }
  }
  lanes_.resize(lane_settings_.size());
  views_.resize(lane_settings_.size());
  tallies_.resize(settings_.models.size());
}

SimulationFigures Simulation::run() {
  const std::uint64_t uncounted = settings_.rows / kUncounted;
  // After the last arrival everything that waits is still served: each row has a fate in the figures.
  while (arrived_ < settings_.rows || has_rows()) {
    const auto stream = std::ranges::min_element(streams_, {}, &ArrivalStream::next_ns);
    const std::uint64_t arrival_ns = arrived_ < settings_.rows ? stream->next_ns() : kNoDeadline;
    std::uint64_t next_ns = arrival_ns;
    for (const Worker& worker : workers_) next_ns = std::min(next_ns, worker.busy ? worker.free_ns : worker.wake_ns);
    if (next_ns == kNoDeadline) throw std::logic_error("the policy leaves rows waiting for ever");
    if (next_ns > now_ns_) note_idle(next_ns);
    now_ns_ = next_ns;
    if (arrival_ns == now_ns_) {
      if (arrived_++ == uncounted) counted_from_ns_ = now_ns_;
      counted_to_ns_ = now_ns_;
      arrive(static_cast<std::uint32_t>(stream - streams_.begin()), *stream);
    }
    for (Worker& worker : workers_) {
      if (worker.busy && worker.free_ns <= now_ns_) {
        worker.busy = false;
        worker.idle_from_ns = now_ns_;
      }
      while (!worker.busy && decide(worker)) {
      }
    }
  }
  return figures();
}

bool Simulation::has_rows() const {
  return std::ranges::any_of(lanes_, [](const SimulatedLane& lane) { return lane.rows() > 0; });
}

void Simulation::arrive(std::uint32_t m, ArrivalStream& stream) {
  const SimulatedModel& model = settings_.models[m];
  const auto lane = m * kClasses + static_cast<std::uint32_t>(stream.pop());
  SimulatedRow row{.arrival_ns = now_ns_, .counts = counted_from_ns_ > 0};
  if (model.limit_ns > 0) row.deadline_ns = now_ns_ + model.limit_ns;
  tallies_[m].figures.rows += row.counts ? 1 : 0;
  if (settings_.policy == SimulatedPolicy::kEngine && settings_.admission && row.deadline_ns != kNoDeadline &&
      predict_done_ns(load_before(lane), lane_settings_[lane], model.cost, now_ns_) > row.deadline_ns) {
    tallies_[m].figures.refused += row.counts ? 1 : 0;
    return;
  }
  lanes_[lane].push(row);
}

// As the server's loop sees it: queues, and when the workers should be free.
QueueLoad Simulation::load_before(std::uint32_t lane) const {
  QueueLoad load{.free_at_ns = kNoDeadline, .workers = settings_.instances};
  for (const Worker& worker : workers_) {
    load.free_at_ns = std::min(load.free_at_ns, worker.busy ? worker.expected_free_ns : now_ns_);
  }
  const std::uint32_t model = lane / kClasses;
  load.rows_per_second = settings_.models[model].rows_per_second;
  for (std::uint32_t other = model * kClasses; other <= lane; ++other) load.rows_ahead += lanes_[other].rows();
  const std::uint64_t deadline_ns = now_ns_ + settings_.models[model].limit_ns;
  for (std::uint32_t other = 0; other < lanes_.size(); ++other) {
    if (other / kClasses == model || lanes_[other].rows() == 0) continue;
    if (lanes_[other].head().deadline_ns > deadline_ns) continue;
    const LaneSettings& settings = lane_settings_[other];
    const auto rows = static_cast<std::uint32_t>(std::min<std::size_t>(lanes_[other].rows(), settings.batch_rows_max));
    load.others_ns += settings_.models[other / kClasses].cost.mean_ns(rows);
  }
  return load;
}

void Simulation::note_idle(std::uint64_t until_ns) {
  const bool idle = std::ranges::any_of(workers_, [](const Worker& worker) { return !worker.busy; });
  if (idle && has_rows()) idle_with_rows_ns_ += until_ns - now_ns_;
}

// Whether there may be more to decide now: rows were taken or shed.
bool Simulation::decide(Worker& worker) {
  ++decisions_;
  worker.wake_ns = kNoDeadline;
  if (settings_.policy > SimulatedPolicy::kRoundRobin) return decide_as_others(worker);
  look();
  const Decision decision = worker.scheduler.decide(views_, now_ns_);
  if (decision.action == Action::kWaitUntil) worker.wake_ns = std::max(decision.until_ns, now_ns_ + 1);
  if (decision.action != Action::kRun) return false;
  const std::uint32_t rows = take(decision);
  if (rows == 0) return true;
  const std::uint64_t cost_ns = start(worker, decision.lane, rows);
  worker.scheduler.charge(views_, decision.lane, cost_ns);
  return false;
}

void Simulation::look() {
  for (std::uint32_t i = 0; i < lanes_.size(); ++i) {
    const LaneSettings& settings = lane_settings_[i];
    const SimulatedLane& lane = lanes_[i];
    LaneView& view = views_[i];
    view.settings = &settings;
    view.cost = &settings_.models[i / kClasses].cost;
    view.rows = static_cast<std::uint32_t>(std::min<std::size_t>(lane.rows(), settings.batch_rows_max));
    view.ripe = lane.rows() >= settings.batch_rows_max;
    view.oldest_ns = view.rows > 0 ? lane.head().arrival_ns : 0;
    view.deadline_ns = view.rows > 0 ? lane.head().deadline_ns : kNoDeadline;
    view.rows_seen = lane.rows_seen();
  }
}

// As a taker does it: whole blocks of the lane, then of lower classes, then what would be late is shed and replaced.
std::uint32_t Simulation::take(const Decision& decision) {
  batch_.clear();
  const std::uint32_t model = decision.lane / kClasses;
  const std::uint32_t block_rows = lane_settings_[decision.lane].block_rows;
  lanes_[decision.lane].take(decision.lane_rows, block_rows, true, batch_);
  for (std::uint32_t lane = decision.lane + 1; lane < (model + 1) * kClasses; ++lane) {
    const auto there = static_cast<std::uint32_t>(batch_.size());
    if (there < decision.rows) lanes_[lane].take(decision.rows - there, block_rows, false, batch_);
  }
  if (settings_.policy == SimulatedPolicy::kRoundRobin) return static_cast<std::uint32_t>(batch_.size());
  const auto wanted = static_cast<std::uint32_t>(batch_.size());
  for (;;) {
    drop_late(decision.lane);
    const auto staying = static_cast<std::uint32_t>(batch_.size());
    if (staying >= wanted) return staying;
    if (lanes_[decision.lane].take(wanted - staying, block_rows, false, batch_) == 0) return staying;
  }
}

void Simulation::drop_late(std::uint32_t lane) {
  deadlines_ns_.resize(batch_.size());
  shed_.resize(batch_.size());
  std::ranges::transform(batch_, deadlines_ns_.begin(), &SimulatedRow::deadline_ns);
  const std::uint32_t model = lane / kClasses;
  const CostModel& cost = settings_.models[model].cost;
  if (shed_late(deadlines_ns_, lane_settings_[lane], cost, now_ns_, shed_) == batch_.size()) return;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < batch_.size(); ++i) {
    if (shed_[i] == 0) {
      batch_[kept++] = batch_[i];
    } else {
      tallies_[model].figures.shed += batch_[i].counts ? 1 : 0;
    }
  }
  batch_.resize(kept);
}

// Runs what is in batch_; returns what it should take.
std::uint64_t Simulation::start(Worker& worker, std::uint32_t lane, std::uint32_t rows) {
  const std::uint32_t model = lane / kClasses;
  const std::uint64_t mean_ns =
      settings_.models[model].cost.mean_ns(padded_rows(lane_settings_[lane].batch_sizes, rows));
  const double factor = settings_.jitter > 0 ? std::exp(settings_.jitter * normal_(random_)) : 1;
  const auto run_ns = static_cast<std::uint64_t>(static_cast<double>(mean_ns) * factor);
  worker.busy = true;
  worker.free_ns = now_ns_ + std::max<std::uint64_t>(run_ns, 1);
  worker.expected_free_ns = now_ns_ + mean_ns;
  Tally& tally = tallies_[model];
  for (const SimulatedRow& row : batch_) {
    if (!row.counts) continue;
    tally.latencies.add(worker.free_ns - row.arrival_ns);
    ++(worker.free_ns <= row.deadline_ns ? tally.figures.in_time : tally.figures.late);
  }
  if (counted_from_ns_ > 0 && arrived_ < settings_.rows) {
    busy_ns_ += worker.free_ns - now_ns_;
    ++tally.figures.batches;
    tally.figures.rows_run += rows;
  }
  return mean_ns;
}

SimulationFigures Simulation::figures() {
  SimulationFigures figures;
  const std::uint64_t counted_ns = std::max<std::uint64_t>(counted_to_ns_ - counted_from_ns_, 1);
  figures.seconds = static_cast<double>(counted_ns) * 1e-9;
  figures.busy = std::min(1.0, static_cast<double>(busy_ns_) / static_cast<double>(counted_ns * settings_.instances));
  figures.decisions = decisions_;
  figures.idle_with_rows_ns = idle_with_rows_ns_;
  for (const Tally& tally : tallies_) {
    ModelFigures model = tally.figures;
    model.goodput = static_cast<double>(model.in_time) / figures.seconds;
    model.latency_ns = {tally.latencies.quantile_ns(0.5), tally.latencies.quantile_ns(0.99),
                        tally.latencies.quantile_ns(0.999), tally.latencies.max_ns()};
    figures.models.push_back(model);
  }
  return figures;
}

SimulationFigures simulate(const SimulationSettings& settings) {
  check(settings);
  return Simulation(settings).run();
}

double capacity_factor(SimulationSettings settings, double violations_max, double factor_max, double precision) {
  const std::vector<SimulatedModel> models = settings.models;
  double low = 0;
  double high = factor_max;
  while (high - low > precision) {
    const double middle = (low + high) / 2;
    for (std::size_t i = 0; i < models.size(); ++i) {
      settings.models[i].rows_per_second = models[i].rows_per_second * middle;
    }
    const SimulationFigures figures = simulate(settings);
    const bool holds = std::ranges::all_of(
        figures.models, [&](const ModelFigures& model) { return model.violations() <= violations_max; });
    (holds ? low : high) = middle;
  }
  return low;
}

}  // namespace penstock::batcher
