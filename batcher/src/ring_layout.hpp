// The bytes of a ring's region: a header, one control block per buffer, the buffers, the arena. Offsets only, no
// pointers.
//
// Bump kRingVersion with every change here or in row.hpp; tests/native/ring_layout.cpp pins what version 1 looks like.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "batch_word.hpp"
#include "hint_bitmap.hpp"
#include "penstock/batcher/batch_ring.hpp"
#include "penstock/batcher/row.hpp"
#include "penstock/kernels/row_layout.hpp"

namespace penstock::batcher {

inline constexpr std::uint64_t kRingMagic = 0x676e69726b6f7473;  // "stokring"
inline constexpr std::uint32_t kRingVersion = 1;
inline constexpr std::uint32_t kLoopsMax = 64;
inline constexpr std::uint32_t kTensorsMax = 64;  // inputs, and outputs
inline constexpr std::uint64_t kRowBytesMax = std::uint64_t{1} << 32;
inline constexpr std::uint64_t kInPlaceBytesMax = 16 * 1024;  // packed inputs of a row; above, rows are arena slots
inline constexpr std::size_t kCacheLine = 64;
inline constexpr std::uint64_t kPageBytes = 4096;

static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free);

// A tensor of the schema, as the header declares it to workers.
struct TensorRecord {
  std::array<char, 128> name;
  std::uint32_t name_bytes;
  std::uint32_t dtype;
  std::uint32_t rank;
  std::array<std::uint32_t, kShapeRankMax> shape;
};
static_assert(sizeof(TensorRecord) == 164);

// Where a worker sleeps and what it counts. Its own lines: the waker's store must not meet the counters.
struct WorkerLines {
  alignas(kCacheLine)
      std::atomic<std::uint32_t> asleep;  // futex: 1 from the announcement until a waker or the worker ends it
  alignas(kCacheLine) std::atomic<std::uint64_t> batches_taken;
  std::atomic<std::uint64_t> partial_takes_held;
  std::atomic<std::uint64_t> lost_wakeups;
};
static_assert(sizeof(WorkerLines) == 2 * kCacheLine);

struct LoopLine {
  alignas(kCacheLine) std::atomic<std::uint32_t> waiting;  // the loop is about to block: write its eventfd
};
static_assert(sizeof(LoopLine) == kCacheLine);

struct RingHeader {
  // Written once by the main process, read once by each worker.
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t header_bytes;
  std::uint64_t region_bytes;
  std::uint32_t buffers;
  std::uint32_t rows_max;
  std::uint32_t loops;
  std::uint32_t inputs;
  std::uint32_t outputs;
  std::uint32_t reserved;
  std::uint64_t max_queue_delay_ns;
  std::array<TensorRecord, 2 * kTensorsMax> tensors;  // the inputs, then the outputs

  // The oldest batch not yet taken. Only a place to look first: whoever finds it behind moves it on.
  alignas(kCacheLine) std::atomic<std::uint64_t> head;
  // Sleeping workers, a bit each: for any row; or for a free buffer (or a full batch), because a partial batch is held.
  alignas(kCacheLine) std::atomic<std::uint64_t> waiting_for_rows;
  alignas(kCacheLine) std::atomic<std::uint64_t> waiting_for_buffer;
  HintBitmap queued;
  std::array<LoopLine, kLoopsMax> loop_lines;
  std::array<WorkerLines, kWorkersMax> workers;
};
static_assert(offsetof(RingHeader, waiting_for_rows) - offsetof(RingHeader, head) == kCacheLine);
static_assert(offsetof(RingHeader, waiting_for_buffer) - offsetof(RingHeader, waiting_for_rows) == kCacheLine);
static_assert(offsetof(RingHeader, queued) - offsetof(RingHeader, waiting_for_buffer) == kCacheLine);

// What the protocol knows about the batch in a buffer.
struct BufferControl {
  alignas(kCacheLine) std::atomic<std::uint64_t> word;  // BatchWord
  // Written by producers; read by the worker that waits for stragglers.
  alignas(kCacheLine) std::atomic<std::uint32_t> committed;  // rows published
  std::atomic<std::uint64_t> loops;                          // I/O loops that own rows of the batch, a bit each
  std::atomic<std::uint64_t> first_arrival_ns;  // of row 0; 0: not published yet, or no delay is configured
  // Written by the worker that holds the batch.
  alignas(kCacheLine) std::atomic<std::uint32_t> running;  // row + 1 that runs alone; 0: none
  std::atomic<std::uint64_t> taken_ns;
  std::atomic<std::uint64_t> run_ns;
  std::atomic<std::uint64_t> done_ns;
};
static_assert(sizeof(BufferControl) == 3 * kCacheLine);
static_assert(offsetof(BufferControl, committed) == kCacheLine && offsetof(BufferControl, running) == 2 * kCacheLine);

// Everything that follows from the schema and a few numbers. Both sides compute it; a worker compares it with the
// header.
struct RingPlan {
  ModelSchema schema;
  std::uint32_t buffers = 0;
  std::uint32_t rows_max = 0;
  std::uint32_t loops = 0;
  bool arena = false;

  std::uint64_t done_offset = 0;     // HintBitmap[loops]
  std::uint64_t control_offset = 0;  // BufferControl[buffers]
  std::uint64_t buffer_offset = 0;   // buffers of buffer_stride bytes
  std::uint64_t buffer_stride = 0;
  std::uint64_t completion_offset = 0;        // inside a buffer, behind RowMeta[rows_max]
  std::vector<std::uint64_t> input_offsets;   // inside a buffer; empty with an arena
  std::vector<std::uint64_t> output_offsets;  // inside a buffer
  std::uint64_t arena_offset = 0;
  std::uint64_t slot_stride = 0;
  std::uint32_t slots = 0;
  std::uint64_t region_bytes = 0;
};

// Throws std::invalid_argument for a schema no ring can hold.
void check_schema(const ModelSchema& schema);

// Rows a batch and buffers a ring, by the rule of RingConfig::queue_bytes.
struct RingSize {
  std::uint32_t rows_max = 1;
  std::uint32_t buffers = 2;
};
[[nodiscard]] RingSize size_ring(const RingConfig& config);

[[nodiscard]] RingPlan plan_ring(const ModelSchema& schema, const RingSize& size, std::uint32_t loops);

// Writes the immutable part of the header into zeroed memory.
void write_header(RingHeader& header, const RingPlan& plan, std::uint64_t max_queue_delay_ns);

// Reads a header back. Throws std::runtime_error for one of another version or size, or one that contradicts itself.
[[nodiscard]] RingPlan read_header(const std::byte* region, std::uint64_t region_bytes);

}  // namespace penstock::batcher
