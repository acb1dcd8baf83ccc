// Two I/O loops and two takers on one ring, with random bursts, in every shape of ring.
//
// Forbidden outcomes, each of which ends the program:
//   - a row is answered twice, not at all, or with another row's outputs
//   - a batch has no rows, or more than max_batch_size
//   - a row's inputs change while its batch is run (the buffer was recycled under its reader)
//   - a sleeping loop or worker is not woken for work (lost wake-up)
//   - the ring is full, no batch is in anybody's hands, and no row can be claimed (the test would hang)
#include <atomic>
#include <cstdio>
#include <cstring>
#include <optional>
#include <thread>
#include <vector>

#include "ring_fixture.hpp"

namespace {

using namespace penstock::test;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr std::uint64_t kRowsPerLoop = 20'000;
#else
constexpr std::uint64_t kRowsPerLoop = 100'000;
#endif

void produce(BatchRing& ring, Loop& loop, std::uint64_t row_count) {
  std::uint64_t submitted = 0;
  while (submitted < row_count || loop.waiting() > 0) {
    // A pass of an event loop: what the sockets gave, then the bell once, then the answers.
    for (std::uint32_t burst = loop.random(2 * ring.max_batch_size()); burst > 0 && submitted < row_count; --burst) {
      const std::uint32_t count = ring.uses_arena() || loop.random(4) != 0 ? 1 : 1 + loop.random(ring.max_batch_size());
      if (!loop.submit(count)) {
        std::this_thread::yield();
        break;
      }
      submitted += count;
    }
    ring.ring_bell();
    if (loop.collect() == 0 && loop.waiting() > 0) loop.sleep();
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

void stress(const char* name, RingConfig config) {
  config.loops = 2;
  BatchRing ring(config);
  Loop first(ring, 0, 1);
  Loop second(ring, 1, 2);
  std::atomic<bool> stop{false};
  std::vector<std::thread> workers;
  for (std::uint32_t worker = 0; worker < 2; ++worker) {
    workers.emplace_back([&, worker] {
      BatchTaker taker(ring.fd(), {first.event(), second.event()}, worker);
      work(taker, stop);
    });
  }
  std::thread producer([&] { produce(ring, first, kRowsPerLoop); });
  produce(ring, second, kRowsPerLoop);
  producer.join();
  stop.store(true, std::memory_order_release);
  for (std::thread& worker : workers) worker.join();

  const RingCounters counters = ring.counters();
  CHECK(first.tally().right >= kRowsPerLoop && second.tally().right >= kRowsPerLoop);
  CHECK(counters.rows_claimed == first.tally().right + second.tally().right);
  CHECK(counters.rows_queued == 0);
  CHECK(counters.lost_wakeups == 0);
  std::printf(
      "%-22s %llu rows, %llu batches, %llu bells, %llu refused, %llu held\n", name,
      static_cast<unsigned long long>(counters.rows_claimed), static_cast<unsigned long long>(counters.batches_taken),
      static_cast<unsigned long long>(counters.bell_rings), static_cast<unsigned long long>(counters.claims_refused),
      static_cast<unsigned long long>(counters.partial_takes_held));
}

}  // namespace

int main() {
  stress("2 buffers of 4", small_config(2, 4));
  stress("2 buffers of 1", small_config(2, 1));
  stress("5 buffers of 3", small_config(5, 3));
  stress("64 buffers of 64", small_config(64, 64));
  RingConfig wrapping = small_config(7, 8);
  wrapping.first_block = (std::uint64_t{1} << 36) - 100;
  stress("sequence wraps", wrapping);
  RingConfig delayed = small_config(8, 8);
  delayed.max_queue_delay_us = 100;
  stress("delay of 100 us", delayed);
  stress("rows in the arena", small_config(4, 4, 2, 20'000));
  return 0;
}
