#include "take_policy.hpp"

namespace penstock::batcher {

TakeDecision decide(const RingView& ring, std::uint64_t now_ns) noexcept {
  if (ring.queued) return {Take::kQueued, 0, 0};
  if (ring.rows == 0) return {Take::kWaitForRows, 0, 0};
  if (ring.sealed) return {Take::kOpen, 0, 0};
  // Sealing a partial batch without a free buffer behind it would turn the next row away: let it grow instead.
  if (!ring.next_free) return {Take::kWaitForBuffer, 0, 0};
  const std::uint64_t oldest_ns = ring.oldest_ns == 0 ? now_ns : ring.oldest_ns;
  const std::uint64_t due_ns = oldest_ns + ring.queue_delay_ns;
  if (now_ns >= due_ns) return {Take::kOpen, 0, 0};
  return {Take::kWaitUntil, 0, due_ns};
}

namespace {

// Whether decision `a` about a ring goes before `b` about another: takes before waits, then the older or the sooner.
bool goes_before(const TakeDecision& a, std::uint64_t a_ns, const TakeDecision& b, std::uint64_t b_ns) noexcept {
  if (a.take != b.take) return a.take < b.take;
  return a_ns < b_ns;
}

}  // namespace

TakeDecision decide(std::span<const RingView> rings, std::uint64_t now_ns) noexcept {
  TakeDecision best;
  std::uint64_t best_ns = ~std::uint64_t{0};
  for (std::uint32_t i = 0; i < rings.size(); ++i) {
    TakeDecision decision = decide(rings[i], now_ns);
    decision.ring = i;
    const std::uint64_t order_ns = decision.take == Take::kWaitUntil ? decision.until_ns : rings[i].oldest_ns;
    if (i == 0 || goes_before(decision, order_ns, best, best_ns)) {
      best = decision;
      best_ns = order_ns;
    }
  }
  return best;
}

}  // namespace penstock::batcher
