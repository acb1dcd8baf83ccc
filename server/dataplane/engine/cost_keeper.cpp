#include "engine/cost_keeper.hpp"

#include <algorithm>

namespace penstock::dataplane {
namespace {

// A curve moves slowly, and publishing it costs several times what learning from a batch costs.
constexpr std::uint64_t kPublishNs = 1'000'000;
constexpr std::uint64_t kFirstBatches = 64;  // until then it moves fast

}  // namespace

CostKeeper::CostKeeper(batcher::BatchRing& ring)
    : ring_(ring), buckets_(std::max<std::size_t>(1, ring.lengths().size())) {}

void CostKeeper::observe(std::uint32_t bucket, const batcher::CostSample& sample, std::uint64_t now_ns) noexcept {
  const std::unique_lock lock(mutex_, std::try_to_lock);
  if (!lock.owns_lock()) return;
  Bucket& mine = buckets_[bucket];
  mine.learner.add(sample);
  if (now_ns - mine.published_ns < kPublishNs && mine.learner.batches() > kFirstBatches) return;
  mine.published_ns = now_ns;
  ring_.set_cost(bucket, mine.learner.publish());
}

void CostKeeper::seed(std::uint32_t bucket, std::span<const batcher::CostSample> samples) {
  const std::lock_guard lock(mutex_);
  buckets_[bucket].learner.seed(samples);
  ring_.set_cost(bucket, buckets_[bucket].learner.publish());
}

batcher::CostLearner CostKeeper::look(std::uint32_t bucket) const {
  const std::lock_guard lock(mutex_);
  return buckets_[bucket].learner;
}

}  // namespace penstock::dataplane
