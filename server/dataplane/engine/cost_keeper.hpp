// The cost learners of one ring, shared by the loops that collect its batches. None of them ever waits for another.
#pragma once

#include <cstdint>
#include <mutex>
#include <span>
#include <vector>

#include "penstock/batcher/batch_ring.hpp"
#include "penstock/batcher/cost_learner.hpp"

namespace penstock::dataplane {

class CostKeeper {
 public:
  // `ring` must outlive it and gets what is learned.
  explicit CostKeeper(batcher::BatchRing& ring);

  // A loop: a batch of a length bucket ran. Dropped while another thread is at it: the next batch will do as well.
  void observe(std::uint32_t bucket, const batcher::CostSample& sample, std::uint64_t now_ns) noexcept;
  // What warm-up measured of a bucket. Not for loops: waits for them.
  void seed(std::uint32_t bucket, std::span<const batcher::CostSample> samples);
  // A bucket's learner as it is now. Not for loops.
  [[nodiscard]] batcher::CostLearner look(std::uint32_t bucket = 0) const;

 private:
  struct Bucket {
    batcher::CostLearner learner;
    std::uint64_t published_ns = 0;
  };

  batcher::BatchRing& ring_;
  mutable std::mutex mutex_;
  std::vector<Bucket> buckets_;
};

}  // namespace penstock::dataplane
