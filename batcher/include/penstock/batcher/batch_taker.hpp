// The batch rings as a worker sees them: take a batch, run it, complete it. One taker per worker thread; a worker's
// number is its own in its rings as long as it lives.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "penstock/batcher/row.hpp"
#include "penstock/batcher/scheduler.hpp"
#include "penstock/kernels/row_layout.hpp"

namespace penstock::batcher {

struct TakenBlock {
  std::uint64_t sequence = 0;
  std::uint32_t buffer = 0;
  std::uint32_t rows = 0;
  std::uint32_t attempt = 0;
};

// Where a row of a batch lies: rows of all lanes of a ring are numbered through.
struct BatchRow {
  std::uint32_t index = 0;
  std::uint32_t buffer = 0;
};

struct TakenBatch {
  std::uint32_t ring = 0;        // index into the taker's rings
  std::uint32_t lane = 0;        // whose rows lead the batch; others may fill it up
  std::uint32_t rows = 0;        // that want an answer
  std::uint32_t run_rows = 0;    // as many as the arrays have: padded to an allowed size
  std::uint32_t fixed_rows = 0;  // of every run of reproducible rows, also in parts or singly; 0: any
  std::uint32_t attempt = 0;     // 0: first run; n: n workers died with it
  bool singly = false;           // run row by row, mark_running() before each: earlier attempts died
  bool in_place = false;         // the arrays are rows of the ring itself, no copies
  SealReason reason = SealReason::kIdle;
  std::vector<TakenBlock> blocks;  // what is completed together
  std::vector<BatchRow> row;       // one per row that wants an answer
};

struct TakerOptions {
  SchedulingPolicy policy = SchedulingPolicy::kDeadline;
  bool quarantine = false;  // takes nothing but blocks that have killed two workers
};

class BatchTaker {
 public:
  // Maps the regions of `ring_fds` (kept open by the caller no longer than this call) and validates their headers; the
  // first one is the group's. `loop_event_fds[i]` wakes I/O loop i; duplicated. Throws std::runtime_error for a region
  // of another version or size.
  BatchTaker(std::span<const int> ring_fds, std::vector<int> loop_event_fds, std::uint32_t worker,
             const TakerOptions& options = {});
  BatchTaker(int ring_fd, std::vector<int> loop_event_fds, std::uint32_t worker, const TakerOptions& options = {})
      : BatchTaker(std::span(&ring_fd, 1), std::move(loop_event_fds), worker, options) {}
  ~BatchTaker();
  BatchTaker(const BatchTaker&) = delete;
  BatchTaker& operator=(const BatchTaker&) = delete;

  [[nodiscard]] std::uint32_t rings() const noexcept;
  [[nodiscard]] std::uint32_t max_batch_size(std::uint32_t ring = 0) const noexcept;
  [[nodiscard]] std::span<const std::uint32_t> batch_sizes(std::uint32_t ring = 0) const noexcept;
  [[nodiscard]] const ModelSchema& schema(std::uint32_t ring = 0) const noexcept;  // as the region's header declares it
  // The tensors of a lane's rows, how many rows it has, and the first of them.
  [[nodiscard]] const ModelSchema& lane_schema(std::uint32_t ring, std::uint32_t lane) const noexcept;
  [[nodiscard]] std::uint32_t lane_rows(std::uint32_t ring, std::uint32_t lane) const noexcept;
  [[nodiscard]] std::uint32_t lane_first_row(std::uint32_t ring, std::uint32_t lane) const noexcept;
  [[nodiscard]] bool uses_arena(std::uint32_t ring) const noexcept;
  // The whole of a ring's memory as it is mapped here, for a device that reads rows where they lie.
  [[nodiscard]] std::span<std::byte> region(std::uint32_t ring) const noexcept;
  [[nodiscard]] std::uint32_t copied_rows_max(
      std::uint32_t ring) const noexcept;  // room where rows are copied together

  // Waits until there is a batch to run, at most `timeout_ms` (-1: for ever, 0: not at all), or until a signal handler
  // of the thread has run. No GIL needed.
  [[nodiscard]] std::optional<TakenBatch> take(int timeout_ms) noexcept;

  // First of the run_rows rows of input `index`, contiguous at the tensor's bytes. Rows that do not lie side by side
  // are copied together into memory of the taker, overwritten after the next take(); padding repeats the first row.
  [[nodiscard]] const std::byte* input(const TakenBatch& batch, std::size_t index);
  // Where input `index` of each row lies in the region, for rows that nobody copies together: as many as `to` has room
  // for, those behind the batch's own repeat its first.
  void input_offsets(const TakenBatch& batch, std::size_t index, std::span<std::uint64_t> to) const noexcept;
  // The same for an output: what is written into memory of the taker is copied to its rows by complete().
  [[nodiscard]] std::byte* output(const TakenBatch& batch, std::size_t index);
  [[nodiscard]] RowMeta& meta(const TakenBatch& batch, std::uint32_t row) const noexcept;
  [[nodiscard]] Completion& completion(const TakenBatch& batch, std::uint32_t row) const noexcept;

  // Rows that already have their final word from an earlier attempt are skipped by a worker that runs singly.
  [[nodiscard]] bool is_completed(const TakenBatch& batch, std::uint32_t row) const noexcept;
  void mark_running(const TakenBatch& batch, std::uint32_t row) noexcept;
  void complete_row(const TakenBatch& batch, std::uint32_t row) noexcept;  // kFinal; outputs are in place
  void fail_row(const TakenBatch& batch, std::uint32_t row, RowError error, std::string_view detail) noexcept;
  // Says when the batch began to run, where that was not when it was taken: it waited for one before it on a device.
  void mark_started(const TakenBatch& batch, std::uint64_t now_ns) noexcept;
  // Says that what the batch takes tells nothing of the model's cost: it ran in parts, or nothing ran.
  void mark_unmeasured(const TakenBatch& batch) noexcept;
  // Publishes the batch: rows without a word of their own become kFinal. Wakes the loops that own rows and sleep. Takes
  // the batch back, whose memory serves a later one.
  void complete(TakenBatch batch) noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace penstock::batcher
