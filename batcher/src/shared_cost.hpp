// The cost model of a bucket in shared memory: one writer, any readers, never a wait. A reader may see half of an
// update, whose halves differ little.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cstdint>

#include "penstock/batcher/cost_model.hpp"

namespace penstock::batcher {

class SharedCost {
 public:
  void store(const CostModel& cost) noexcept {
    for (std::size_t i = 0; i < kCostKnots; ++i) {
      mean_[i].store(std::bit_cast<std::uint32_t>(cost.mean_ns_at[i]), std::memory_order_relaxed);
      p99_[i].store(std::bit_cast<std::uint32_t>(cost.p99_ns_at[i]), std::memory_order_relaxed);
    }
    // Release: pairs with version(); who sees the new version sees these values or newer ones.
    version_.fetch_add(1, std::memory_order_release);
  }

  [[nodiscard]] std::uint32_t version() const noexcept { return version_.load(std::memory_order_acquire); }

  [[nodiscard]] CostModel load() const noexcept {
    CostModel cost;
    for (std::size_t i = 0; i < kCostKnots; ++i) {
      cost.mean_ns_at[i] = std::bit_cast<float>(mean_[i].load(std::memory_order_relaxed));
      cost.p99_ns_at[i] = std::bit_cast<float>(p99_[i].load(std::memory_order_relaxed));
    }
    return cost;
  }

 private:
  alignas(64) std::atomic<std::uint32_t> version_;
  std::array<std::atomic<std::uint32_t>, kCostKnots> mean_;
  std::array<std::atomic<std::uint32_t>, kCostKnots> p99_;
};
static_assert(sizeof(SharedCost) == 128);

}  // namespace penstock::batcher
