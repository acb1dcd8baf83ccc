// The loop's side of a completed block: find it, read its answers, hand the buffer back.
#include <utility>

#include "penstock/batcher/batch_ring.hpp"
#include "ring_state.hpp"
#include "waiting_workers.hpp"

namespace penstock::batcher {

std::optional<DoneBlock> BatchRing::poll_done(std::uint32_t loop) noexcept {
  State& state = *state_;
  // Acquire: pairs with the store in close().
  while (!state.closed.load(std::memory_order_acquire)) {
    const std::optional<std::uint32_t> buffer = state.map.done(loop).pop();
    if (!buffer) return std::nullopt;
    if (std::optional<DoneBlock> block = state.report(loop, *buffer)) return block;
  }
  while (const std::optional<std::uint32_t> buffer = state.loops[loop].closed.pop()) {
    if (std::optional<DoneBlock> block = state.report_closed(loop, *buffer)) return block;
  }
  return std::nullopt;
}

bool BatchRing::is_closed() const noexcept {
  return state_->closed.load(std::memory_order_acquire);  // pairs with close()
}

bool BatchRing::has_done(std::uint32_t loop) const noexcept {
  // Acquire: pairs with close(). The bitmaps order themselves.
  if (state_->closed.load(std::memory_order_acquire)) return state_->loops[loop].closed.any();
  return state_->map.done(loop).any();
}

std::optional<DoneBlock> BatchRing::State::report(std::uint32_t loop, std::uint32_t buffer) noexcept {
  if (buffer >= map.plan().buffers) {
    give_up();
    return std::nullopt;
  }
  // The private record first: recycle() moves it on before the word.
  const BufferRecord& record = buffers[buffer];
  const std::uint64_t sequence = record.sequence.load(std::memory_order_acquire);  // pairs with recycle()
  const BlockWord done = word(buffer);
  if (!is_possible(done, map.lane_of(buffer).size.block_rows)) {
    give_up();
    return std::nullopt;
  }
  if (done.state != BlockState::kDone || !done.is_of(sequence)) return std::nullopt;  // a hint of an earlier lap
  // An honest worker saw all rows committed, and so does whoever acquired its word. Acquire: pairs with recycle().
  if (done.rows != record.published.load(std::memory_order_acquire)) {
    // Unless the other loops have just answered all rows of it and the buffer is on its way into the next lap.
    if (record.sequence.load(std::memory_order_relaxed) == sequence) give_up();
    return std::nullopt;
  }
  return describe(loop, buffer, sequence, done.rows);
}

std::optional<DoneBlock> BatchRing::State::report_closed(std::uint32_t loop, std::uint32_t buffer) noexcept {
  BufferRecord& record = buffers[buffer];
  // Acquire: the rows of other loops; this loop's own are counted already, for it claims no more once it knows of the
  // hint.
  const std::uint32_t published = record.published.load(std::memory_order_acquire);
  if (published == 0) return std::nullopt;
  const std::uint64_t sequence = record.sequence.load(std::memory_order_acquire);
  const BlockWord seen = word(buffer);
  const bool believable = !corrupt.load(std::memory_order_acquire) && seen.is_of(sequence) &&
                          is_possible(seen, map.lane_of(buffer).size.block_rows) && seen.rows >= published;
  const bool completed =
      believable && seen.state == BlockState::kDone && !record.failed.load(std::memory_order_acquire);
  if (!completed) record.failed.store(true, std::memory_order_release);  // pairs with completion()
  // When the word cannot be believed, every row is looked at: the owner records tell which were claimed.
  return describe(loop, buffer, sequence, believable ? seen.rows : map.lane_of(buffer).size.block_rows);
}

std::optional<DoneBlock> BatchRing::State::describe(std::uint32_t loop, std::uint32_t buffer, std::uint64_t sequence,
                                                    std::uint32_t rows) noexcept {
  std::uint64_t& reported = loops[loop].reported[buffer];
  if (reported == sequence + 1) return std::nullopt;  // a repeated hint
  reported = sequence + 1;
  const BufferControl& control = map.control(buffer);
  DoneBlock block{.sequence = sequence, .buffer = buffer, .rows = rows};
  block.taken_ns = control.taken_ns.load(std::memory_order_relaxed);  // statistics
  block.run_ns = control.run_ns.load(std::memory_order_relaxed);
  block.done_ns = control.done_ns.load(std::memory_order_relaxed);
  block.batch_rows = control.batch_rows.load(std::memory_order_relaxed);
  block.run_rows = control.run_rows.load(std::memory_order_relaxed);
  block.worker = control.worker.load(std::memory_order_relaxed);
  const std::uint8_t reason = control.reason.load(std::memory_order_relaxed);
  block.reason = reason < kSealReasons ? static_cast<SealReason>(reason) : SealReason::kIdle;
  block.leads = control.leads.load(std::memory_order_relaxed) != 0;
  block.unmeasured = control.unmeasured.load(std::memory_order_relaxed) != 0;
  return block;
}

const Completion& BatchRing::completion(const DoneBlock& block, std::uint32_t row) const noexcept {
  // Acquire, both: pair with close() and report_closed().
  if (state_->closed.load(std::memory_order_acquire) &&
      state_->buffers[block.buffer].failed.load(std::memory_order_acquire))
    return state_->closing;
  return state_->map.completion(state_->map.row_index(block.buffer, row));
}

const std::byte* BatchRing::output(const DoneBlock& block, std::uint32_t row, std::size_t index) const noexcept {
  const RingMap& map = state_->map;
  return map.output(map.lane_of(block.buffer), map.row_index(block.buffer, row), index);
}

void BatchRing::handled(const DoneBlock& block, std::uint32_t rows) noexcept {
  State& state = *state_;
  // Release: our reads of the rows. Acquire: the reads of the loops that were here before; the last one reuses the
  // buffer.
  const std::uint32_t handled = state.buffers[block.buffer].handled.fetch_add(rows, std::memory_order_acq_rel) + rows;
  // A closed ring opens no block any more, so its buffers stay as they are.
  if (handled == block.rows && !state.closed.load(std::memory_order_acquire)) state.recycle(block);
}

void BatchRing::State::recycle(const DoneBlock& block) noexcept {
  BufferControl& control = map.control(block.buffer);
  BufferRecord& record = buffers[block.buffer];
  const std::uint32_t lane = map.plan().lane_of[block.buffer];
  const std::uint64_t next = block.sequence + map.plan().lanes[lane].size.buffers;
  const std::uint32_t first = map.row_index(block.buffer, 0);
  for (std::uint32_t row = 0; row < block.rows; ++row)
    map.completion(first + row).kind.store(CompletionKind::kNone, std::memory_order_relaxed);
  // The record moves on before its count does: a loop that owns no row of the batch may look on (report()).
  record.sequence.store(next, std::memory_order_relaxed);
  record.published.store(0, std::memory_order_release);
  // Relaxed: the exchange below publishes them to the next claim.
  record.handled.store(0, std::memory_order_relaxed);
  control.committed.store(0, std::memory_order_relaxed);
  control.loops.store(0, std::memory_order_relaxed);
  control.cancelled.store(0, std::memory_order_relaxed);
  control.first_arrival_ns.store(0, std::memory_order_relaxed);
  control.deadline_ns.store(0, std::memory_order_relaxed);
  control.running.store(0, std::memory_order_relaxed);
  // Sequentially consistent: the free buffer is visible before we look who waits for it; a worker announces itself
  // first and looks at the word afterwards (BatchTaker::State::wait()).
  const BlockWord before = unpack(control.word.exchange(pack({.sequence = next}), std::memory_order_seq_cst));
  if (before.state != BlockState::kDone || !before.is_of(block.sequence)) {
    give_up();
    return;
  }
  if (wake_for_buffer(lane, next)) bell_rings.fetch_add(1, std::memory_order_relaxed);  // a statistic
}

// A buffer of the lane is free for block `next`. True: a worker was woken.
bool BatchRing::State::wake_for_buffer(std::uint32_t lane, std::uint64_t next) noexcept {
  RingHeader& header = sleepers();
  if (wake_one(header, header.waiting_for_buffer)) return true;
  // The open block was held for want of this buffer, and the worker that held it may have taken another since, and be
  // busy: then one that waits for rows can have it. Found by the model checker (BUG_RECYCLE_FOR_BUFFER_ONLY).
  const std::uint64_t open = lanes[lane].tail.load(std::memory_order_acquire);  // pairs with advance_tail()
  if (next != open + 1 || header.waiting_for_rows.load(std::memory_order_seq_cst) == 0) return false;
  const BlockWord held = word(lane, open);
  return held.state == BlockState::kOpen && held.is_of(open) && held.rows > 0 &&
         wake_one(header, header.waiting_for_rows);
}

bool BatchRing::prepare_wait(std::uint32_t loop) noexcept {
  std::atomic<std::uint32_t>& waiting = state_->map.header().loop_lines[loop].waiting;
  // Sequentially consistent: pairs with BatchTaker::State::notify(), which sets the hint and then reads the
  // announcement.
  waiting.store(1, std::memory_order_seq_cst);
  if (!has_done(loop)) return true;
  waiting.store(0, std::memory_order_relaxed);  // a late reader writes the eventfd once in vain
  return false;
}

void BatchRing::finish_wait(std::uint32_t loop) noexcept {
  state_->map.header().loop_lines[loop].waiting.store(0, std::memory_order_relaxed);  // as above
}

}  // namespace penstock::batcher
