// Learns what a batch costs from the batches that ran: mean and 99th percentile by size, and how far off it was.
//
// Its samples come from workers, which are not trusted: whatever they say, the curve stays finite and never decreases.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "penstock/batcher/cost_model.hpp"

namespace penstock::batcher {

struct CostSample {
  std::uint32_t rows = 0;
  std::uint64_t ns = 0;
};

// l(b) = fixed_ns + b * row_ns.
struct AffineCost {
  double fixed_ns = 0;
  double row_ns = 0;
};

// How far run times were from what was predicted, relative to the prediction. Old batches fade.
struct PredictionError {
  static constexpr std::size_t kBuckets = 101;  // of one percent each; the last one takes the rest

  std::array<double, kBuckets> batches{};
  double off_share = 0;  // of recent batches, off by more than a fifth

  // Relative error that 95 % of the batches stay below; 0 before the first.
  [[nodiscard]] double p95() const noexcept;
};

// One per model and length bucket, in the main process. Not thread-safe: the caller sees to that. Allocates nothing.
class CostLearner {
 public:
  // What warm-up measured, in any order: several batches of each size, so that one slow run does not spoil its size.
  void seed(std::span<const CostSample> samples);
  // A batch that ran. Batches of no rows, or of no or absurdly much time, are ignored. About 100 ns.
  void add(const CostSample& sample) noexcept;

  // Sizes never seen follow the line of the others.
  [[nodiscard]] CostModel publish() const noexcept;
  [[nodiscard]] const AffineCost& affine() const noexcept { return affine_; }
  [[nodiscard]] const PredictionError& error() const noexcept { return error_; }
  // Over 1 in 100 recent batches were off by more than a fifth: a noisy neighbour or a hot device. Until this is over
  // the published percentile has more margin.
  [[nodiscard]] bool is_alarmed() const noexcept { return alarmed_; }
  [[nodiscard]] std::uint64_t batches() const noexcept { return batches_; }

 private:
  // What is known at one size.
  struct Knot {
    double weight = 0;  // of the samples behind it; 0: never seen
    double mean_ns = 0;
    double deviation_ns = 0;  // mean absolute
    double p99_ns = 0;
  };

  void judge(double predicted_ns, double ns) noexcept;
  void learn_line(double rows, double ns) noexcept;
  void learn_knots(std::uint32_t rows, double ns) noexcept;
  void first_seen(std::size_t knot, double ns) noexcept;
  [[nodiscard]] double mean_at(std::uint32_t rows) const noexcept;

  std::array<Knot, kCostKnots> knots_{};
  AffineCost affine_{};
  // Sums of weighted least squares: weights, rows, squared rows, times, and rows by times.
  std::array<double, 5> sums_{};
  PredictionError error_{};
  double recent_ = 0;  // batches behind off_share
  bool alarmed_ = false;
  std::uint64_t batches_ = 0;
};

}  // namespace penstock::batcher
