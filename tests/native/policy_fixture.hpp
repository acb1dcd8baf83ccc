// What the tests of the policy share: curves, lanes and random views.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "penstock/batcher/scheduler.hpp"

namespace penstock::test {

inline constexpr std::uint64_t kUs = 1'000;
inline constexpr std::uint64_t kMs = 1'000'000;
inline constexpr std::uint64_t kSecond = 1'000'000'000;

// Run time fixed_ns + rows * row_ns, with a 99th percentile that is 3 % above the mean.
inline batcher::CostModel affine(double fixed_ns, double row_ns) {
  batcher::CostModel cost;
  for (std::size_t k = 0; k < batcher::kCostKnots; ++k) {
    const double mean = fixed_ns + row_ns * static_cast<double>(1U << k);
    cost.mean_ns_at[k] = static_cast<float>(mean);
    cost.p99_ns_at[k] = static_cast<float>(mean * 1.03);
  }
  return cost;
}

// Lanes of one model: interactive, normal, batch, reproducible.
struct ModelLanes {
  batcher::CostModel cost = affine(1e6, 1e5);
  std::vector<batcher::LaneSettings> settings = std::vector<batcher::LaneSettings>(batcher::kRowClasses);

  explicit ModelLanes(const batcher::LaneSettings& like) {
    for (std::uint32_t i = 0; i < batcher::kRowClasses; ++i) {
      settings[i] = like;
      settings[i].row_class = static_cast<batcher::RowClass>(i);
    }
    settings.back().batch_rows_max = 1;
  }

  [[nodiscard]] std::vector<batcher::LaneView> views() const {
    std::vector<batcher::LaneView> views(settings.size());
    for (std::size_t i = 0; i < views.size(); ++i) {
      views[i].settings = &settings[i];
      views[i].cost = &cost;
    }
    return views;
  }
};

inline std::uint64_t below(std::mt19937_64& random, std::uint64_t bound) { return random() % bound; }

}  // namespace penstock::test
