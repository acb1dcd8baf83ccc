// The parts of a simulation: arrivals, lanes of blocks, and figures.
#pragma once

#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

#include "penstock/batcher/simulator.hpp"

namespace penstock::batcher {

// When the rows of one model arrive, and in which class.
class ArrivalStream {
 public:
  ArrivalStream(const SimulatedModel& model, std::uint64_t seed);

  [[nodiscard]] std::uint64_t next_ns() const noexcept { return next_ns_; }
  // The class of the row that arrives at next_ns(); then on to the one after it.
  RowClass pop();

 private:
  [[nodiscard]] double gap_ns();
  [[nodiscard]] double bursty_gap_ns();
  [[nodiscard]] double uniform();

  const SimulatedModel* model_;
  std::mt19937_64 random_;
  std::gamma_distribution<double> gamma_;
  double clock_ns_ = 0;
  std::uint64_t next_ns_ = 0;
  bool high_ = false;
  double state_left_ns_ = 0;
  std::size_t trace_at_ = 0;
  double trace_stretch_ = 1;
};

struct SimulatedRow {
  std::uint64_t arrival_ns = 0;
  std::uint64_t deadline_ns = kNoDeadline;
  bool counts = false;
};

// First come, first served. A block takes rows until it is full or taken, so that the blocks of a lane always start at
// its head.
class SimulatedLane {
 public:
  [[nodiscard]] std::size_t rows() const noexcept { return rows_.size() - head_; }
  [[nodiscard]] const SimulatedRow& head() const noexcept { return rows_[head_]; }
  [[nodiscard]] std::uint64_t rows_seen() const noexcept { return rows_seen_; }
  void push(const SimulatedRow& row) {
    rows_.push_back(row);
    ++rows_seen_;
  }
  SimulatedRow pop() noexcept;
  // Moves whole blocks to `batch`, up to `rows` rows, or all that is there; at least one block if `at_least_one`.
  std::uint32_t take(std::uint32_t rows, std::uint32_t block_rows, bool at_least_one, std::vector<SimulatedRow>& batch);

 private:
  std::vector<SimulatedRow> rows_;
  std::size_t head_ = 0;
  std::uint64_t rows_seen_ = 0;
};

// Latencies in buckets of half a percent.
class LatencyHistogram {
 public:
  void add(std::uint64_t ns);
  [[nodiscard]] std::uint64_t quantile_ns(double share) const;
  [[nodiscard]] std::uint64_t max_ns() const noexcept { return max_ns_; }

 private:
  std::vector<std::uint64_t> counts_;
  std::uint64_t total_ = 0;
  std::uint64_t max_ns_ = 0;
};

}  // namespace penstock::batcher
