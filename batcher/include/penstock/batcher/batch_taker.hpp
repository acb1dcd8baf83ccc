// The batch ring as a worker sees it: take a batch, run it, complete it. One taker per worker thread; a worker's number
// is its own in the ring as long as it lives.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "penstock/batcher/row.hpp"
#include "penstock/kernels/row_layout.hpp"

namespace penstock::batcher {

struct TakenBatch {
  std::uint64_t sequence = 0;
  std::uint32_t buffer = 0;
  std::uint32_t rows = 0;
  std::uint32_t attempt = 0;  // 0: first run; n: n workers died with it
  bool singly = false;        // run row by row, mark_running() before each: an earlier attempt died twice
};

class BatchTaker {
 public:
  // Maps the region of `ring_fd` (kept open by the caller no longer than this call) and validates its header.
  // `loop_event_fds[i]` wakes I/O loop i; duplicated. Throws std::runtime_error for a region of another version or
  // size.
  BatchTaker(int ring_fd, std::vector<int> loop_event_fds, std::uint32_t worker);
  ~BatchTaker();
  BatchTaker(const BatchTaker&) = delete;
  BatchTaker& operator=(const BatchTaker&) = delete;

  [[nodiscard]] std::uint32_t max_batch_size() const noexcept;
  [[nodiscard]] std::uint32_t buffers() const noexcept;
  [[nodiscard]] const ModelSchema& schema() const noexcept;  // as the region's header declares it

  // Waits until there is a batch to run, at most `timeout_ms` (-1: for ever, 0: not at all), or until a signal handler
  // of the thread has run. No GIL needed.
  [[nodiscard]] std::optional<TakenBatch> take(int timeout_ms) noexcept;

  // First row of input `index`: rows are contiguous at the tensor's bytes (small rows). For rows in the arena this
  // gathers into memory of the taker, overwritten after the next take(); neighbouring slots are returned in place,
  // without a copy.
  [[nodiscard]] const std::byte* input(const TakenBatch& batch, std::size_t index);
  [[nodiscard]] std::byte* output(const TakenBatch& batch, std::size_t index) const noexcept;
  [[nodiscard]] RowMeta& meta(const TakenBatch& batch, std::uint32_t row) const noexcept;
  [[nodiscard]] Completion& completion(const TakenBatch& batch, std::uint32_t row) const noexcept;

  // Rows that already have their final word from an earlier attempt are skipped by a worker that runs singly.
  [[nodiscard]] bool is_completed(const TakenBatch& batch, std::uint32_t row) const noexcept;
  void mark_running(const TakenBatch& batch, std::uint32_t row) noexcept;
  void complete_row(const TakenBatch& batch, std::uint32_t row) noexcept;  // kFinal; outputs are in place
  void fail_row(const TakenBatch& batch, std::uint32_t row, RowError error, std::string_view detail) noexcept;
  // Publishes the batch: rows without a word of their own become kFinal. Wakes the loops that own rows and sleep.
  void complete(const TakenBatch& batch) noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace penstock::batcher
