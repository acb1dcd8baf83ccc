// A worker writes what it likes into the region. The main process neither crashes nor hangs, gives no row two answers,
// tells the supervisor, and answers what can be answered.
#include <functional>
#include <random>

#include "ring_fixture.hpp"
#include "ring_map.hpp"

namespace {

using namespace penstock::test;

// The region as a hostile worker maps it.
RingMap hostile_map(const BatchRing& ring) {
  SharedRegion region = SharedRegion::attach(ring.fd());
  RingPlan plan = read_header(region.data(), region.bytes());
  return {std::move(region), std::move(plan)};
}

// A ring with a batch done, one taken and one open, and what becomes of its rows after `harm`.
void survive(const std::function<void(RingMap&)>& harm, bool must_be_noticed, bool rerun = false) {
  RingConfig config = small_config(4, 4);
  config.rerun_on_worker_death = rerun;
  BatchRing ring(config);
  Loop loop(ring, 0, 1);
  BatchTaker taker(ring.fd(), {loop.event()}, 0);
  for (int i = 0; i < 4; ++i) CHECK(loop.submit(1));
  run_batch(taker, *taker.take(0));
  for (int i = 0; i < 3; ++i) CHECK(loop.submit(1));
  CHECK(taker.take(0).has_value());
  CHECK(loop.submit(1));
  RingMap map = hostile_map(ring);
  harm(map);
  loop.expect_lies();
  const Recovery recovery = ring.recover(0);
  loop.collect();
  const bool noticed = recovery.corrupt || ring.claim(kNormalLane, 1).status == ClaimStatus::kCorrupt;
  CHECK(noticed || !must_be_noticed);
  // The supervisor closes a corrupt ring's model; whatever was not answered is answered now.
  ring.close(RowError::kWorkerDied);
  loop.collect();
  if (noticed) CHECK(ring.recover(0).corrupt);
  CHECK(loop.waiting() == 0 || !must_be_noticed);
}

std::uint32_t first_buffer(const RingMap& map) { return map.plan().lanes[kNormalLane].first_buffer; }

std::atomic<std::uint64_t>& word(RingMap& map, std::uint32_t buffer) {
  return map.control(first_buffer(map) + buffer).word;
}

void impossible_words() {
  const auto set = [](std::uint32_t buffer, std::uint64_t bits) {
    return [=](RingMap& map) { word(map, buffer).store(bits, std::memory_order_relaxed); };
  };
  survive([](RingMap&) {}, false);
  for (std::uint32_t buffer = 0; buffer < 4; ++buffer) survive(set(buffer, ~std::uint64_t{0}), true);
  survive(set(1, pack({.sequence = 1, .state = BlockState::kTaken, .rows = 5})), true);  // more rows than a batch has
  survive(set(1, pack({.sequence = 9, .state = BlockState::kTaken, .rows = 3})), true);  // another lap
  survive(set(1, pack({.sequence = 1, .state = BlockState::kDone})), true);              // a batch without rows
  survive(set(0, pack({.sequence = 0, .state = BlockState::kDone, .rows = 3})), true);   // fewer rows than were claimed
  survive(set(2, pack({.sequence = 77, .rows = 1})), true);                              // the open batch is gone
}

void damaged_hints() {
  survive(
      [](RingMap& map) {
        for (std::uint32_t i = 0; i < kBuffersMax; ++i) map.done(0).set(i);
      },
      true);
  survive(
      [](RingMap& map) {
        for (std::uint32_t i = 0; i < 4; ++i) map.done(0).set(first_buffer(map) + i);
        map.header().lanes[kNormalLane].head.store(12345, std::memory_order_relaxed);
        map.header().waiting_for_rows.store(~std::uint64_t{0}, std::memory_order_relaxed);
        map.header().waiting_for_buffer.store(~std::uint64_t{0}, std::memory_order_relaxed);
        map.control(first_buffer(map) + 1).running.store(4000, std::memory_order_relaxed);
        map.control(first_buffer(map) + 2).committed.store(77, std::memory_order_relaxed);
      },
      false);
}

// Completions are handed on as they are, but only for rows that exist.
void lying_completions() {
  survive(
      [](RingMap& map) {
        Completion& completion = map.completion(map.row_index(first_buffer(map), 0));
        completion.error = RowError::kModelRaised;
        completion.detail_bytes = 255;
      },
      false);
}

// Random words anywhere in the control blocks and bitmaps, thousands of times.
void random_harm() {
  std::mt19937_64 random(7);
  for (int round = 0; round < 3000; ++round) {
    survive(
        [&](RingMap& map) {
          for (int i = 0; i < 3; ++i) {
            BlockWord lie = unpack(word(map, static_cast<std::uint32_t>(random() % 4)).load(std::memory_order_relaxed));
            switch (random() % 5) {
              case 0:
                lie.rows = static_cast<std::uint32_t>(random() % 6);
                break;
              case 1:
                lie.state = static_cast<BlockState>(random() % 5);
                break;
              case 2:
                lie.sequence += random() % 3;
                break;
              case 3:
                lie.owner = static_cast<std::uint32_t>(random() % 2);
                break;
              default:
                lie = unpack(random());
                break;
            }
            word(map, static_cast<std::uint32_t>(random() % 4)).store(pack(lie), std::memory_order_relaxed);
          }
          map.done(0).set(first_buffer(map) + static_cast<std::uint32_t>(random() % 4));
        },
        false, round % 100 != 0);  // without rerun, recovery may wait a second for rows that were never claimed
  }
}

// Numbers that only predictions and statistics are made of: any are survived, and kept within what can be.
void lying_numbers() {
  RingConfig config = small_config(4, 4);
  config.block_rows = 2;
  BatchRing ring(config);
  RingConfig second = config;
  second.group = &ring;
  BatchRing other(second);
  Loop loop(ring, 0, 1);
  BatchTaker taker(ring.fd(), {loop.event()}, 0);
  RingMap map = hostile_map(ring);
  std::mt19937_64 random(3);
  const auto lie = [&] { return random() >> (random() % 64); };
  constexpr std::uint64_t kBusyMaxNs = 60'000'000'000;
  for (int round = 0; round < 2000; ++round) {
    for (int i = 0; i < 3; ++i) CHECK(loop.submit(1));
    const std::optional<TakenBatch> batch = taker.take(0);
    CHECK(batch && batch->rows == 3);
    RingHeader& header = map.header();
    const std::uint64_t head = header.lanes[kNormalLane].head.load(std::memory_order_relaxed);
    for (std::uint32_t lane = 0; lane < ring.lanes(); ++lane)
      header.lanes[lane].head.store(random() % 2 == 0 ? lie() : head + lie() % 16 - 8, std::memory_order_relaxed);
    header.attached.store(lie(), std::memory_order_relaxed);
    for (WorkerLines& worker : header.workers) worker.busy_until_ns.store(lie(), std::memory_order_relaxed);
    const std::uint64_t time_ns = now_ns();
    for (const BatchRing* of_group : {&ring, &other}) {
      for (std::uint32_t lane = 0; lane < ring.lanes(); ++lane) {
        const QueueLoad load = of_group->load(lane, time_ns);
        CHECK(load.rows_ahead <= ring.rows() + ring.lanes() * ring.max_batch_size());
        CHECK(load.workers >= 1 && load.workers <= 64 && load.free_at_ns <= time_ns + kBusyMaxNs);
      }
    }
    header.lanes[kNormalLane].head.store(head, std::memory_order_relaxed);  // or there is nothing more to take
    for (const std::uint32_t lane : {0u, 2u, 3u}) header.lanes[lane].head.store(0, std::memory_order_relaxed);
    for (const TakenBlock& block : batch->blocks) {
      BufferControl& control = map.control(block.buffer);
      control.reason.store(static_cast<std::uint8_t>(lie()), std::memory_order_relaxed);
      control.worker.store(static_cast<std::uint8_t>(lie()), std::memory_order_relaxed);
      control.batch_rows.store(static_cast<std::uint32_t>(lie()), std::memory_order_relaxed);
      control.first_arrival_ns.store(lie(), std::memory_order_relaxed);
      control.deadline_ns.store(lie(), std::memory_order_relaxed);
    }
    run_batch(taker, *batch);
    std::uint32_t rows = 0;
    while (const std::optional<DoneBlock> block = ring.poll_done(0)) {
      CHECK(static_cast<std::uint8_t>(block->reason) < kSealReasons && block->rows <= 2);
      rows += block->rows;
      ring.handled(*block, block->rows);
    }
    CHECK(rows == 3 && ring.counters().rows_queued == 0);
    loop.forget();
  }
}

}  // namespace

int main() {
  impossible_words();
  damaged_hints();
  lying_completions();
  random_harm();
  lying_numbers();
  return 0;
}
