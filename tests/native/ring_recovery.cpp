// The rules of death and of the end of a ring, one by one. Everything runs in this thread: a "dead" taker is one that
// is not called any more.
#include <cstdio>
#include <functional>

#include "ring_fixture.hpp"

namespace {

using namespace penstock;
using namespace penstock::test;

RingConfig config_of(bool rerun, std::uint32_t loops = 1) {
  RingConfig config = small_config(3, 4, loops);
  config.rerun_on_worker_death = rerun;
  return config;
}

TakenBatch take(BatchTaker& taker) {
  const std::optional<TakenBatch> batch = taker.take(0);
  CHECK(batch.has_value());
  return *batch;
}

void submit(Loop& loop, int rows) {
  for (int i = 0; i < rows; ++i) CHECK(loop.submit(1));
}

void rerun_keeps_the_rows() {
  BatchRing ring(config_of(true));
  Loop loop(ring, 0, 1);
  submit(loop, 3);
  BatchTaker first(ring.fd(), {loop.event()}, 0);
  const TakenBatch lost = take(first);
  CHECK(lost.attempt == 0 && !lost.singly && lost.rows == 3);
  const Recovery recovery = ring.recover(0);
  CHECK(recovery.blocks_requeued == 1 && recovery.blocks_failed == 0 && recovery.rows_failed == 0);
  CHECK(ring.counters().rows_queued == 3);
  submit(loop, 2);  // younger rows wait behind it

  BatchTaker second(ring.fd(), {loop.event()}, 1);
  const TakenBatch again = take(second);
  CHECK(again.blocks[0].sequence == lost.blocks[0].sequence && again.rows == 3 && again.attempt == 1 && !again.singly);
  first.complete(lost);  // half-dead: nothing must come of it
  CHECK(loop.collect() == 0);
  run_batch(second, again);
  run_batch(second, take(second));
  CHECK(loop.collect() == 5 && loop.tally().right == 5 && loop.waiting() == 0);
}

void fail_spares_completed_rows() {
  BatchRing ring(config_of(false));
  Loop loop(ring, 0, 1);
  submit(loop, 4);
  BatchTaker taker(ring.fd(), {loop.event()}, 0);
  const TakenBatch batch = take(taker);
  run_row(taker, batch, 2);
  if (!taker.is_completed(batch, 2)) taker.complete_row(batch, 2);
  const Recovery recovery = ring.recover(0);
  CHECK(recovery.blocks_failed == 1 && recovery.rows_failed == 3 && recovery.blocks_requeued == 0);
  CHECK(loop.collect() == 4);
  CHECK(loop.tally().right == 1 && loop.tally().worker_died == 3);
}

void others_keep_their_batches() {
  BatchRing ring(config_of(false));
  Loop loop(ring, 0, 1);
  BatchTaker dead(ring.fd(), {loop.event()}, 5);
  BatchTaker alive(ring.fd(), {loop.event()}, 63);
  submit(loop, 4);
  (void)take(dead);
  submit(loop, 4);
  const TakenBatch batch = take(alive);
  CHECK(ring.recover(5).blocks_failed == 1);
  CHECK(ring.recover(7).blocks_failed == 0);
  run_batch(alive, batch);
  CHECK(loop.collect() == 8 && loop.tally().right == 4 && loop.tally().worker_died == 4);
}

// Runs the ring with one worker after the other; a worker dies when it runs a row that `kills` says. The number of
// deaths.
std::uint32_t run_with_killers(BatchRing& ring, Loop& loop, const std::function<bool(std::uint32_t)>& kills) {
  std::uint32_t deaths = 0;
  while (loop.waiting() > 0) {
    BatchTaker taker(ring.fd(), {loop.event()}, 0, {.quarantine = deaths >= 2});
    const TakenBatch batch = take(taker);
    CHECK(batch.attempt == deaths && batch.singly == (deaths >= 2));
    bool dead = false;
    for (std::uint32_t row = 0; row < batch.rows && !dead; ++row) {
      if (batch.singly && taker.is_completed(batch, row)) continue;
      if (batch.singly) taker.mark_running(batch, row);
      const BatchRow& where = batch.row[row];  // rows that have an answer already are left out of the batch
      dead = kills(where.index - ring.row_index(where.buffer, 0));
      if (dead) continue;
      run_row(taker, batch, row);
      if (batch.singly && !taker.is_completed(batch, row)) taker.complete_row(batch, row);
    }
    if (dead) {
      ring.recover(0);
      ++deaths;
    } else {
      taker.complete(batch);
    }
    loop.collect();
  }
  return deaths;
}

void the_culprit_is_found() {
  for (std::uint32_t killer = 0; killer < 4; ++killer) {
    BatchRing ring(config_of(true));
    Loop loop(ring, 0, 1);
    submit(loop, 4);
    CHECK(run_with_killers(ring, loop, [&](std::uint32_t row) { return row == killer; }) == 3);
    CHECK(loop.tally().culprits == 1 && loop.tally().right == 3 && loop.tally().worker_died == 0);
  }
}

void all_rows_may_be_culprits() {
  BatchRing ring(config_of(true));
  Loop loop(ring, 0, 1);
  submit(loop, 4);
  CHECK(run_with_killers(ring, loop, [](std::uint32_t) { return true; }) == 6);  // twice whole, then one by one
  CHECK(loop.tally().culprits == 4);
}

// A worker that is killed between two rows: nobody is blamed, and at 63 deaths the batch is given up.
void a_batch_dies_at_last() {
  BatchRing ring(config_of(true));
  Loop loop(ring, 0, 1);
  submit(loop, 2);
  for (std::uint32_t death = 0; death < 64; ++death) {
    BatchTaker taker(ring.fd(), {loop.event()}, 0, {.quarantine = death >= 2});
    CHECK(take(taker).attempt == death);
    const Recovery recovery = ring.recover(0);
    CHECK(recovery.blocks_requeued == (death < 1 ? 1 : 0));
    CHECK(recovery.blocks_quarantined == (death >= 1 && death < 63 ? 1 : 0));
    CHECK(ring.quarantined() == recovery.blocks_quarantined);
  }
  CHECK(loop.collect() == 2 && loop.tally().worker_died == 2);
}

// What ran alone is blamed only in a run row by row, and only for the death it ran in.
void an_old_mark_is_no_proof() {
  BatchRing ring(config_of(true));
  Loop loop(ring, 0, 1);
  submit(loop, 2);
  for (std::uint32_t death = 0; death < 4; ++death) {
    BatchTaker taker(ring.fd(), {loop.event()}, 0, {.quarantine = death >= 2});
    const TakenBatch batch = take(taker);
    if (death < 2) taker.mark_running(batch, 1);
    CHECK(ring.recover(0).rows_failed == 0);
  }
  BatchTaker taker(ring.fd(), {loop.event()}, 0, {.quarantine = true});
  run_batch(taker, take(taker));
  CHECK(loop.collect() == 2 && loop.tally().right == 2 && ring.quarantined() == 0);
}

void every_loop_gets_its_rows_of_a_failed_batch() {
  BatchRing ring(config_of(false, 2));
  Loop first(ring, 0, 1);
  Loop second(ring, 1, 2);
  submit(first, 2);
  submit(second, 2);
  BatchTaker taker(ring.fd(), {first.event(), second.event()}, 0);
  (void)take(taker);
  ring.recover(0);
  CHECK(first.collect() == 2 && second.collect() == 2);
  submit(first, 1);
  CHECK(first.waiting() == 1 && second.waiting() == 0);
}

void close_answers_everything() {
  BatchRing ring(config_of(true, 3));
  Loop first(ring, 0, 1);
  Loop second(ring, 1, 2);
  BatchTaker taker(ring.fd(), {first.event(), second.event(), 0}, 0);
  submit(first, 4);
  run_batch(taker, take(taker));  // done, not collected
  submit(first, 3);
  submit(second, 1);
  (void)take(taker);                              // taken
  submit(second, 2);                              // open
  const Claim late = ring.claim(kNormalLane, 1);  // claimed by a third loop, not published
  CHECK(late.status == ClaimStatus::kClaimed);
  ring.close(RowError::kWorkerDied);
  CHECK(ring.has_done(0) && ring.has_done(1));
  CHECK(!ring.prepare_wait(0));
  CHECK(first.collect() == 7 && second.collect() == 3);
  CHECK(first.tally().right == 4 && first.tally().worker_died == 3 && second.tally().worker_died == 3);
  CHECK(!first.submit(1) && !second.submit(1));

  ring.publish(late, 2);
  std::optional<DoneBlock> last = ring.poll_done(2);
  while (last && last->sequence != late.sequence)
    last = ring.poll_done(2);  // of a closed ring every loop hears everything
  CHECK(last && last->sequence == late.sequence && last->rows > late.row);
  CHECK(ring.completion(*last, late.row).error == RowError::kWorkerDied);
  CHECK(!ring.poll_done(2) && !ring.has_done(2));
}

void a_partial_batch_is_held_until_a_buffer_is_free() {
  BatchRing ring(small_config(2, 4));
  Loop loop(ring, 0, 1);
  BatchTaker taker(ring.fd(), {loop.event()}, 0);
  BatchTaker idle(ring.fd(), {loop.event()}, 1);
  submit(loop, 1);
  const TakenBatch batch = take(taker);
  submit(loop, 2);
  CHECK(!idle.take(0) && !idle.take(1));  // the only other buffer is in use: the batch goes on growing
  CHECK(ring.counters().partial_takes_held >= 1);
  submit(loop, 1);
  run_batch(taker, batch);
  CHECK(!idle.take(0));  // done, but not answered yet
  CHECK(loop.collect() == 1);
  CHECK(take(idle).rows == 3);
  submit(loop, 4);
  CHECK(!loop.submit(1));       // both buffers are full
  CHECK(take(idle).rows == 4);  // a full batch needs no free buffer
}

void neighbouring_rows_stay_together() {
  BatchRing ring(small_config(3, 4));
  Loop loop(ring, 0, 1);
  BatchTaker taker(ring.fd(), {loop.event()}, 0);
  CHECK(loop.submit(3));
  CHECK(loop.submit(2));  // does not fit behind the three: the next batch
  CHECK(!loop.submit(5));
  CHECK(!loop.submit(0));
  CHECK(take(taker).rows == 3);
  CHECK(take(taker).rows == 2);
}

void cancelled_rows_are_not_run() {
  BatchRing ring(small_config(2, 1));
  Loop loop(ring, 0, 1);
  BatchTaker taker(ring.fd(), {loop.event()}, 0);
  for (int lap = 0; lap < 6; ++lap) {
    const Claim claim = ring.claim(kNormalLane, 1);
    ring.meta(claim, 0).cancelled.store(0, std::memory_order_relaxed);
    std::memset(ring.input(claim, 0, 0), 0, 8);
    ring.publish(claim, 0);
    if (lap % 2 == 0) {
      ring.cancel(claim, 0);
      CHECK(!taker.take(0));
    } else {
      taker.complete(take(taker));  // the mark is gone with the buffer's last block
    }
    const std::optional<DoneBlock> block = ring.poll_done(0);
    CHECK(block && ring.completion(*block, 0).error == (lap % 2 == 0 ? RowError::kShed : RowError::kNone));
    ring.handled(*block, 1);
  }
}

// Costs that leave no row in time: one batch runs nevertheless now and then, or they could never be corrected.
void a_wrong_cost_model_is_probed() {
  RingConfig config = small_config(4, 4);
  config.slo_ns = 10'000'000;
  BatchRing ring(config);
  CostModel cost;
  cost.mean_ns_at.fill(1e9F);
  cost.p99_ns_at.fill(1e9F);
  ring.set_cost(0, cost);
  Loop loop(ring, 0, 1);
  loop.set_deadline(10'000'000);
  BatchTaker taker(ring.fd(), {loop.event()}, 0);
  submit(loop, 3);
  CHECK(take(taker).rows == 3);
  submit(loop, 3);
  CHECK(!taker.take(0));
  CHECK(loop.collect() == 3 && loop.tally().shed == 3);
}

void a_batch_is_reported_once() {
  BatchRing ring(config_of(true));
  Loop loop(ring, 0, 1);
  BatchTaker taker(ring.fd(), {loop.event()}, 0);
  submit(loop, 2);
  taker.complete(take(taker));
  const std::optional<DoneBlock> batch = ring.poll_done(0);
  CHECK(batch && batch->rows == 2 && batch->taken_ns <= batch->run_ns && batch->run_ns <= batch->done_ns);
  ring.recover(9);  // repeats the hints of all completed batches
  CHECK(!ring.poll_done(0));
  ring.handled(*batch, 1);
  ring.recover(9);
  CHECK(!ring.poll_done(0));
  ring.handled(*batch, 1);
  CHECK(!ring.poll_done(0));
}

void a_quarantine_that_never_comes() {
  BatchRing ring(config_of(true));
  Loop loop(ring, 0, 1);
  submit(loop, 3);
  for (int death = 0; death < 2; ++death) {
    BatchTaker taker(ring.fd(), {loop.event()}, 0);
    (void)take(taker);
    ring.recover(0);
  }
  CHECK(ring.quarantined() == 1);
  const Recovery recovery = ring.fail_quarantined();
  CHECK(recovery.blocks_failed == 1 && !recovery.corrupt && ring.quarantined() == 0);
  CHECK(loop.collect() == 3 && loop.waiting() == 0);
  submit(loop, 2);  // the queue goes on
  BatchTaker taker(ring.fd(), {loop.event()}, 0);
  run_batch(taker, take(taker));
  CHECK(loop.collect() == 2);
}

void slots_are_kept_for_those_who_go_first() {
  BatchRing ring(small_config(2, 3, 1, 20'000));  // 6 slots
  for (int i = 0; i < 3; ++i) CHECK(ring.acquire_slot(RowClass::kBatch));
  CHECK(!ring.acquire_slot(RowClass::kBatch));
  for (int i = 0; i < 2; ++i) CHECK(ring.acquire_slot(RowClass::kNormal));
  CHECK(!ring.acquire_slot(RowClass::kNormal));
  CHECK(ring.acquire_slot(RowClass::kInteractive));
  CHECK(!ring.acquire_slot(RowClass::kInteractive));
}

void slots_of_large_rows() {
  BatchRing ring(small_config(2, 3, 1, 20'000));
  CHECK(ring.uses_arena());
  std::vector<std::uint32_t> slots;
  for (int i = 0; i < 6; ++i) slots.push_back(ring.acquire_slot().value());
  CHECK(!ring.acquire_slot());
  for (std::uint32_t i = 0; i < 6; ++i) CHECK(slots[i] == i);  // neighbours lie side by side
  ring.release_slot(4);
  CHECK(ring.acquire_slot() == 4u);
  CHECK(!BatchRing(small_config(2, 3)).uses_arena());
}

// One tensor that fills its slot: neighbouring slots are the batch, others are gathered.
void the_arena_is_read_in_place() {
  RingConfig config;
  config.schema = {RowLayout({{"x", DType::kUint8, {32'768}}}), RowLayout({{"y", DType::kUint8, {1}}})};
  config.max_batch_size = 4;
  config.queue_bytes = bytes_for(config.schema, 2, 4);
  BatchRing ring(config);
  BatchTaker taker(ring.fd(), {0}, 0);
  for (const bool reversed : {false, true}) {
    std::vector<std::uint32_t> slots;
    for (int i = 0; i < 3; ++i) slots.push_back(ring.acquire_slot().value());
    if (reversed) std::swap(slots.front(), slots.back());
    for (std::uint32_t i = 0; i < 3; ++i) {
      std::memset(ring.slot(slots[i]), static_cast<int>(i + 1), 32'768);
      const Claim claim = ring.claim(kNormalLane, 1);
      ring.set_span(claim, 0, slots[i]);
      ring.publish(claim, 0);
    }
    const TakenBatch batch = take(taker);
    const std::byte* x = taker.input(batch, 0);
    for (std::uint32_t i = 0; i < 3; ++i) {
      CHECK(x[i * 32'768] == std::byte(i + 1) && x[i * 32'768 + 32'767] == std::byte(i + 1));
      std::memset(ring.slot(slots[i]), 9, 1);  // seen through a view, not through a copy
    }
    CHECK(x[0] == (reversed ? std::byte{1} : std::byte{9}));
    taker.complete(batch);
    ring.handled(*ring.poll_done(0), 3);
    for (const std::uint32_t slot : slots) ring.release_slot(slot);
  }
}

}  // namespace

int main() {
  rerun_keeps_the_rows();
  fail_spares_completed_rows();
  others_keep_their_batches();
  the_culprit_is_found();
  all_rows_may_be_culprits();
  a_batch_dies_at_last();
  an_old_mark_is_no_proof();
  every_loop_gets_its_rows_of_a_failed_batch();
  close_answers_everything();
  a_partial_batch_is_held_until_a_buffer_is_free();
  neighbouring_rows_stay_together();
  cancelled_rows_are_not_run();
  a_wrong_cost_model_is_probed();
  a_batch_is_reported_once();
  a_quarantine_that_never_comes();
  slots_are_kept_for_those_who_go_first();
  slots_of_large_rows();
  the_arena_is_read_in_place();
  return 0;
}
