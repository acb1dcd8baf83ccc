// Wake-ups are the expensive part: each is conditional, goes to one sleeper, and none may be missing.
//
// A worker whose wake-up was lost still ends its sleep after a second, finds the work and counts lost_wakeups: that
// fails here.
#include <array>
#include <atomic>
#include <thread>
#include <vector>

#include "ring_fixture.hpp"
#include "ring_map.hpp"

namespace {

using namespace penstock::test;

// The region, to see who is asleep.
RingMap map_of(const BatchRing& ring) {
  SharedRegion region = SharedRegion::attach(ring.fd());
  RingPlan plan = read_header(region.data(), region.bytes());
  return {std::move(region), std::move(plan)};
}

// A worker on a thread of its own, which takes and runs one batch.
class Sleeper {
 public:
  Sleeper(BatchRing& ring, const Loop& loop, std::uint32_t worker) : Sleeper({ring.fd()}, loop, worker) {}
  Sleeper(const std::vector<int>& ring_fds, const Loop& loop, std::uint32_t worker)
      : taker_(ring_fds, {loop.event()}, worker), thread_([this] {
          const std::optional<TakenBatch> batch = taker_.take(10'000);
          CHECK(batch.has_value());
          run_batch(taker_, *batch);
        }) {}
  ~Sleeper() { thread_.join(); }
  Sleeper(const Sleeper&) = delete;
  Sleeper& operator=(const Sleeper&) = delete;

 private:
  BatchTaker taker_;
  std::thread thread_;
};

void await(const std::atomic<std::uint64_t>& mask, std::uint64_t value) {
  while (mask.load(std::memory_order_seq_cst) != value) std::this_thread::yield();
}

void await_answers(Loop& loop) {
  while (loop.waiting() > 0) {
    if (loop.collect() == 0) loop.sleep();
  }
}

void nobody_asleep_no_bell() {
  BatchRing ring(small_config(4, 4));
  Loop loop(ring, 0, 1);
  CHECK(!ring.ring_bell());
  CHECK(loop.submit(1));
  CHECK(!ring.ring_bell());
  CHECK(ring.counters().bell_rings == 0);
}

void one_bell_wakes_one() {
  BatchRing ring(small_config(4, 4));
  Loop loop(ring, 0, 1);
  const RingMap map = map_of(ring);
  {
    const Sleeper first(ring, loop, 0);
    const Sleeper second(ring, loop, 1);
    await(map.header().waiting_for_rows, 3);
    CHECK(!ring.ring_bell());  // nothing was published
    CHECK(loop.submit(1) && loop.submit(1));
    CHECK(ring.ring_bell());
    CHECK(!ring.ring_bell());  // once for all that was published
    await_answers(loop);
    await(map.header().waiting_for_rows, 2);  // the other slept on
    CHECK(loop.submit(1));
    CHECK(ring.ring_bell());
    await_answers(loop);
  }
  CHECK(ring.counters().bell_rings == 2 && ring.counters().lost_wakeups == 0);
}

void whoever_is_woken_wakes_another() {
  BatchRing ring(small_config(4, 4));
  Loop loop(ring, 0, 1);
  const RingMap map = map_of(ring);
  {
    const Sleeper first(ring, loop, 0);
    const Sleeper second(ring, loop, 1);
    await(map.header().waiting_for_rows, 3);
    for (int i = 0; i < 8; ++i) CHECK(loop.submit(1));  // two batches, one bell
    CHECK(ring.ring_bell());
    await_answers(loop);
  }
  CHECK(ring.counters().bell_rings == 1 && ring.counters().lost_wakeups == 0);
}

void a_full_batch_ends_the_wait_for_a_buffer() {
  BatchRing ring(small_config(2, 2));
  Loop loop(ring, 0, 1);
  const RingMap map = map_of(ring);
  BatchTaker busy(ring.fd(), {loop.event()}, 0);
  CHECK(loop.submit(1));
  const TakenBatch held = busy.take(0).value();
  CHECK(loop.submit(1));
  {
    const Sleeper idle(ring, loop, 1);
    await(map.header().waiting_for_buffer, 2);
    CHECK(!ring.ring_bell());  // the partial batch is still held
    CHECK(loop.submit(1));
    CHECK(ring.ring_bell());
    for (std::size_t rows = 0; rows < 2; rows += loop.collect()) loop.sleep();
  }
  run_batch(busy, held);
  await_answers(loop);
  CHECK(ring.counters().lost_wakeups == 0);
}

void a_free_buffer_ends_the_wait_for_it() {
  BatchRing ring(small_config(2, 2));
  Loop loop(ring, 0, 1);
  const RingMap map = map_of(ring);
  BatchTaker busy(ring.fd(), {loop.event()}, 0);
  CHECK(loop.submit(1));
  run_batch(busy, busy.take(0).value());
  CHECK(loop.submit(1));
  {
    const Sleeper idle(ring, loop, 1);
    await(map.header().waiting_for_buffer, 2);
    CHECK(loop.collect() >= 1);  // the idle worker may be quick
    await_answers(loop);
  }
  CHECK(ring.counters().lost_wakeups == 0);
}

// The worker that saw the held batch takes another one and is busy; one that waits for rows must get it when a buffer
// is free.
void a_free_buffer_wakes_who_waits_for_rows() {
  BatchRing ring(small_config(3, 2));
  Loop loop(ring, 0, 1);
  const RingMap map = map_of(ring);
  BatchTaker busy(ring.fd(), {loop.event()}, 0);
  {
    const Sleeper idle(ring, loop, 1);
    await(map.header().waiting_for_rows, 2);
    CHECK(loop.submit(1));
    run_batch(busy, busy.take(0).value());
    for (int i = 0; i < 3; ++i) CHECK(loop.submit(1));
    const TakenBatch second = busy.take(0).value();
    CHECK(second.rows == 2 && !busy.take(0));  // the third batch is held: the first one's buffer is not free
    CHECK(map.header().waiting_for_rows.load(std::memory_order_seq_cst) == 2);
    std::size_t rows = loop.collect();
    for (; rows < 2; rows += loop.collect()) loop.sleep();
    run_batch(busy, second);
  }
  await_answers(loop);
  CHECK(ring.counters().lost_wakeups == 0);
}

void a_loop_is_woken_only_when_it_sleeps() {
  BatchRing ring(small_config(4, 4));
  Loop loop(ring, 0, 1);
  BatchTaker taker(ring.fd(), {loop.event()}, 0);
  std::uint64_t count = 0;
  CHECK(loop.submit(1));
  run_batch(taker, taker.take(0).value());
  CHECK(read(loop.event(), &count, sizeof count) < 0);  // awake: no eventfd
  CHECK(!ring.prepare_wait(0));                         // and no sleep, for there is a batch
  CHECK(loop.collect() == 1);

  CHECK(loop.submit(1) && ring.prepare_wait(0));
  run_batch(taker, taker.take(0).value());
  CHECK(loop.submit(1));
  run_batch(taker, taker.take(0).value());
  CHECK(read(loop.event(), &count, sizeof count) == sizeof count && count == 1);  // once for both
  ring.finish_wait(0);
  CHECK(loop.collect() == 2);
}

void a_delay_is_no_lost_wakeup() {
  RingConfig config = small_config(4, 4);
  config.max_queue_delay_us = 200'000;
  BatchRing ring(config);
  Loop loop(ring, 0, 1);
  BatchTaker taker(ring.fd(), {loop.event()}, 0);
  CHECK(loop.submit(1));
  CHECK(!taker.take(0));  // young, and not full
  const std::uint64_t before_ns = now_ns();
  const std::optional<TakenBatch> batch = taker.take(10'000);
  CHECK(batch && now_ns() - before_ns > 20'000'000);
  run_batch(taker, *batch);
  for (int i = 0; i < 4; ++i) CHECK(loop.submit(1));
  CHECK(taker.take(0).has_value());  // full: no delay
  CHECK(ring.counters().lost_wakeups == 0);
}

// ---- groups -----------------------------------------------------------------------------------------------------

// Two rings and one I/O loop.
struct Group {
  explicit Group(const RingConfig& first_config = small_config(4, 4))
      : first(first_config),
        second([this] {
          RingConfig config = small_config(4, 4);
          config.rerun_on_worker_death = true;
          config.group = &first;
          return config;
        }()),
        loop(first, 0, 1),
        second_loop(second, loop, 2) {}

  [[nodiscard]] std::vector<int> fds() const { return {first.fd(), second.fd()}; }

  void await_answers() {
    const std::array<Loop*, 2> loops{&loop, &second_loop};
    while (loop.waiting() + second_loop.waiting() > 0) {
      if (loop.collect() + second_loop.collect() == 0) Loop::sleep(loops);
    }
    CHECK(first.counters().lost_wakeups + second.counters().lost_wakeups == 0);
  }

  BatchRing first;
  BatchRing second;
  Loop loop;
  Loop second_loop;
};

void a_bell_of_either_ring_wakes_one_of_the_group() {
  Group group;
  const RingMap map = map_of(group.first);
  const Sleeper first(group.fds(), group.loop, 0);
  const Sleeper second(group.fds(), group.loop, 1);
  await(map.header().waiting_for_rows, 3);
  CHECK(group.second_loop.submit(1));
  CHECK(!group.first.ring_bell());  // nothing was published there
  CHECK(group.second.ring_bell());
  group.await_answers();
  await(map.header().waiting_for_rows, 2);  // the other slept on
  CHECK(map_of(group.second).header().waiting_for_rows.load(std::memory_order_seq_cst) == 0);
  CHECK(group.loop.submit(1));
  CHECK(group.first.ring_bell());
  group.await_answers();
}

void one_worker_serves_both_rings() {
  Group group;
  BatchTaker taker(group.fds(), {group.loop.event()}, 0);
  for (int i = 0; i < 3; ++i) CHECK(group.loop.submit(1) && group.second_loop.submit(1));
  const TakenBatch first = taker.take(0).value();
  const std::uint32_t ring = first.ring;
  CHECK(first.rows == 3);
  run_batch(taker, first);
  const TakenBatch second = taker.take(0).value();
  CHECK(second.rows == 3 && second.ring == 1 - ring);
  run_batch(taker, second);
  CHECK(!taker.take(0));
  group.await_answers();
}

void a_free_buffer_of_either_ring_wakes_who_waits_for_it() {
  Group group;
  const RingMap map = map_of(group.first);
  BatchTaker busy(group.fds(), {group.loop.event()}, 0);
  for (int i = 0; i < 3; ++i) {
    CHECK(group.second_loop.submit(1));
    run_batch(busy, busy.take(0).value());  // answers that nobody has read yet: their buffers are not free
  }
  CHECK(group.second_loop.submit(1));
  {
    const Sleeper idle(group.fds(), group.loop, 1);
    await(map.header().waiting_for_buffer, 2);
    CHECK(group.second_loop.collect() >= 3);
    group.await_answers();
  }
}

void the_dead_are_recovered_in_every_ring() {
  Group group;
  BatchTaker dead(group.fds(), {group.loop.event()}, 0);
  CHECK(group.second_loop.submit(1));
  CHECK(dead.take(0).value().ring == 1);
  {
    const RingMap map = map_of(group.first);
    const Sleeper idle(group.fds(), group.loop, 1);
    await(map.header().waiting_for_rows, 2);
    CHECK(group.first.recover(0).blocks_requeued == 0);
    CHECK(group.second.recover(0).blocks_requeued == 1);  // and it wakes a worker that sleeps in the first ring
    group.await_answers();
  }
}

// Rows that wait for a time have one worker that waits with them. When that one takes other work, another must.
void who_keeps_the_time_passes_it_on() {
  RingConfig delayed = small_config(4, 4);
  delayed.max_queue_delay_us = 100'000;
  Group group(delayed);
  const RingMap map = map_of(group.first);
  BatchTaker busy(group.fds(), {group.loop.event()}, 0);
  const Sleeper idle(group.fds(), group.loop, 1);
  await(map.header().waiting_for_rows, 2);
  CHECK(group.loop.submit(1) && group.second_loop.submit(1));
  const TakenBatch batch = busy.take(0).value();  // nobody has rung: all that wakes the other one is this take
  CHECK(batch.ring == 1);
  while (group.loop.collect() == 0) group.loop.sleep();
  run_batch(busy, batch);
  group.await_answers();
}

}  // namespace

int main() {
  nobody_asleep_no_bell();
  one_bell_wakes_one();
  whoever_is_woken_wakes_another();
  a_full_batch_ends_the_wait_for_a_buffer();
  a_free_buffer_ends_the_wait_for_it();
  a_free_buffer_wakes_who_waits_for_rows();
  a_loop_is_woken_only_when_it_sleeps();
  a_delay_is_no_lost_wakeup();
  a_bell_of_either_ring_wakes_one_of_the_group();
  one_worker_serves_both_rings();
  a_free_buffer_of_either_ring_wakes_who_waits_for_it();
  the_dead_are_recovered_in_every_ring();
  who_keeps_the_time_passes_it_on();
  return 0;
}
