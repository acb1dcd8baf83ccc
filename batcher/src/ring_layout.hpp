// The bytes of a ring's region: a header, one control block per buffer, the rows of all lanes, the arena. Offsets only,
// no pointers.
//
// Bump kRingVersion with every change here or in row.hpp; tests/native/ring_layout.cpp pins what this version looks
// like.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "block_word.hpp"
#include "hint_bitmap.hpp"
#include "penstock/batcher/batch_ring.hpp"
#include "penstock/batcher/row.hpp"
#include "penstock/kernels/row_layout.hpp"
#include "shared_cost.hpp"

namespace penstock::batcher {

inline constexpr std::uint64_t kRingMagic = 0x676e69726b6f7473;  // "stokring"
inline constexpr std::uint32_t kRingVersion = 3;
inline constexpr std::uint32_t kLoopsMax = 64;
inline constexpr std::uint32_t kTensorsMax = 64;  // inputs, and outputs
inline constexpr std::uint32_t kBucketsMax = 16;
inline constexpr std::uint32_t kLanesMax = kBucketsMax * kRowClasses;
inline constexpr std::uint32_t kBatchSizesMax = 16;
inline constexpr std::uint32_t kBlockRowsMax = 16;  // unless asked for; finer blocks cost more, coarser ones bind less
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
  std::uint32_t varies;
  std::uint32_t heap_bytes;
  std::array<std::uint32_t, kShapeRankMax> shape;
};
static_assert(sizeof(TensorRecord) == 172);

// How many rows a lane has, and how they are divided.
struct LaneSize {
  std::uint32_t block_rows = 1;
  std::uint32_t buffers = 2;  // of block_rows rows each
  std::uint32_t batch_rows_max = 1;
};

// Where a worker sleeps and what it counts. Its own lines: the waker's store must not meet the counters.
struct WorkerLines {
  alignas(kCacheLine)
      std::atomic<std::uint32_t> asleep;  // futex: 1 from the announcement until a waker or the worker ends it
  alignas(kCacheLine) std::atomic<std::uint64_t> batches_taken;
  std::atomic<std::uint64_t> partial_takes_held;
  std::atomic<std::uint64_t> lost_wakeups;
  std::atomic<std::uint64_t> busy_until_ns;  // when the batch in hand is expected to be done; 0: none is
};
static_assert(sizeof(WorkerLines) == 2 * kCacheLine);

struct LoopLine {
  alignas(kCacheLine) std::atomic<std::uint32_t> waiting;  // the loop is about to block: write its eventfd
};
static_assert(sizeof(LoopLine) == kCacheLine);

struct LaneLine {
  // The oldest block not yet taken. Only a place to look first: whoever finds it behind moves it on.
  alignas(kCacheLine) std::atomic<std::uint64_t> head;
};
static_assert(sizeof(LaneLine) == kCacheLine);

// What the model's settings say, as far as takers need them.
struct RingSettings {
  std::uint64_t queue_delay_ns;
  std::uint64_t slo_ns;
  std::uint32_t weight;
  std::uint32_t reproducible_batch_size;
  std::uint32_t batch_sizes;
  std::array<std::uint32_t, kBatchSizesMax> batch_size;
};

struct RingHeader {
  // Written once by the main process, read once by each worker.
  std::uint64_t magic;
  std::uint32_t version;
  std::uint32_t header_bytes;
  std::uint64_t region_bytes;
  std::uint32_t batch_rows_max;
  std::uint32_t loops;
  std::uint32_t slots;
  std::uint32_t inputs;
  std::uint32_t outputs;
  std::uint32_t buckets;
  std::array<std::uint32_t, kBucketsMax> lengths;  // 0: nothing varies
  std::array<LaneSize, kLanesMax> lane_sizes;
  RingSettings settings;
  std::array<TensorRecord, 2 * kTensorsMax> tensors;  // the inputs, then the outputs

  std::array<LaneLine, kLanesMax> lanes;
  // Of the group's first ring, where its workers sleep. A bit each: for any row; or for a free buffer (or a full
  // block), because a partial one is held.
  alignas(kCacheLine) std::atomic<std::uint64_t> waiting_for_rows;
  alignas(kCacheLine) std::atomic<std::uint64_t> waiting_for_buffer;
  alignas(kCacheLine) std::atomic<std::uint64_t> attached;  // workers that take batches here, a bit each
  HintBitmap queued;
  std::array<SharedCost, kBucketsMax> costs;
  std::array<LoopLine, kLoopsMax> loop_lines;
  std::array<WorkerLines, kWorkersMax> workers;
};
static_assert(offsetof(RingHeader, waiting_for_buffer) - offsetof(RingHeader, waiting_for_rows) == kCacheLine);
static_assert(offsetof(RingHeader, attached) - offsetof(RingHeader, waiting_for_buffer) == kCacheLine);
static_assert(offsetof(RingHeader, queued) - offsetof(RingHeader, attached) == kCacheLine);

// What the protocol knows about the block in a buffer.
struct BufferControl {
  alignas(kCacheLine) std::atomic<std::uint64_t> word;  // BlockWord
  // Written by producers; read by the worker that waits for stragglers.
  alignas(kCacheLine) std::atomic<std::uint32_t> committed;  // rows published
  std::atomic<std::uint32_t> cancelled;                      // rows of which the client is gone
  std::atomic<std::uint64_t> loops;                          // I/O loops that own rows of the block, a bit each
  std::atomic<std::uint64_t> first_arrival_ns;               // of row 0; 0: not published yet
  std::atomic<std::uint64_t> deadline_ns;                    // the earliest of its rows; 0: none has one
  // Written by the worker that holds the block.
  alignas(kCacheLine) std::atomic<std::uint32_t> running;  // row + 1 that runs alone; 0: none
  std::atomic<std::uint32_t> batch_rows;
  std::atomic<std::uint32_t> run_rows;
  std::atomic<std::uint8_t> worker;
  std::atomic<std::uint8_t> reason;
  std::atomic<std::uint8_t> leads;
  std::atomic<std::uint8_t> unmeasured;
  std::atomic<std::uint64_t> taken_ns;
  std::atomic<std::uint64_t> run_ns;
  std::atomic<std::uint64_t> done_ns;
};
static_assert(sizeof(BufferControl) == 3 * kCacheLine);
static_assert(offsetof(BufferControl, committed) == kCacheLine && offsetof(BufferControl, running) == 2 * kCacheLine);

// A lane's place in the region. Rows of a tensor lie side by side, so that neighbouring blocks are one array.
struct LanePlan {
  LaneSize size;
  ModelSchema schema;
  std::uint32_t bucket = 0;
  RowClass row_class = RowClass::kNormal;
  std::uint32_t first_buffer = 0;
  std::uint32_t first_row = 0;
  std::vector<std::uint64_t> input_offsets;  // in the region, of the lane's first row; empty with an arena
  std::vector<std::uint64_t> output_offsets;

  [[nodiscard]] std::uint32_t rows() const noexcept { return size.block_rows * size.buffers; }
};

// What determines a region. Both sides compute the plan from it; a worker compares it with the header.
struct RingSize {
  std::uint32_t batch_rows_max = 1;
  std::uint32_t slots = 0;
  std::vector<std::uint32_t> lengths;
  std::vector<LaneSize> lanes;  // kRowClasses per bucket
};

struct RingPlan {
  ModelSchema schema;
  RingSize size;
  std::uint32_t loops = 0;
  bool arena = false;
  std::uint32_t buffers = 0;
  std::uint32_t rows = 0;
  std::vector<LanePlan> lanes;
  std::vector<std::uint8_t> lane_of;     // by buffer
  std::vector<std::uint32_t> first_row;  // by buffer

  std::uint64_t done_offset = 0;        // HintBitmap[loops]
  std::uint64_t control_offset = 0;     // BufferControl[buffers]
  std::uint64_t meta_offset = 0;        // RowMeta[rows]
  std::uint64_t completion_offset = 0;  // Completion[rows]
  std::uint64_t arena_offset = 0;
  std::uint64_t slot_stride = 0;
  std::uint64_t region_bytes = 0;
};

// Throws std::invalid_argument for a schema or settings no ring can have.
void check_config(const RingConfig& config);

// Rows and blocks of every lane, by the rules of RingConfig.
[[nodiscard]] RingSize size_ring(const RingConfig& config);

[[nodiscard]] RingPlan plan_ring(const ModelSchema& schema, const RingSize& size, std::uint32_t loops);

[[nodiscard]] RingSettings settings_of(const RingConfig& config);

// Writes the immutable part of the header into zeroed memory.
void write_header(RingHeader& header, const RingPlan& plan, const RingSettings& settings);

// Reads a header back. Throws std::runtime_error for one of another version or size, or one that contradicts itself.
[[nodiscard]] RingPlan read_header(const std::byte* region, std::uint64_t region_bytes);

// What the scheduler is told about the lanes of a ring. The spans point into `settings`, which must outlive them.
[[nodiscard]] std::vector<LaneSettings> lane_settings(const RingPlan& plan, const RingSettings& settings,
                                                      std::uint32_t model);

}  // namespace penstock::batcher
