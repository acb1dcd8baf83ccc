// The batch ring of one model version, as the main process sees it: producers claim rows, publish them, collect the
// answers.
//
// The region is a sealed memfd. Workers attach the same descriptor through BatchTaker (batch_taker.hpp) and are not
// trusted: every word read back from the region is checked, and what the main process must be able to rely on (which
// request owns a row, how many rows it claimed) stays in its private memory. docs/adr/0002-batch-ring.md has the
// protocol and its proof, docs/adr/0009-batch-engine.md the lanes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "penstock/batcher/admission.hpp"
#include "penstock/batcher/cost_model.hpp"
#include "penstock/batcher/row.hpp"
#include "penstock/batcher/scheduler.hpp"
#include "penstock/kernels/row_layout.hpp"

namespace penstock::batcher {

struct RingConfig {
  ModelSchema schema;                       // tensors that vary in length at their longest
  std::uint32_t max_batch_size = 64;        // shrinks when 2 batches do not fit into queue_bytes; see max_batch_size()
  std::uint64_t queue_bytes = 64ull << 20;  // divided among the classes: half to normal, a sixth to each other one
  std::uint32_t max_queue_delay_us = 0;
  std::uint32_t loops = 1;  // I/O loops that will claim rows, at most 64
  bool rerun_on_worker_death = false;
  std::uint64_t first_block = 0;  // number of the first block: tests start where the word's sequence wraps
  std::uint32_t block_rows = 0;   // 0: max_batch_size / blocks_per_batch, 1 to 16
  // More where models share a device: a block of one must be shorter than what another one can wait.
  std::uint32_t blocks_per_batch = 16;
  std::uint64_t slo_ns = 0;                // latency objective; 0: none
  std::uint32_t weight = 100;              // share of the device against other models of the group
  std::vector<std::uint32_t> batch_sizes;  // sizes that the model may run, ascending, at most 16; empty: any
  std::uint32_t reproducible_batch_size = 1;
  // Length buckets, ascending, at most 16, the last one the longest: rows of a bucket are padded to its length. Empty:
  // no tensor varies.
  std::vector<std::uint32_t> lengths;
  std::uint32_t max_batch_tokens = 0;  // of a batch, its padding included; 0: only max_batch_size counts
  // The first ring of the same group, whose workers take from this ring, too. Null: this is the first.
  const class BatchRing* group = nullptr;
};

enum class ClaimStatus : std::uint8_t { kClaimed, kFull, kCorrupt };

// Rows [row, row + count) of block `sequence` of a lane. (lane, sequence, row) names a row for ever; a buffer index
// does not.
struct Claim {
  ClaimStatus status = ClaimStatus::kFull;
  std::uint32_t buffer = 0;  // of the ring: buffers of all lanes are numbered through
  std::uint32_t row = 0;
  std::uint32_t count = 0;
  std::uint64_t sequence = 0;
};

// A block whose worker has completed it. Views are valid until every row has been reported through handled(). All but
// the first three fields are what the worker says: for statistics only.
struct DoneBlock {
  std::uint64_t sequence = 0;
  std::uint32_t buffer = 0;
  std::uint32_t rows = 0;      // <= block_rows, whatever the region says
  std::uint64_t taken_ns = 0;  // CLOCK_MONOTONIC stamps
  std::uint64_t run_ns = 0;
  std::uint64_t done_ns = 0;
  std::uint32_t batch_rows = 0;  // rows that ran together, of this block and others
  std::uint32_t run_rows = 0;    // the same with padding
  std::uint32_t worker = 0;
  SealReason reason = SealReason::kIdle;
  bool leads = false;       // first block of its batch: a batch is counted by its leader
  bool unmeasured = false;  // what it took says nothing of what the model costs: it ran in parts, or not at all
};

struct Recovery {
  std::uint32_t blocks_requeued = 0;     // to run again on any worker
  std::uint32_t blocks_quarantined = 0;  // to run again in quarantine
  std::uint32_t blocks_failed = 0;
  std::uint32_t rows_failed = 0;
  bool corrupt = false;  // the region held an impossible word: the ring was closed
};

struct RingCounters {  // monotonic unless said otherwise
  std::uint64_t rows_claimed = 0;
  std::uint64_t claims_refused = 0;      // lane full
  std::uint64_t bell_rings = 0;          // wake-ups of a worker
  std::uint64_t batches_taken = 0;       // as the workers report it
  std::uint64_t partial_takes_held = 0;  // a partial block was not sealed because the next buffer was not free
  std::uint64_t lost_wakeups = 0;        // a wait that timed out and found work: must stay 0
  std::uint64_t rows_queued = 0;         // gauge: claimed and not yet in a worker's hands
};

class BatchRing {
 public:
  // Throws std::system_error when the memfd cannot be made, std::invalid_argument for a schema or settings no ring can
  // have.
  explicit BatchRing(const RingConfig& config);
  ~BatchRing();
  BatchRing(const BatchRing&) = delete;
  BatchRing& operator=(const BatchRing&) = delete;

  [[nodiscard]] int fd() const noexcept;  // owned by the ring; dup it to keep it
  [[nodiscard]] std::uint32_t max_batch_size() const noexcept;
  [[nodiscard]] const ModelSchema& schema() const noexcept;

  // --- lanes: one per class and length bucket ------------------------------------------------------------------------

  [[nodiscard]] std::uint32_t lanes() const noexcept;
  [[nodiscard]] std::uint32_t lane_of(RowClass row_class, std::uint32_t bucket = 0) const noexcept;
  [[nodiscard]] const LaneSettings& settings(std::uint32_t lane) const noexcept;
  // The tensors of a lane's rows: the schema with the lane's length where they vary.
  [[nodiscard]] const ModelSchema& lane_schema(std::uint32_t lane) const noexcept;
  [[nodiscard]] const std::vector<std::uint32_t>& lengths() const noexcept;
  [[nodiscard]] std::uint32_t buffers() const noexcept;  // of all lanes
  [[nodiscard]] std::uint32_t lane_of_buffer(std::uint32_t buffer) const noexcept;
  // Rows of all lanes are numbered through, for tables of the caller.
  [[nodiscard]] std::uint32_t rows() const noexcept;
  [[nodiscard]] std::uint32_t row_index(std::uint32_t buffer, std::uint32_t row) const noexcept;

  // --- producers: any I/O loop ---------------------------------------------------------------------------------------

  // Claims `count` neighbouring rows of the lane's open block, at most its block_rows. Between claim() and publish()
  // the caller copies and does nothing else: no system call, no allocation, no wait. After the first kCorrupt the
  // caller wakes the other loops.
  [[nodiscard]] Claim claim(std::uint32_t lane, std::uint32_t count = 1) noexcept;
  [[nodiscard]] std::byte* input(const Claim& claim, std::uint32_t k, std::size_t index) const noexcept;
  [[nodiscard]] RowMeta& meta(const Claim& claim, std::uint32_t k) const noexcept;
  // The rows' meta must be filled in: arrival_ns and deadline_ns are read here.
  void publish(const Claim& claim, std::uint32_t loop) noexcept;
  // Wakes sleeping workers if any row was published since; once per pass of the loop. True: a system call was made.
  bool ring_bell() noexcept;

  // What a row that is claimed now finds before it, of its own length bucket. A few loads per lane of the ring; the
  // workers' part is not trusted and kept within reason.
  [[nodiscard]] QueueLoad load(std::uint32_t lane, std::uint64_t now_ns) const noexcept;
  // What a batch of a bucket costs, as set_cost() was told last. One thread at a time.
  [[nodiscard]] CostModel cost(std::uint32_t bucket = 0) const noexcept;
  void set_cost(std::uint32_t bucket, const CostModel& cost) noexcept;

  // --- large rows: arena slots of schema().inputs.bytes() bytes, any thread ------------------------------------------

  // True when rows travel as descriptors: the producer fills a slot first (packed as the lane's schema says), then
  // claims and sets meta.span_*.
  [[nodiscard]] bool uses_arena() const noexcept;
  // A sixth of the slots is kept for interactive rows, and half of them for all that go before the batch class.
  [[nodiscard]] std::optional<std::uint32_t> acquire_slot(RowClass row_class = RowClass::kInteractive) noexcept;
  void release_slot(std::uint32_t slot) noexcept;
  [[nodiscard]] std::byte* slot(std::uint32_t slot) const noexcept;
  // Points the row at the slot. The slot is released by the caller when the row has been answered.
  void set_span(const Claim& claim, std::uint32_t k, std::uint32_t slot) const noexcept;

  // --- completion: the loop that claimed the rows --------------------------------------------------------------------

  // Next completed block that may hold rows of `loop`, or nothing. A loop is told of a block at most once, and surely
  // when it has rows in it. Of a closed ring it is told of all buffers in use, whose blocks may seem to have more
  // rows.
  [[nodiscard]] std::optional<DoneBlock> poll_done(std::uint32_t loop) noexcept;
  [[nodiscard]] bool has_done(std::uint32_t loop) const noexcept;  // cheap look without taking
  [[nodiscard]] const Completion& completion(const DoneBlock& block, std::uint32_t row) const noexcept;
  [[nodiscard]] const std::byte* output(const DoneBlock& block, std::uint32_t row, std::size_t index) const noexcept;
  // `rows` rows of the block have been answered (or dropped). The last one frees the buffer and wakes a worker that
  // waits for it.
  void handled(const DoneBlock& block, std::uint32_t rows) noexcept;
  // Marks a row whose client is gone. A hint to the worker: rows that nobody took yet are skipped.
  void cancel(const Claim& claim, std::uint32_t k) noexcept;

  // Sleep protocol of a loop, before it blocks in epoll_wait: announce, then look again. False: a block is done already
  // (and the announcement is withdrawn). Workers write the loop's eventfd only while it is announced.
  [[nodiscard]] bool prepare_wait(std::uint32_t loop) noexcept;
  void finish_wait(std::uint32_t loop) noexcept;

  // --- supervisor: any thread ----------------------------------------------------------------------------------------

  // `worker` (0..63) is dead (its pidfd said so) and touches the region no more. Its blocks are queued again, or failed
  // when the ring may not rerun. A block that has killed twice is left to a taker in quarantine, which runs row by row;
  // the row that runs when a third worker dies is the culprit and gets RowError::kCulprit. Loops must be woken by the
  // caller afterwards (blocks may be done now).
  Recovery recover(std::uint32_t worker) noexcept;
  // Blocks that wait for a quarantine or are in one.
  [[nodiscard]] std::uint32_t quarantined() const noexcept;
  // There will be no quarantine, and none is running: rows that wait for one get kWorkerDied. Loops must be woken by
  // the caller afterwards.
  Recovery fail_quarantined() noexcept;
  // Nothing will be taken any more: completes every claimed row with `error`, unless a worker has completed its block.
  // Later claims are kFull. Loops must be woken by the caller afterwards.
  void close(RowError error) noexcept;
  // By close(), or since the region held an impossible word: every loop that has rows here must look.
  [[nodiscard]] bool is_closed() const noexcept;

  [[nodiscard]] RingCounters counters() const noexcept;

 private:
  struct State;
  static std::shared_ptr<State> first_of(const BatchRing* group) noexcept;
  std::shared_ptr<State> state_;  // the other rings of a group keep the first one's
};

}  // namespace penstock::batcher
