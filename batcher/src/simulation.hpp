// One simulation in progress.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "penstock/batcher/admission.hpp"
#include "penstock/batcher/simulator.hpp"
#include "simulator_parts.hpp"

namespace penstock::batcher {

class Simulation {
 public:
  explicit Simulation(const SimulationSettings& settings);

  [[nodiscard]] SimulationFigures run();

 private:
  static constexpr std::uint32_t kClasses = 3;  // lanes of a model: nobody asks for reproducible answers here

  struct Worker {
    Scheduler scheduler;
    bool busy = false;
    std::uint64_t free_ns = 0;  // busy: when it will be free, and when it should be
    std::uint64_t expected_free_ns = 0;
    std::uint64_t idle_from_ns = 0;       // not busy: since when
    std::uint64_t wake_ns = kNoDeadline;  // not busy: when it looks again
  };
  struct Tally {
    ModelFigures figures;
    LatencyHistogram latencies;
  };

  void arrive(std::uint32_t model, ArrivalStream& stream);
  [[nodiscard]] QueueLoad load_before(std::uint32_t lane) const;
  [[nodiscard]] bool has_rows() const;
  void note_idle(std::uint64_t until_ns);
  bool decide(Worker& worker);
  bool decide_as_others(Worker& worker);
  void look();
  std::uint32_t take(const Decision& decision);
  void drop_late(std::uint32_t lane);
  void drop_heads(std::uint64_t done_ns);
  std::uint64_t start(Worker& worker, std::uint32_t lane, std::uint32_t rows);
  [[nodiscard]] SimulationFigures figures();

  const SimulationSettings settings_;
  std::mt19937_64 random_;
  std::normal_distribution<double> normal_;
  std::vector<Worker> workers_;
  std::vector<ArrivalStream> streams_;
  std::vector<LaneSettings> lane_settings_;
  std::vector<SimulatedLane> lanes_;
  std::vector<LaneView> views_;
  std::vector<Tally> tallies_;
  std::vector<SimulatedRow> batch_;
  std::vector<std::uint64_t> deadlines_ns_;
  std::vector<std::uint8_t> shed_;
  std::uint64_t now_ns_ = 0;
  std::uint64_t arrived_ = 0;
  std::uint64_t counted_from_ns_ = 0;
  std::uint64_t counted_to_ns_ = 0;
  std::uint64_t busy_ns_ = 0;
  std::uint64_t decisions_ = 0;
  std::uint64_t idle_with_rows_ns_ = 0;
};

}  // namespace penstock::batcher
