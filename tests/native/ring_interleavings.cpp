// Races in slow motion: at a numbered point of a taker, on its own thread, the rest of the world makes its move.
//
// The same points as in ring_kill.cpp, which are compiled into the taker only here and there.
#define PENSTOCK_KILL_POINTS 1
// The taker is compiled here with its points; the library's copy of it is then not linked.
#include <functional>
#include <thread>

#include "batch_taker.cpp"  // NOLINT(bugprone-suspicious-include)
#include "ring_fixture.hpp"
#include "taken_batch.cpp"  // NOLINT(bugprone-suspicious-include)
#include "taker_sleep.cpp"  // NOLINT(bugprone-suspicious-include)

namespace {

using namespace penstock::test;

KillPoint wanted = kKillPoints;
std::function<void()> move;

void hook(KillPoint point) {
  if (point != wanted) return;
  wanted = kKillPoints;  // once, and not from within the move
  move();
}

// `what` happens when a taker next passes `point`.
void at(KillPoint point, std::function<void()> what) {
  wanted = point;
  move = std::move(what);
}

bool has_happened() { return wanted == kKillPoints; }

struct World {
  explicit World(RingConfig config = small_config(4, 4))
      : ring(config), loop(ring, 0, 1), first(ring.fd(), {loop.event()}, 0), second(ring.fd(), {loop.event()}, 1) {}

  void submit(int rows) {
    for (int i = 0; i < rows; ++i) CHECK(loop.submit(1));
  }

  void check_done(std::size_t rows) {
    CHECK(has_happened());
    CHECK(loop.collect() == rows && loop.waiting() == 0);
    CHECK(ring.counters().lost_wakeups == 0);
  }

  BatchRing ring;
  Loop loop;
  BatchTaker first;
  BatchTaker second;
};

// The bell finds nobody announced, so the second look must find the row.
void a_row_arrives_before_the_announcement() {
  World world;
  at(kAnnouncing, [&] {
    world.submit(1);
    CHECK(!world.ring.ring_bell());
  });
  run_batch(world.first, world.first.take(1500).value());
  world.check_done(1);
}

void a_row_arrives_after_the_announcement() {
  World world;
  at(kAnnounced, [&] {
    world.submit(1);
    CHECK(world.ring.ring_bell());
  });
  run_batch(world.first, world.first.take(1500).value());
  world.check_done(1);
}

void a_buffer_is_freed_before_the_announcement() {
  World world(small_config(2, 4));
  world.submit(1);
  run_batch(world.first, world.first.take(0).value());
  world.submit(2);
  at(kAnnouncing, [&] { CHECK(world.loop.collect() == 1); });
  run_batch(world.first, world.first.take(1500).value());
  world.check_done(2);
}

void a_wakeup_comes_when_the_time_is_over() {
  World world;
  at(kAwake, [&] {  // 1 ms has passed, the taker is still announced
    world.submit(1);
    CHECK(world.ring.ring_bell());
  });
  // The wake-up went to this taker and to nobody else, so it may not return empty-handed.
  run_batch(world.first, world.first.take(1).value());
  world.check_done(1);
}

void a_row_is_claimed_just_before_the_take() {
  World world;
  world.submit(1);
  at(kBeforeTake, [&] { world.submit(1); });
  const TakenBatch batch = world.first.take(0).value();
  CHECK(batch.rows == 2);
  run_batch(world.first, batch);
  world.check_done(2);
}

void another_taker_is_faster() {
  World world;
  world.submit(1);
  at(kBeforeTake, [&] { run_batch(world.second, world.second.take(0).value()); });
  CHECK(!world.first.take(0));
  world.check_done(1);
}

void the_next_row_opens_the_next_batch() {
  World world;
  world.submit(1);
  at(kAfterTake, [&] {  // `head` still names the batch that is taken
    world.submit(1);
    run_batch(world.second, world.second.take(0).value());
  });
  const TakenBatch batch = world.first.take(0).value();
  CHECK(batch.rows == 1);
  run_batch(world.first, batch);
  world.check_done(2);
}

void the_taker_waits_for_the_copy() {
  World world;
  const Claim claim = world.ring.claim(kNormalLane, 1);
  const std::uint64_t id = 3;
  at(kAwaitingRows, [&] {
    std::memcpy(world.ring.input(claim, 0, 0), &id, sizeof id);
    world.ring.publish(claim, 0);
  });
  const TakenBatch batch = world.first.take(0).value();
  CHECK(has_happened() && id_of(world.first, batch, 0) == id);
}

// The copy ends on another thread, some time after the taker has begun to wait.
void the_taker_waits_for_a_slow_copy() {
  World world;
  const Claim claim = world.ring.claim(kNormalLane, 1);
  const std::uint64_t id = 4;
  std::thread producer;
  at(kAwaitingRows, [&] {
    producer = std::thread([&] {
      for (int i = 0; i < 1000; ++i) std::this_thread::yield();
      std::memcpy(world.ring.input(claim, 0, 0), &id, sizeof id);
      world.ring.publish(claim, 0);
    });
  });
  const TakenBatch batch = world.first.take(0).value();
  CHECK(has_happened() && id_of(world.first, batch, 0) == id);
  producer.join();
}

void recovery_takes_the_batch_away() {
  World world([] {
    RingConfig config = small_config(4, 4);
    config.rerun_on_worker_death = true;
    return config;
  }());
  world.submit(2);
  const TakenBatch batch = world.first.take(0).value();
  at(kBeforeDone, [&] { CHECK(world.ring.recover(0).blocks_requeued == 1); });
  run_batch(world.first, batch);
  CHECK(has_happened() && world.loop.collect() == 0);  // that the half-dead worker is done counts no more
  CHECK(!world.second.take(0));                        // its rows had their words: they are not run again
  world.check_done(2);
}

void a_queued_batch_goes_to_one_taker() {
  World world([] {
    RingConfig config = small_config(4, 4);
    config.rerun_on_worker_death = true;
    return config;
  }());
  world.submit(2);
  (void)world.first.take(0);
  world.ring.recover(0);
  at(kQueuedPopped, [&] {
    CHECK(!world.second.take(0));  // the hint is gone
    world.ring.recover(5);         // and back
    run_batch(world.second, world.second.take(0).value());
  });
  CHECK(!world.first.take(0));
  world.check_done(2);
}

void a_hint_is_set_while_its_leaf_is_dropped() {
  World world([] {
    RingConfig config = small_config(4, 4);
    config.rerun_on_worker_death = true;
    return config;
  }());
  BatchTaker third(world.ring.fd(), {world.loop.event()}, 2);
  world.submit(2);
  (void)world.first.take(0);
  world.submit(2);
  const TakenBatch younger = world.second.take(0).value();
  world.ring.recover(0);
  run_batch(third, third.take(0).value());  // its hint is consumed, the summary is not
  at(kQueuedDropped, [&] { CHECK(world.ring.recover(1).blocks_requeued == 1); });
  const TakenBatch again = third.take(0).value();
  CHECK(again.blocks[0].sequence == younger.blocks[0].sequence && again.attempt == 1);
  run_batch(third, again);
  world.check_done(4);
}

void the_loop_goes_to_sleep_after_the_hint() {
  World world;
  world.submit(1);
  const TakenBatch batch = world.first.take(0).value();
  at(kHintSet, [&] { CHECK(!world.ring.prepare_wait(0)); });  // the worker has not read the announcement yet
  run_batch(world.first, batch);
  world.check_done(1);
}

void the_loop_goes_to_sleep_before_the_hint() {
  World world;
  world.submit(1);
  const TakenBatch batch = world.first.take(0).value();
  at(kAfterDone, [&] { CHECK(world.ring.prepare_wait(0)); });
  run_batch(world.first, batch);
  std::uint64_t count = 0;
  CHECK(read(world.loop.event(), &count, sizeof count) == sizeof count);
  world.ring.finish_wait(0);
  world.check_done(1);
}

// ---- several blocks ---------------------------------------------------------------------------------------------

RingConfig blocks_config() {
  RingConfig config = small_config(8, 2);
  config.max_batch_size = 8;
  return config;
}

// Who meets another taker on the queue leaves the rest to it.
void another_taker_takes_the_block_between() {
  World world(blocks_config());
  world.submit(4);
  at(kAfterHead, [&] {
    const TakenBatch between = world.second.take(0).value();
    CHECK(between.rows == 2);
    world.submit(2);
    run_batch(world.second, between);
  });
  const TakenBatch batch = world.first.take(0).value();
  CHECK(batch.blocks.size() == 1 && batch.in_place);
  run_batch(world.first, batch);
  run_batch(world.second, world.second.take(0).value());
  world.check_done(6);
}

// What is taken in place of a late row lies behind the block of another taker.
void a_late_row_is_replaced_from_further_on() {
  World world(blocks_config());
  world.loop.set_deadline(1);
  world.submit(1);
  world.loop.set_deadline(0);
  world.submit(1);
  at(kAwaitingRows, [&] {
    world.submit(2);
    const TakenBatch between = world.second.take(0).value();
    world.submit(1);
    run_batch(world.second, between);
  });
  const TakenBatch batch = world.first.take(0).value();
  CHECK(batch.rows == 2 && batch.blocks.size() == 2 && !batch.in_place);
  CHECK(batch.blocks[1].sequence == batch.blocks[0].sequence + 2);
  run_batch(world.first, batch);
  world.check_done(5);
  CHECK(world.loop.tally().shed == 1 && world.loop.tally().right == 4);
}

// The loop marks a row while the taker looks which rows it has: it is run or skipped, and answered once.
void a_row_is_cancelled_while_it_is_taken() {
  for (const KillPoint point : {kBeforeTake, kAfterTake, kAwaitingRows, kInHand}) {
    World world(blocks_config());
    world.submit(3);
    at(point, [&] { world.loop.cancel_one(); });
    run_batch(world.first, world.first.take(0).value());
    world.check_done(3);
    CHECK(world.loop.tally().shed == (point == kInHand ? 0 : 1));
  }
}

// Recovery finds no sleeper to wake, so the taker must look again before it sleeps.
void a_block_is_quarantined_before_the_announcement() {
  RingConfig config = small_config(4, 4);
  config.rerun_on_worker_death = true;
  World world(config);
  BatchTaker quarantine(world.ring.fd(), {world.loop.event()}, 2, {.quarantine = true});
  world.submit(2);
  (void)world.first.take(0);
  world.ring.recover(0);
  (void)world.second.take(0);
  bool slept = false;
  at(kNothingFound, [&] {
    CHECK(world.ring.recover(1).blocks_quarantined == 1);
    at(kAwake, [&] { slept = true; });
  });
  const std::optional<TakenBatch> batch = quarantine.take(10'000);
  CHECK(batch && batch->singly && !slept);
  at(kKillPoints, {});
  run_batch(quarantine, *batch);
  world.check_done(2);
}

}  // namespace

int main() {
  kill_hook = hook;
  a_row_arrives_before_the_announcement();
  a_row_arrives_after_the_announcement();
  a_buffer_is_freed_before_the_announcement();
  a_wakeup_comes_when_the_time_is_over();
  a_row_is_claimed_just_before_the_take();
  another_taker_is_faster();
  the_next_row_opens_the_next_batch();
  the_taker_waits_for_the_copy();
  the_taker_waits_for_a_slow_copy();
  recovery_takes_the_batch_away();
  a_queued_batch_goes_to_one_taker();
  a_hint_is_set_while_its_leaf_is_dropped();
  the_loop_goes_to_sleep_after_the_hint();
  the_loop_goes_to_sleep_before_the_hint();
  another_taker_takes_the_block_between();
  a_late_row_is_replaced_from_further_on();
  a_row_is_cancelled_while_it_is_taken();
  a_block_is_quarantined_before_the_announcement();
  return 0;
}
