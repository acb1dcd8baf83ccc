// The batch ring of one model version, as the main process sees it: producers claim rows, publish them, collect the
// answers.
//
// The region is a sealed memfd. Workers attach the same descriptor through BatchTaker (batch_taker.hpp) and are not
// trusted: every word read back from the region is checked, and what the main process must be able to rely on (which
// request owns a row, how many rows it claimed) stays in its private memory. docs/adr/0002-batch-ring.md has the
// protocol and its proof.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "penstock/batcher/row.hpp"
#include "penstock/kernels/row_layout.hpp"

namespace penstock::batcher {

struct RingConfig {
  ModelSchema schema;
  std::uint32_t max_batch_size = 64;        // shrinks when 2 batches do not fit into queue_bytes; see max_batch_size()
  std::uint64_t queue_bytes = 64ull << 20;  // rows = clamp(queue_bytes / row bytes, 2 * max_batch_size, 4096)
  std::uint32_t max_queue_delay_us = 0;
  std::uint32_t loops = 1;  // I/O loops that will claim rows, at most 64
  bool rerun_on_worker_death = false;
  std::uint64_t first_batch = 0;  // number of the first batch: tests start where the word's sequence wraps
};

enum class ClaimStatus : std::uint8_t { kClaimed, kFull, kCorrupt };

// Rows [row, row + count) of batch `sequence`. (sequence, row) names a row for ever; a buffer index does not.
struct Claim {
  ClaimStatus status = ClaimStatus::kFull;
  std::uint32_t buffer = 0;
  std::uint32_t row = 0;
  std::uint32_t count = 0;
  std::uint64_t sequence = 0;
};

// A batch whose worker has completed it. Views are valid until every row has been reported through handled().
struct DoneBatch {
  std::uint64_t sequence = 0;
  std::uint32_t buffer = 0;
  std::uint32_t rows = 0;      // <= max_batch_size, whatever the region says
  std::uint64_t taken_ns = 0;  // CLOCK_MONOTONIC stamps of the worker: for statistics only
  std::uint64_t run_ns = 0;
  std::uint64_t done_ns = 0;
};

struct Recovery {
  std::uint32_t batches_requeued = 0;
  std::uint32_t batches_failed = 0;
  std::uint32_t rows_failed = 0;
  bool corrupt = false;  // the region held an impossible word: the ring was closed
};

struct RingCounters {  // monotonic unless said otherwise
  std::uint64_t rows_claimed = 0;
  std::uint64_t claims_refused = 0;      // ring full
  std::uint64_t bell_rings = 0;          // wake-ups of a worker
  std::uint64_t batches_taken = 0;       // as the workers report it
  std::uint64_t partial_takes_held = 0;  // a partial batch was not sealed because the next buffer was not free
  std::uint64_t lost_wakeups = 0;        // a wait that timed out and found work: must stay 0
  std::uint64_t rows_queued = 0;         // gauge: claimed and not yet in a worker's hands
};

class BatchRing {
 public:
  // Throws std::system_error when the memfd cannot be made, std::invalid_argument for a schema no ring can hold.
  explicit BatchRing(const RingConfig& config);
  ~BatchRing();
  BatchRing(const BatchRing&) = delete;
  BatchRing& operator=(const BatchRing&) = delete;

  [[nodiscard]] int fd() const noexcept;  // owned by the ring; dup it to keep it
  [[nodiscard]] std::uint32_t max_batch_size() const noexcept;
  [[nodiscard]] std::uint32_t buffers() const noexcept;
  [[nodiscard]] const ModelSchema& schema() const noexcept;

  // --- producers: any I/O loop ---------------------------------------------------------------------------------------

  // Claims `count` neighbouring rows of the open batch. Between claim() and publish() the caller copies and does
  // nothing else: no system call, no allocation, no wait. After the first kCorrupt the caller wakes the other loops.
  [[nodiscard]] Claim claim(std::uint32_t count = 1) noexcept;
  [[nodiscard]] std::byte* input(const Claim& claim, std::uint32_t k, std::size_t index) const noexcept;
  [[nodiscard]] RowMeta& meta(const Claim& claim, std::uint32_t k) const noexcept;
  void publish(const Claim& claim, std::uint32_t loop) noexcept;
  // Wakes sleeping workers if any row was published since; once per pass of the loop. True: a system call was made.
  bool ring_bell() noexcept;

  // --- large rows: arena slots of schema().inputs.bytes() bytes, any thread ------------------------------------------

  // True when rows travel as descriptors: the producer fills a slot first, then claims and sets meta.span_*.
  [[nodiscard]] bool uses_arena() const noexcept;
  [[nodiscard]] std::optional<std::uint32_t> acquire_slot() noexcept;
  void release_slot(std::uint32_t slot) noexcept;
  [[nodiscard]] std::byte* slot(std::uint32_t slot) const noexcept;
  // Points the row at the slot. The slot is released by the caller when the row has been answered.
  void set_span(const Claim& claim, std::uint32_t k, std::uint32_t slot) const noexcept;

  // --- completion: the loop that claimed the rows --------------------------------------------------------------------

  // Next completed batch that may hold rows of `loop`, or nothing. A loop is told of a batch at most once, and surely
  // when it has rows in it. Of a closed ring it is told of all buffers in use, whose batches may seem to have more
  // rows.
  [[nodiscard]] std::optional<DoneBatch> poll_done(std::uint32_t loop) noexcept;
  [[nodiscard]] bool has_done(std::uint32_t loop) const noexcept;  // cheap look without taking
  [[nodiscard]] const Completion& completion(const DoneBatch& batch, std::uint32_t row) const noexcept;
  [[nodiscard]] const std::byte* output(const DoneBatch& batch, std::uint32_t row, std::size_t index) const noexcept;
  // `rows` rows of the batch have been answered (or dropped). The last one frees the buffer and wakes a worker that
  // waits for it.
  void handled(const DoneBatch& batch, std::uint32_t rows) noexcept;
  // Marks a row whose client is gone. A hint to the worker.
  void cancel(const Claim& claim, std::uint32_t k) noexcept;

  // Sleep protocol of a loop, before it blocks in epoll_wait: announce, then look again. False: a batch is done already
  // (and the announcement is withdrawn). Workers write the loop's eventfd only while it is announced.
  [[nodiscard]] bool prepare_wait(std::uint32_t loop) noexcept;
  void finish_wait(std::uint32_t loop) noexcept;

  // --- supervisor: any thread ----------------------------------------------------------------------------------------

  // `worker` (0..63) is dead (its pidfd said so) and touches the region no more. Its batches are queued again, or
  // failed when the ring may not rerun. A batch that has killed twice is run row by row; the row that runs when a third
  // worker dies is the culprit and gets RowError::kCulprit. Loops must be woken by the caller afterwards (batches may
  // be done now).
  Recovery recover(std::uint32_t worker) noexcept;
  // Nothing will be taken any more: completes every claimed row with `error`, unless a worker has completed its batch.
  // Later claims are kFull. Loops must be woken by the caller afterwards.
  void close(RowError error) noexcept;

  [[nodiscard]] RingCounters counters() const noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace penstock::batcher
