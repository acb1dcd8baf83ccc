// Two I/O loops and two or three takers on one ring or two, with random bursts, in every shape of ring.
//
// Forbidden outcomes, each of which ends the program:
//   - a row is answered twice, not at all, or with another row's outputs
//   - a batch has no rows, or more than max_batch_size
//   - a row's inputs change while its batch is run (the buffer was recycled under its reader)
//   - a row is shed that had no deadline and was not cancelled
//   - a sleeping loop or worker is not woken for work (lost wake-up)
//   - the ring is full, no batch is in anybody's hands, and no row can be claimed (the test would hang)
#include <algorithm>
#include <array>
#include <atomic>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <span>
#include <thread>
#include <vector>

#include "ring_fixture.hpp"

namespace {

using namespace penstock::test;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kRowsPerLoop = 10'000;
#else
constexpr std::uint64_t kRowsPerLoop = 40'000;
#endif

// What the rows are like, beside their numbers.
struct Traffic {
  bool all_lanes = false;
  bool deadlines = false;  // some are past already, some come soon
  bool cancelled = false;  // by clients that go away
};

// A few claims on one ring, as many as the sockets gave. False: it is full.
bool submit_some(BatchRing& ring, Loop& loop, const Traffic& traffic, std::uint32_t rows_max) {
  for (std::uint32_t burst = loop.random(2 * ring.max_batch_size()); burst > 0 && rows_max > 0; --burst) {
    const std::uint32_t lane = traffic.all_lanes ? loop.random(ring.lanes()) : kNormalLane;
    loop.use_lane(lane);
    constexpr std::array<std::uint64_t, 4> kDeadlinesNs{0, 1, 200'000, 1'000'000'000};
    if (traffic.deadlines) loop.set_deadline(kDeadlinesNs[loop.random(kDeadlinesNs.size())]);
    const std::uint32_t together = std::min(rows_max, ring.settings(lane).block_rows);
    const std::uint32_t count = ring.uses_arena() || loop.random(4) != 0 ? 1 : 1 + loop.random(together);
    if (!loop.submit(count)) return false;
    if (traffic.cancelled && loop.random(8) == 0) loop.cancel_one();
    rows_max -= count;
  }
  return true;
}

// One I/O loop over the rings of a group.
void produce(std::span<BatchRing* const> rings, std::span<Loop* const> loops, const Traffic& traffic) {
  for (;;) {
    // A pass of an event loop: what the sockets gave, then the bells once, then the answers.
    bool working = false;
    std::size_t collected = 0;
    for (std::size_t i = 0; i < rings.size(); ++i) {
      const std::uint64_t submitted = loops[i]->tally().submitted;
      const std::uint64_t left = kRowsPerLoop - std::min(submitted, kRowsPerLoop);
      if (!submit_some(*rings[i], *loops[i], traffic, static_cast<std::uint32_t>(left))) std::this_thread::yield();
      if (traffic.cancelled && loops[i]->tally().submitted > 0) loops[i]->cancel_one();
      rings[i]->ring_bell();
      collected += loops[i]->collect();
      working = working || left > 0 || loops[i]->waiting() > 0;
    }
    if (!working) return;
    if (collected == 0 && std::ranges::any_of(loops, [](Loop* loop) { return loop->waiting() > 0; }))
      Loop::sleep(loops);
  }
}

// Runs the batch, then looks whether its inputs are still what they were.
void run_checked(BatchTaker& taker, const TakenBatch& batch) {
  std::vector<std::uint64_t> before(batch.rows);
  std::memcpy(before.data(), taker.input(batch, 0), batch.rows * sizeof(std::uint64_t));
  for (std::uint32_t row = 0; row < batch.rows; ++row) run_row(taker, batch, row);
  CHECK(std::memcmp(before.data(), taker.input(batch, 0), batch.rows * sizeof(std::uint64_t)) == 0);
  taker.complete(batch);
}

void work(BatchTaker& taker, const std::atomic<bool>& stop) {
  while (!stop.load(std::memory_order_acquire)) {
    const std::optional<TakenBatch> batch = taker.take(1500);  // longer than the safety net, so that it counts
    if (batch) run_checked(taker, *batch);
  }
}

struct Setting {
  std::vector<RingConfig> rings = {};  // a group
  std::uint32_t workers = 2;
  Traffic traffic = {};
};

// I/O loop `index`: what it has in each ring of the group.
std::vector<std::unique_ptr<Loop>> loop_of(const std::vector<std::unique_ptr<BatchRing>>& rings, std::uint32_t index) {
  std::vector<std::unique_ptr<Loop>> parts;
  for (const auto& ring : rings) {
    const std::uint32_t seed = 10 * index + static_cast<std::uint32_t>(parts.size());
    parts.push_back(parts.empty() ? std::make_unique<Loop>(*ring, index, seed)
                                  : std::make_unique<Loop>(*ring, *parts.front(), seed));
  }
  return parts;
}

template <typename Part>
std::vector<Part*> pointers_to(const std::vector<std::unique_ptr<Part>>& parts) {
  std::vector<Part*> pointers;
  for (const auto& part : parts) pointers.push_back(part.get());
  return pointers;
}

void report(const char* name, const BatchRing& ring, const Loop& first, const Loop& second) {
  const RingCounters counters = ring.counters();
  CHECK(first.tally().submitted >= kRowsPerLoop && second.tally().submitted >= kRowsPerLoop);
  CHECK(counters.rows_claimed == first.tally().answered() + second.tally().answered());
  CHECK(counters.rows_queued == 0);
  CHECK(counters.lost_wakeups == 0);
  const std::uint64_t shed = first.tally().shed + second.tally().shed;
  std::printf("%-22s %llu rows, %llu shed, %llu batches, %llu bells, %llu refused, %llu held\n", name,
              static_cast<unsigned long long>(counters.rows_claimed), static_cast<unsigned long long>(shed),
              static_cast<unsigned long long>(counters.batches_taken),
              static_cast<unsigned long long>(counters.bell_rings),
              static_cast<unsigned long long>(counters.claims_refused),
              static_cast<unsigned long long>(counters.partial_takes_held));
}

void stress(const char* name, Setting setting) {
  std::vector<std::unique_ptr<BatchRing>> rings;
  std::vector<int> fds;
  for (RingConfig& config : setting.rings) {
    config.loops = 2;
    config.group = rings.empty() ? nullptr : rings.front().get();
    rings.push_back(std::make_unique<BatchRing>(config));
    fds.push_back(rings.back()->fd());
  }
  const std::vector<std::unique_ptr<Loop>> first = loop_of(rings, 0);
  const std::vector<std::unique_ptr<Loop>> second = loop_of(rings, 1);
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;
  for (std::uint32_t worker = 0; worker < setting.workers; ++worker) {
    workers.emplace_back([&, worker] {
      BatchTaker taker(fds, {first[0]->event(), second[0]->event()}, worker);
      work(taker, stop);
    });
  }
  std::thread producer([&] { produce(pointers_to(rings), pointers_to(first), setting.traffic); });
  produce(pointers_to(rings), pointers_to(second), setting.traffic);
  producer.join();
  stop.store(true, std::memory_order_release);
  for (std::thread& worker : workers) worker.join();
  for (std::size_t i = 0; i < rings.size(); ++i) report(name, *rings[i], *first[i], *second[i]);
}

// Batches of several blocks, in lanes for two batches each.
RingConfig blocks_config(std::uint32_t block_rows, std::uint32_t batch_rows) {
  RingConfig config = small_config(2, batch_rows);
  config.block_rows = block_rows;
  return config;
}

RingConfig with_objective(RingConfig config, std::uint64_t slo_ns) {
  config.slo_ns = slo_ns;
  return config;
}

}  // namespace

int main() {
  stress("2 buffers of 4", {.rings = {small_config(2, 4)}});
  stress("2 buffers of 1", {.rings = {small_config(2, 1)}});
  stress("5 buffers of 3", {.rings = {small_config(5, 3)}});
  stress("64 buffers of 64", {.rings = {small_config(64, 64)}});
  RingConfig wrapping = small_config(7, 8);
  wrapping.first_block = (std::uint64_t{1} << 36) - 100;
  stress("sequence wraps", {.rings = {wrapping}});
  RingConfig delayed = small_config(8, 8);
  delayed.max_queue_delay_us = 100;
  stress("delay of 100 us", {.rings = {delayed}});
  stress("rows in the arena", {.rings = {small_config(4, 4, 2, 20'000)}});

  const Traffic mixed{.all_lanes = true, .deadlines = true, .cancelled = true};
  stress("blocks of 2", {.rings = {blocks_config(2, 8)}, .workers = 3});
  stress("blocks of 1", {.rings = {blocks_config(1, 8)}, .workers = 3, .traffic = {.cancelled = true}});
  stress("all lanes", {.rings = {blocks_config(2, 8)}, .traffic = {.all_lanes = true}});
  stress("late rows", {.rings = {blocks_config(4, 16)}, .traffic = {.deadlines = true}});
  RingConfig sized = blocks_config(2, 8);
  sized.batch_sizes = {4, 8};
  sized.reproducible_batch_size = 5;
  stress("allowed sizes", {.rings = {sized}, .workers = 3, .traffic = mixed});
  stress("a group", {.rings = {blocks_config(2, 8), small_config(2, 4)}, .workers = 3});
  RingConfig waiting = blocks_config(2, 8);
  waiting.max_queue_delay_us = 200;
  stress("a group that waits", {.rings = {waiting, blocks_config(1, 4)}, .workers = 3, .traffic = mixed});
  stress("objectives",
         {.rings = {with_objective(blocks_config(2, 8), 2'000'000), with_objective(blocks_config(4, 16), 50'000'000)},
          .workers = 3,
          .traffic = mixed});
  return 0;
}
