// The supervisor's side: what becomes of the blocks of a dead worker, and of a ring that is closed.
#include <sched.h>

#include "futex.hpp"
#include "penstock/batcher/batch_ring.hpp"
#include "ring_state.hpp"

namespace penstock::batcher {
namespace {

constexpr std::uint64_t kPublishPatienceNs = 1'000'000'000;  // a loop needs some 100 ns, unless it is preempted

bool is_final(const Completion& completion) noexcept {
  // Acquire: pairs with the release store of the worker, whose outputs or detail must be visible with it.
  const CompletionKind kind = completion.kind.load(std::memory_order_acquire);
  return kind == CompletionKind::kFinal || kind == CompletionKind::kError;
}

void set_error(Completion& completion, RowError why) noexcept {
  completion.error = why;
  completion.detail_bytes = 0;
  completion.kind.store(CompletionKind::kError, std::memory_order_release);  // pairs with is_final() of a later worker
}

}  // namespace

Recovery BatchRing::recover(std::uint32_t worker) noexcept {
  State& state = *state_;
  Recovery recovery;
  const RingPlan& plan = state.map.plan();
  for (std::uint32_t buffer = 0; buffer < plan.buffers && !state.closed.load(std::memory_order_acquire); ++buffer) {
    const BlockWord word = state.word(buffer);
    if (!is_possible(word, state.map.lane_of(buffer).size.block_rows)) {
      state.give_up();
      break;
    }
    if (word.state == BlockState::kTaken && word.owner == worker) state.recover_block(buffer, word, recovery);
    // The worker may have died between a transition and its hint, or between taking a hint and acting on it.
    const BlockWord now = state.word(buffer);
    // A taker in quarantine looks at the words themselves.
    if (now.state == BlockState::kQueued && now.epoch < kQuarantineFrom) state.map.header().queued.set(buffer);
    if (now.state == BlockState::kDone) {
      for (std::uint32_t loop = 0; loop < plan.loops; ++loop) state.map.done(loop).set(buffer);
    }
  }
  RingHeader& header = state.sleepers();
  const std::uint64_t others = ~(std::uint64_t{1} << (worker % kWorkersMax));
  header.waiting_for_rows.fetch_and(others, std::memory_order_seq_cst);  // pairs as in pick_waiting()
  header.waiting_for_buffer.fetch_and(others, std::memory_order_seq_cst);
  header.attached.fetch_and(others, std::memory_order_relaxed);  // for load(), an estimate
  // It may have died with a wake-up that was meant for whoever is free.
  state.wake_all();
  recovery.corrupt = state.corrupt.load(std::memory_order_acquire);
  return recovery;
}

void BatchRing::State::recover_block(std::uint32_t buffer, const BlockWord& taken, Recovery& recovery) noexcept {
  if (!taken.is_of(buffers[buffer].sequence.load(std::memory_order_acquire))) {
    give_up();  // a block that is taken cannot move on: the word lies
    return;
  }
  if (!rerun) {
    complete_for_worker(buffer, taken, recovery);
    return;
  }
  const std::uint32_t running =
      map.control(buffer).running.exchange(0, std::memory_order_acq_rel);  // pairs with mark_running()
  const std::uint32_t first = map.row_index(buffer, 0);
  if (taken.epoch >= kQuarantineFrom) {
    if (running >= 1 && running <= taken.rows && !is_final(map.completion(first + running - 1))) {
      set_error(map.completion(first + running - 1), RowError::kCulprit);
      ++recovery.rows_failed;
    }
    std::uint32_t left = 0;
    for (std::uint32_t row = 0; row < taken.rows; ++row) left += is_final(map.completion(first + row)) ? 0 : 1;
    // Nothing left to run; or it has killed so many workers that the word cannot count one more.
    if (left == 0 || taken.epoch == kEpochMax) {
      complete_for_worker(buffer, taken, recovery);
      return;
    }
  }
  BlockWord queued = taken;
  queued.state = BlockState::kQueued;
  ++queued.epoch;
  std::uint64_t expected = pack(taken);
  // Sequentially consistent: makes work visible before wake_all() reads the announcements. Nobody else changes the word
  // of a dead worker, unless somebody lies.
  if (map.control(buffer).word.compare_exchange_strong(expected, pack(queued), std::memory_order_seq_cst)) {
    ++(queued.epoch >= kQuarantineFrom ? recovery.blocks_quarantined : recovery.blocks_requeued);
  } else {
    give_up();
  }
}

void BatchRing::State::complete_for_worker(std::uint32_t buffer, const BlockWord& taken, Recovery& recovery) noexcept {
  map.control(buffer).leads.store(0, std::memory_order_relaxed);  // a statistic: no batch was completed
  std::uint32_t failed = 0;
  if (!fail_rows(buffer, taken.rows, RowError::kWorkerDied, &failed)) {
    give_up();
    return;
  }
  BlockWord done = taken;
  done.state = BlockState::kDone;
  std::uint64_t expected = pack(taken);
  // Release: the completions; pairs with the acquire load in report().
  if (!map.control(buffer).word.compare_exchange_strong(expected, pack(done), std::memory_order_seq_cst)) {
    give_up();
    return;
  }
  ++recovery.blocks_failed;
  recovery.rows_failed += failed;
}

// Gives an error to every row without a final word. False: the word claims more rows than were ever published.
bool BatchRing::State::fail_rows(std::uint32_t buffer, std::uint32_t row_count, RowError why,
                                 std::uint32_t* rows_failed) noexcept {
  // A loop may be between claim and publish of the last row; it only copies there. report() wants the rows to be
  // counted.
  const std::uint64_t patience_ends_ns = monotonic_ns() + kPublishPatienceNs;
  while (buffers[buffer].published.load(std::memory_order_acquire) != row_count) {
    if (monotonic_ns() > patience_ends_ns) return false;
    sched_yield();
  }
  const std::uint32_t first = map.row_index(buffer, 0);
  for (std::uint32_t row = 0; row < row_count; ++row) {
    Completion& completion = map.completion(first + row);
    if (is_final(completion)) continue;
    set_error(completion, why);
    ++*rows_failed;
  }
  return true;
}

std::uint32_t BatchRing::quarantined() const noexcept {
  std::uint32_t blocks = 0;
  for (std::uint32_t buffer = 0; buffer < state_->map.plan().buffers; ++buffer) {
    const BlockWord word = state_->word(buffer);
    const bool in_hand = word.state == BlockState::kQueued || word.state == BlockState::kTaken;
    blocks += in_hand && word.epoch >= kQuarantineFrom ? 1 : 0;
  }
  return blocks;
}

Recovery BatchRing::fail_quarantined() noexcept {
  State& state = *state_;
  Recovery recovery;
  for (std::uint32_t buffer = 0; buffer < state.map.plan().buffers; ++buffer) {
    const BlockWord word = state.word(buffer);
    if (word.state != BlockState::kQueued || word.epoch < kQuarantineFrom) continue;
    if (!word.is_of(state.buffers[buffer].sequence.load(std::memory_order_acquire))) {
      state.give_up();  // a block that waits cannot move on: the word lies
      break;
    }
    state.complete_for_worker(buffer, word, recovery);
    for (std::uint32_t loop = 0; loop < state.map.plan().loops; ++loop) state.map.done(loop).set(buffer);
  }
  recovery.corrupt = state.corrupt.load(std::memory_order_acquire);
  return recovery;
}

// By the futex words, not by the masks: a worker that the dead one had picked, and not yet woken, is on no mask any
// more.
void BatchRing::State::wake_all() noexcept {
  for (WorkerLines& worker : sleepers().workers) {
    // Sequentially consistent: what recovery queued is visible before; pairs with the announcement in
    // BatchTaker::State::wait().
    if (worker.asleep.exchange(0, std::memory_order_seq_cst) != 0) futex_wake(worker.asleep);
  }
}

void BatchRing::close(RowError error) noexcept { state_->close(error); }

void BatchRing::State::close(RowError why) noexcept {
  if (closing_claimed.exchange(true, std::memory_order_acq_rel)) return;
  set_error(closing, why);
  // Release: pairs with claim() and poll_done(). Before the hints: a loop that has seen one claims no more.
  closed.store(true, std::memory_order_release);
  // Answers come from private memory from now on, so nothing depends on what stands in the region.
  for (std::uint32_t loop = 0; loop < map.plan().loops; ++loop) {
    for (std::uint32_t buffer = 0; buffer < map.plan().buffers; ++buffer) loops[loop].closed.set(buffer);
  }
}

void BatchRing::State::give_up() noexcept {
  corrupt.store(true, std::memory_order_release);  // pairs with report_closed() and recover()
  close(RowError::kWorkerDied);
}

}  // namespace penstock::batcher
