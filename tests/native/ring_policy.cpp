// TakePolicy: what a free taker does, for every view of its rings.
#include <array>
#include <random>

#include "check.hpp"
#include "take_policy.hpp"

namespace {

using namespace penstock::batcher;

constexpr std::uint64_t kNow = 1'000'000;

void one_ring() {
  CHECK(decide(RingView{}, kNow).take == Take::kWaitForRows);
  CHECK(decide(RingView{.rows = 1, .next_free = true}, kNow).take == Take::kOpen);  // work-conserving
  CHECK(decide(RingView{.rows = 1}, kNow).take == Take::kWaitForBuffer);
  CHECK(decide(RingView{.rows = 8, .sealed = true}, kNow).take == Take::kOpen);
  CHECK(decide(RingView{.queued = true, .rows = 8, .sealed = true}, kNow).take == Take::kQueued);
}

void a_delay_holds_partial_batches_only() {
  const RingView young{.rows = 1, .next_free = true, .oldest_ns = kNow - 10, .queue_delay_ns = 100};
  CHECK(decide(young, kNow).take == Take::kWaitUntil);
  CHECK(decide(young, kNow).until_ns == kNow + 90);
  CHECK(decide(young, kNow + 90).take == Take::kOpen);
  RingView unknown = young;
  unknown.oldest_ns = 0;
  CHECK(decide(unknown, kNow).until_ns == kNow + 100);
  RingView full = young;
  full.sealed = true;
  CHECK(decide(full, kNow).take == Take::kOpen);
}

void the_oldest_row_goes_first() {
  const std::array views{RingView{}, RingView{.rows = 1, .next_free = true, .oldest_ns = 500},
                         RingView{.rows = 1, .next_free = true, .oldest_ns = 400},
                         RingView{.rows = 1, .oldest_ns = 100}};
  CHECK(decide(views, kNow).take == Take::kOpen && decide(views, kNow).ring == 2);
  std::array queued = views;
  queued[3].queued = true;
  CHECK(decide(queued, kNow).take == Take::kQueued && decide(queued, kNow).ring == 3);
  std::array delayed = views;
  for (RingView& view : delayed) view.queue_delay_ns = kNow;
  CHECK(decide(delayed, kNow).take == Take::kWaitUntil && decide(delayed, kNow).until_ns == kNow + 400);
  CHECK(decide(std::span<const RingView>(), kNow).take == Take::kWaitForRows);
}

// Whatever the views: a taker waits only when no ring alone would let it work, and no longer than the soonest asks for.
void never_idle_beside_work() {
  std::mt19937 random(1);
  for (int round = 0; round < 100'000; ++round) {
    std::array<RingView, 3> views;
    bool work = false;
    for (RingView& view : views) {
      view = {.queued = random() % 16 == 0,
              .rows = static_cast<std::uint32_t>(random() % 3),
              .next_free = random() % 2 == 0,
              .oldest_ns = random() % (2 * kNow),
              .queue_delay_ns = random() % 3 * 1000};
      view.sealed = view.rows == 2;
      const Take alone = decide(view, kNow).take;
      work = work || alone == Take::kQueued || alone == Take::kOpen;
    }
    const TakeDecision decision = decide(views, kNow);
    const bool takes = decision.take == Take::kQueued || decision.take == Take::kOpen;
    CHECK(takes == work);
    CHECK(decide(views[decision.ring], kNow).take == decision.take);
    for (const RingView& view : views) {
      const TakeDecision alone = decide(view, kNow);
      if (!work && alone.take == Take::kWaitUntil)
        CHECK(decision.take == Take::kWaitUntil && decision.until_ns <= alone.until_ns);
    }
  }
}

}  // namespace

int main() {
  one_ring();
  a_delay_holds_partial_batches_only();
  the_oldest_row_goes_first();
  never_idle_beside_work();
  return 0;
}
