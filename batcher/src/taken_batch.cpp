// The worker's side of a batch in hand: its rows, their words, and its completion.
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstdlib>
#include <cstring>
#include <new>

#include "futex.hpp"
#include "kill_point.hpp"
#include "penstock/batcher/batch_taker.hpp"
#include "penstock/kernels/gather.hpp"
#include "taker_state.hpp"

namespace penstock::batcher {

void GatheredInput::Free::operator()(std::byte* memory) const noexcept {
  ::operator delete(memory, std::align_val_t{kTensorAlignment});
}

const std::byte* BatchTaker::input(const TakenBatch& batch, std::size_t index) {
  State& state = *state_;
  return state.map.plan().arena ? state.gather_input(batch, index) : state.map.input(batch.buffer, index);
}

std::uint32_t BatchTaker::State::slot_of(std::uint32_t buffer, std::uint32_t row) const noexcept {
  const RingPlan& plan = map.plan();
  const std::uint64_t slot = (map.meta(buffer, row).span_offset - plan.arena_offset) / plan.slot_stride;
  return static_cast<std::uint32_t>(std::min<std::uint64_t>(slot, plan.slots - 1));
}

const std::byte* BatchTaker::State::gather_input(const TakenBatch& batch, std::size_t index) {
  const RowLayout& layout = map.plan().schema.inputs;
  const std::uint64_t bytes = layout.tensors()[index].bytes();
  const std::uint32_t first = slot_of(batch.buffer, 0);
  // Slots that lie side by side are the batch already, if the tensor fills its slot.
  bool in_place = batch.rows == 1 || bytes == map.plan().slot_stride;
  std::vector<const std::byte*> rows(batch.rows);
  for (std::uint32_t row = 0; row < batch.rows; ++row) {
    const std::uint32_t slot = slot_of(batch.buffer, row);
    in_place = in_place && slot == first + row;
    rows[row] = map.slot(slot) + layout.offset(index);
  }
  if (in_place) return rows.front();
  GatheredInput& target = gathered[index];
  if (!target.bytes) {
    // For the largest batch at once (pages cost nothing until they are used): a view that a model kept stays mapped.
    const std::uint64_t capacity = map.plan().rows_max * bytes;
    target.bytes.reset(static_cast<std::byte*>(::operator new(capacity, std::align_val_t{kTensorAlignment})));
  }
  gather(rows, bytes, target.bytes.get());
  return target.bytes.get();
}

std::byte* BatchTaker::output(const TakenBatch& batch, std::size_t index) const noexcept {
  return state_->map.output(batch.buffer, index);
}

RowMeta& BatchTaker::meta(const TakenBatch& batch, std::uint32_t row) const noexcept {
  return state_->map.meta(batch.buffer, row);
}

Completion& BatchTaker::completion(const TakenBatch& batch, std::uint32_t row) const noexcept {
  return state_->map.completion(batch.buffer, row);
}

bool BatchTaker::is_completed(const TakenBatch& batch, std::uint32_t row) const noexcept {
  const CompletionKind kind =
      completion(batch, row).kind.load(std::memory_order_relaxed);  // ours, or acquired by take()
  return kind == CompletionKind::kFinal || kind == CompletionKind::kError;
}

void BatchTaker::mark_running(const TakenBatch& batch, std::uint32_t row) noexcept {
  // Release: the words of the rows before it; pairs with recover_batch().
  state_->map.control(batch.buffer).running.store(row + 1, std::memory_order_release);
  PENSTOCK_KILL_POINT(kRunning);
}

void BatchTaker::complete_row(const TakenBatch& batch, std::uint32_t row) noexcept {
  PENSTOCK_KILL_POINT(kRowCompleting);
  // Release: the row's outputs; pairs with is_final() in the recovery, should we die before complete().
  completion(batch, row).kind.store(CompletionKind::kFinal, std::memory_order_release);
  PENSTOCK_KILL_POINT(kRowCompleted);
}

void BatchTaker::fail_row(const TakenBatch& batch, std::uint32_t row, RowError error,
                          std::string_view detail) noexcept {
  Completion& word = completion(batch, row);
  const std::size_t bytes = std::min(detail.size(), word.detail.size());
  word.error = error;
  word.detail_bytes = static_cast<std::uint8_t>(bytes);
  std::memcpy(word.detail.data(), detail.data(), bytes);
  PENSTOCK_KILL_POINT(kRowFailing);
  word.kind.store(CompletionKind::kError, std::memory_order_release);  // as in complete_row()
  PENSTOCK_KILL_POINT(kRowFailed);
}

std::uint64_t BatchTaker::State::held_bits(const TakenBatch& batch) const noexcept {
  return pack({.sequence = batch.sequence,
               .epoch = batch.attempt,
               .owner = worker,
               .state = BatchState::kTaken,
               .rows = batch.rows});
}

void BatchTaker::complete(const TakenBatch& batch) noexcept {
  State& state = *state_;
  for (std::uint32_t row = 0; row < batch.rows; ++row) {
    if (is_completed(batch, row)) continue;
    completion(batch, row).kind.store(CompletionKind::kFinal, std::memory_order_release);  // as in complete_row()
    PENSTOCK_KILL_POINT(kCompletingRows);
  }
  BufferControl& control = state.map.control(batch.buffer);
  control.done_ns.store(monotonic_ns(), std::memory_order_relaxed);  // a statistic
  // Before the word: afterwards the buffer may be in its next lap. Relaxed: await_rows() acquired it.
  const std::uint32_t loop_count = state.map.plan().loops;
  std::uint64_t owners = loop_count == 1 ? 1 : control.loops.load(std::memory_order_relaxed);
  if (loop_count < kLoopsMax) owners &= (std::uint64_t{1} << loop_count) - 1;
  PENSTOCK_KILL_POINT(kBeforeDone);
  std::uint64_t held = state.held_bits(batch);
  BatchWord done = unpack(held);
  done.state = BatchState::kDone;
  // Release: outputs and completions; pairs with the load in report(). It fails when recovery took the batch from us,
  // because somebody thought that we were dead: then it is another's.
  if (!control.word.compare_exchange_strong(held, pack(done), std::memory_order_acq_rel, std::memory_order_relaxed))
    return;
  PENSTOCK_KILL_POINT(kAfterDone);
  for (; owners != 0; owners &= owners - 1)
    state.notify(static_cast<std::uint32_t>(std::countr_zero(owners)), batch.buffer);
}

void BatchTaker::State::notify(std::uint32_t loop, std::uint32_t buffer) noexcept {
  HintBitmap& hints = map.done(loop);
  hints.set_leaf(buffer);
  PENSTOCK_KILL_POINT(kHintHalfSet);
  hints.set_summary(buffer);
  PENSTOCK_KILL_POINT(kHintSet);
  std::atomic<std::uint32_t>& waiting = map.header().loop_lines[loop].waiting;
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
