// The worker's side of a batch in hand: which of its rows run, their words, and its completion.
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "futex.hpp"
#include "kill_point.hpp"
#include "penstock/batcher/batch_taker.hpp"
#include "taker_state.hpp"

namespace penstock::batcher {
namespace {

constexpr std::uint64_t kProbeNs = 100'000'000;  // so often a batch runs though all its rows will be late
constexpr int kSpins = 200;                      // about the time a producer copies a row; then it was preempted

void pause_briefly() noexcept {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

bool is_final(const Completion& completion) noexcept {
  const CompletionKind kind = completion.kind.load(std::memory_order_relaxed);  // ours, or acquired by take()
  return kind == CompletionKind::kFinal || kind == CompletionKind::kError;
}

// Whether rows lie side by side, so that the ring's own memory is the batch. Rows of all lanes are numbered through,
// but each lane has arrays of its own.
bool is_contiguous(const std::vector<BatchRow>& rows, const LanePlan& lane) noexcept {
  if (rows.front().index < lane.first_row || rows.back().index >= lane.first_row + lane.rows()) return false;
  for (std::size_t i = 1; i < rows.size(); ++i) {
    if (rows[i].index != rows[0].index + i) return false;
  }
  return true;
}

}  // namespace

bool BatchTaker::State::settle(TakenBatch& batch, const Decision& decision) noexcept {
  TakerRing& ring = *rings[batch.ring];
  const LaneSettings& lane = ring.lanes[batch.lane];
  taken_ns = monotonic_ns();
  batch.reason = decision.reason;
  for (std::size_t settled = 0; settled < batch.blocks.size();) {
    collect_rows(batch, settled);
    settled = batch.blocks.size();
    if (batch.singly) break;
    const std::size_t rows = batch.row.size();
    drop_rows(batch);
    batch.rows = static_cast<std::uint32_t>(batch.row.size());
    // Others take the place of what was dropped.
    if (batch.rows < rows && batch.rows < decision.lane_rows && !decision.requeued)
      take_lane(batch, {batch.ring, batch.lane}, decision.lane_rows - batch.rows);
  }
  batch.rows = static_cast<std::uint32_t>(batch.row.size());
  batch.fixed_rows = lane.row_class == RowClass::kReproducible ? lane.batch_rows_max : 0;
  batch.run_rows = batch.fixed_rows != 0 ? batch.fixed_rows : padded_rows(lane.batch_sizes, batch.rows);
  if (batch.singly) batch.run_rows = batch.rows;
  // Reproducible rows always run in memory of the same alignment.
  batch.in_place = batch.run_rows == batch.rows && batch.rows != 0 && lane.row_class != RowClass::kReproducible &&
                   is_contiguous(batch.row, ring.plan().lanes[batch.lane]);
  complete_dropped_blocks(batch);
  if (batch.rows == 0) return false;
  const std::uint64_t now_ns = monotonic_ns();
  stamp(batch, now_ns);
  run_last_ns = now_ns;
  if (!options.quarantine) {
    // For BatchRing::load(), an estimate. The batch that is in hand now is not the next one's rows.
    sleepers().workers[worker].busy_until_ns.store(now_ns + ring.costs[lane.bucket].mean_ns(batch.run_rows),
                                                   std::memory_order_relaxed);
    wake_another();
  }
  PENSTOCK_KILL_POINT(kInHand);
  return true;
}

void BatchTaker::State::collect_rows(TakenBatch& batch, std::size_t first_block) noexcept {
  PENSTOCK_KILL_POINT(kAwaitingRows);
  const RingMap& map = rings[batch.ring]->map;
  for (std::size_t i = first_block; i < batch.blocks.size(); ++i) {
    const TakenBlock& block = batch.blocks[i];
    const BufferControl& control = map.control(block.buffer);
    // Acquire: the rows' bytes and the loop mask; pairs with publish().
    for (int spins = 0; control.committed.load(std::memory_order_acquire) < block.rows; ++spins) {
      if (spins < kSpins) {
        pause_briefly();
      } else {
        sched_yield();
      }
    }
    for (std::uint32_t row = 0; row < block.rows; ++row)
      batch.row.push_back({map.row_index(block.buffer, row), block.buffer});
  }
}

// Rows that an earlier attempt answered, rows whose client is gone, and rows that would be late.
void BatchTaker::State::drop_rows(TakenBatch& batch) noexcept {
  const RingMap& map = rings[batch.ring]->map;
  std::uint32_t cancelled = 0;
  std::uint64_t deadline_ns = kNoDeadline;
  for (const TakenBlock& block : batch.blocks) {
    const BufferControl& control = map.control(block.buffer);
    cancelled += control.cancelled.load(std::memory_order_relaxed);  // a hint
    const std::uint64_t earliest_ns =
        control.deadline_ns.load(std::memory_order_relaxed);  // collect_rows() acquired it
    if (earliest_ns != 0) deadline_ns = std::min(deadline_ns, earliest_ns);
  }
  if (batch.attempt > 0)
    std::erase_if(batch.row, [&](const BatchRow& row) { return is_final(map.completion(row.index)); });
  if (cancelled > 0) {
    std::erase_if(batch.row, [&](const BatchRow& row) {
      if (map.meta(row.index).cancelled.load(std::memory_order_relaxed) == 0) return false;  // a hint
      fail(batch.ring, row.index, RowError::kShed, "nobody waits for it");
      return true;
    });
  }
  const TakerRing& ring = *rings[batch.ring];
  const LaneSettings& lane = ring.lanes[batch.lane];
  const std::uint32_t run_rows = padded_rows(lane.batch_sizes, static_cast<std::uint32_t>(batch.row.size()));
  if (taken_ns + ring.costs[lane.bucket].p99_ns(run_rows) > deadline_ns) drop_late_rows(batch, taken_ns);
}

void BatchTaker::State::drop_late_rows(TakenBatch& batch, std::uint64_t now_ns) noexcept {
  const TakerRing& ring = *rings[batch.ring];
  const LaneSettings& lane = ring.lanes[batch.lane];
  deadlines.clear();
  for (const BatchRow& row : batch.row) {
    const std::uint64_t deadline_ns = ring.map.meta(row.index).deadline_ns;
    deadlines.push_back(deadline_ns == 0 ? kNoDeadline : deadline_ns);
  }
  dropped.assign(batch.row.size(), 0);
  // A cost model that says nothing can be in time may be wrong, and would stay so if nothing ran.
  if (shed_late(deadlines, lane, ring.costs[lane.bucket], now_ns, dropped) == 0 && now_ns - run_last_ns > kProbeNs)
    return;
  std::size_t kept = 0;
  for (std::size_t i = 0; i < batch.row.size(); ++i) {
    if (dropped[i] != 0) {
      fail(batch.ring, batch.row[i].index, RowError::kShed, "it would have been late");
    } else {
      batch.row[kept++] = batch.row[i];
    }
  }
  batch.row.resize(kept);
}

void BatchTaker::State::complete_dropped_blocks(TakenBatch& batch) noexcept {
  std::uint64_t kept_rows = 0;
  for (const TakenBlock& block : batch.blocks) kept_rows += block.rows;
  if (kept_rows == batch.rows) return;
  std::uint64_t loops = 0;
  std::erase_if(batch.blocks, [&](const TakenBlock& block) {
    const auto is_of_block = [&](const BatchRow& row) { return row.buffer == block.buffer; };
    if (std::ranges::any_of(batch.row, is_of_block)) return false;
    BufferControl& control = rings[batch.ring]->map.control(block.buffer);
    control.leads.store(0, std::memory_order_relaxed);  // statistics, all: no batch ran
    control.taken_ns.store(taken_ns, std::memory_order_relaxed);
    control.run_ns.store(taken_ns, std::memory_order_relaxed);
    loops |= complete_block(batch.ring, block);
    return true;
  });
  for (; loops != 0; loops &= loops - 1) notify(batch.ring, static_cast<std::uint32_t>(std::countr_zero(loops)));
}

void BatchTaker::State::stamp(const TakenBatch& batch, std::uint64_t run_ns) noexcept {
  bool leads = true;
  for (const TakenBlock& block : batch.blocks) {
    BufferControl& control = rings[batch.ring]->map.control(block.buffer);
    // Relaxed, all: statistics, published with the block's word.
    control.batch_rows.store(batch.rows, std::memory_order_relaxed);
    control.run_rows.store(batch.run_rows, std::memory_order_relaxed);
    control.worker.store(static_cast<std::uint8_t>(worker), std::memory_order_relaxed);
    control.reason.store(static_cast<std::uint8_t>(batch.reason), std::memory_order_relaxed);
    control.leads.store(leads ? 1 : 0, std::memory_order_relaxed);
    control.unmeasured.store(0, std::memory_order_relaxed);
    control.taken_ns.store(taken_ns, std::memory_order_relaxed);
    control.run_ns.store(run_ns, std::memory_order_relaxed);
    leads = false;
  }
}

const std::byte* BatchTaker::input(const TakenBatch& batch, std::size_t index) {
  return state_->rings[batch.ring]->input(batch, index);
}

void BatchTaker::input_offsets(const TakenBatch& batch, std::size_t index, std::span<std::uint64_t> to) const noexcept {
  state_->rings[batch.ring]->input_offsets(batch, index, to);
}

std::byte* BatchTaker::output(const TakenBatch& batch, std::size_t index) {
  return state_->rings[batch.ring]->output(batch, index);
}

RowMeta& BatchTaker::meta(const TakenBatch& batch, std::uint32_t row) const noexcept {
  return state_->rings[batch.ring]->map.meta(batch.row[row].index);
}

Completion& BatchTaker::completion(const TakenBatch& batch, std::uint32_t row) const noexcept {
  return state_->rings[batch.ring]->map.completion(batch.row[row].index);
}

bool BatchTaker::is_completed(const TakenBatch& batch, std::uint32_t row) const noexcept {
  return is_final(completion(batch, row));
}

void BatchTaker::mark_running(const TakenBatch& batch, std::uint32_t row) noexcept {
  const RingMap& map = state_->rings[batch.ring]->map;
  const BatchRow& where = batch.row[row];
  // Release: the words of the rows before it; pairs with recover_block().
  map.control(where.buffer).running.store(where.index - map.row_index(where.buffer, 0) + 1, std::memory_order_release);
  PENSTOCK_KILL_POINT(kRunning);
}

void BatchTaker::complete_row(const TakenBatch& batch, std::uint32_t row) noexcept {
  state_->rings[batch.ring]->scatter(batch, row);
  PENSTOCK_KILL_POINT(kRowCompleting);
  // Release: the row's outputs; pairs with is_final() in the recovery, should we die before complete().
  completion(batch, row).kind.store(CompletionKind::kFinal, std::memory_order_release);
  PENSTOCK_KILL_POINT(kRowCompleted);
}

void BatchTaker::fail_row(const TakenBatch& batch, std::uint32_t row, RowError error,
                          std::string_view detail) noexcept {
  state_->fail(batch.ring, batch.row[row].index, error, detail);
}

void BatchTaker::State::fail(std::uint32_t ring, std::uint32_t row_index, RowError error,
                             std::string_view detail) noexcept {
  Completion& word = rings[ring]->map.completion(row_index);
  const std::size_t bytes = std::min(detail.size(), word.detail.size());
  word.error = error;
  word.detail_bytes = static_cast<std::uint8_t>(bytes);
  std::copy_n(detail.data(), bytes, word.detail.data());  // not memcpy: an empty view's data may be null
  PENSTOCK_KILL_POINT(kRowFailing);
  word.kind.store(CompletionKind::kError, std::memory_order_release);  // as in complete_row()
  PENSTOCK_KILL_POINT(kRowFailed);
}

void BatchTaker::mark_started(const TakenBatch& batch, std::uint64_t now_ns) noexcept {
  for (const TakenBlock& block : batch.blocks) {
    // Relaxed: a statistic, published with the block's word.
    state_->rings[batch.ring]->map.control(block.buffer).run_ns.store(now_ns, std::memory_order_relaxed);
  }
}

void BatchTaker::mark_unmeasured(const TakenBatch& batch) noexcept {
  for (const TakenBlock& block : batch.blocks) {
    // Relaxed: a statistic, published with the block's word.
    state_->rings[batch.ring]->map.control(block.buffer).unmeasured.store(1, std::memory_order_relaxed);
  }
}

void BatchTaker::complete(TakenBatch batch) noexcept {
  State& state = *state_;
  for (std::uint32_t row = 0; row < batch.rows; ++row) {
    if (is_completed(batch, row)) continue;
    state.rings[batch.ring]->scatter(batch, row);
    completion(batch, row).kind.store(CompletionKind::kFinal, std::memory_order_release);  // as in complete_row()
    PENSTOCK_KILL_POINT(kCompletingRows);
  }
  if (!state.options.quarantine)
    state.sleepers().workers[state.worker].busy_until_ns.store(0, std::memory_order_relaxed);  // an estimate
  std::uint64_t loops = 0;
  for (const TakenBlock& block : batch.blocks) loops |= state.complete_block(batch.ring, block);
  for (; loops != 0; loops &= loops - 1) state.notify(batch.ring, static_cast<std::uint32_t>(std::countr_zero(loops)));
  state.give_back(std::move(batch));
}

TakenBatch BatchTaker::State::fresh_batch(const LanePlace& place) noexcept {
  TakenBatch batch;
  if (!spare.empty()) {
    batch.blocks = std::move(spare.back().blocks);
    batch.row = std::move(spare.back().row);
    spare.pop_back();
  }
  batch.blocks.clear();
  batch.row.clear();
  batch.ring = place.ring;
  batch.lane = place.lane;
  return batch;
}

void BatchTaker::State::give_back(TakenBatch&& batch) noexcept {
  if (spare.size() < spare.capacity()) spare.push_back(std::move(batch));
}

std::uint64_t BatchTaker::State::complete_block(std::uint32_t ring, const TakenBlock& block) noexcept {
  const RingMap& map = rings[ring]->map;
  BufferControl& control = map.control(block.buffer);
  control.done_ns.store(monotonic_ns(), std::memory_order_relaxed);  // a statistic
  // Before the word: afterwards the buffer may be in its next lap. Relaxed: collect_rows() acquired it.
  const std::uint32_t loop_count = map.plan().loops;
  std::uint64_t owners = loop_count == 1 ? 1 : control.loops.load(std::memory_order_relaxed);
  if (loop_count < kLoopsMax) owners &= (std::uint64_t{1} << loop_count) - 1;
  PENSTOCK_KILL_POINT(kBeforeDone);
  const BlockWord taken{block.sequence & kSequenceMask, block.attempt, worker, BlockState::kTaken, block.rows};
  BlockWord done = taken;
  done.state = BlockState::kDone;
  std::uint64_t bits = pack(taken);
  // Release: outputs and completions; pairs with the load in report(). It fails when recovery took the block from us,
  // because somebody thought that we were dead: then it is another's.
  if (!control.word.compare_exchange_strong(bits, pack(done), std::memory_order_acq_rel, std::memory_order_relaxed))
    return 0;
  PENSTOCK_KILL_POINT(kAfterDone);
  for (std::uint64_t left = owners; left != 0; left &= left - 1) {
    HintBitmap& hints = map.done(static_cast<std::uint32_t>(std::countr_zero(left)));
    hints.set_leaf(block.buffer);
    PENSTOCK_KILL_POINT(kHintHalfSet);
    hints.set_summary(block.buffer);
    PENSTOCK_KILL_POINT(kHintSet);
  }
  return owners;
}

void BatchTaker::State::notify(std::uint32_t ring, std::uint32_t loop) noexcept {
  std::atomic<std::uint32_t>& waiting = rings[ring]->header().loop_lines[loop].waiting;
  // Sequentially consistent, both: the hint is set, then the announcement is read; pairs with prepare_wait(). The
  // exchange lets one of several workers write the eventfd.
  if (waiting.load(std::memory_order_seq_cst) == 0 || waiting.exchange(0, std::memory_order_seq_cst) == 0) return;
  PENSTOCK_KILL_POINT(kLoopPicked);
  const std::uint64_t one = 1;
  // A full counter means that the loop is woken already; nothing else can fail here.
  [[maybe_unused]] const ssize_t written = write(loop_events[loop].get(), &one, sizeof one);
  PENSTOCK_KILL_POINT(kLoopNotified);
}

}  // namespace penstock::batcher
