// What the main process knows about a ring beside the shared region. Private memory: no worker can touch it.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "hint_bitmap.hpp"
#include "penstock/batcher/batch_ring.hpp"
#include "ring_map.hpp"
#include "slot_pool.hpp"

namespace penstock::batcher {

// The trusted half of a buffer. `published` and `handled` decide when it may be used again, whatever the block word
// says.
struct alignas(kCacheLine) BufferRecord {
  std::atomic<std::uint64_t> sequence{0};   // the block that may use the buffer now
  std::atomic<std::uint32_t> published{0};  // rows of that block
  std::atomic<std::uint32_t> handled{0};    // rows of it that were answered
  std::atomic<bool> failed{false};          // the ring was closed before a worker completed it
};

// One I/O loop. Only that loop writes `rows_published` and `reported`.
struct alignas(kCacheLine) LoopRecord {
  std::atomic<std::uint64_t> rows_published{0};
  std::vector<std::uint64_t> reported;  // per buffer: 1 + the block last reported to the loop; 0: none
  HintBitmap closed;                    // buffers to report because the ring was closed
};

// The open block of a lane: a claim starts there. Only the main process claims, so it lives here.
struct alignas(kCacheLine) LaneRecord {
  std::atomic<std::uint64_t> tail{0};
};

struct BatchRing::State {
  State(const RingConfig& config, const RingPlan& plan, std::shared_ptr<State> first_of_group);

  // Where the workers of this ring sleep: the first ring of a group has the masks and futexes for all of it.
  [[nodiscard]] RingHeader& sleepers() const noexcept { return home ? home->map.header() : map.header(); }
  [[nodiscard]] std::uint32_t buffer_of(std::uint32_t lane, std::uint64_t sequence) const noexcept {
    const LanePlan& plan = map.plan().lanes[lane];
    return plan.first_buffer + static_cast<std::uint32_t>(sequence % plan.size.buffers);
  }
  // Acquire: pairs with whoever made the transition, so that what he wrote before is visible.
  [[nodiscard]] BlockWord word(std::uint32_t buffer) const noexcept {
    return unpack(map.control(buffer).word.load(std::memory_order_acquire));
  }
  [[nodiscard]] BlockWord word(std::uint32_t lane, std::uint64_t sequence) const noexcept {
    return word(buffer_of(lane, sequence));
  }

  // The open block is full, taken or passed: moves `tail` on. False: no further block may be opened now.
  bool advance_tail(std::uint32_t lane, std::uint64_t& tail) noexcept;
  [[nodiscard]] std::optional<DoneBlock> report(std::uint32_t loop, std::uint32_t buffer) noexcept;
  [[nodiscard]] std::optional<DoneBlock> report_closed(std::uint32_t loop, std::uint32_t buffer) noexcept;
  [[nodiscard]] std::optional<DoneBlock> describe(std::uint32_t loop, std::uint32_t buffer, std::uint64_t sequence,
                                                  std::uint32_t rows) noexcept;
  void recycle(const DoneBlock& block) noexcept;
  bool wake_for_buffer(std::uint32_t lane, std::uint64_t next) noexcept;
  // Whether a worker that waits for a buffer may take what was published in one of these lanes.
  [[nodiscard]] bool any_takeable(std::uint64_t lanes) const noexcept;
  [[nodiscard]] std::uint64_t rows_pending(std::uint32_t lane) const noexcept;
  void close(RowError why) noexcept;
  // The region holds a word that the protocol cannot have written. Nothing in it is believed any more.
  void give_up() noexcept;

  bool fail_rows(std::uint32_t buffer, std::uint32_t row_count, RowError why, std::uint32_t* rows_failed) noexcept;
  void recover_block(std::uint32_t buffer, const BlockWord& taken, Recovery& recovery) noexcept;
  void complete_for_worker(std::uint32_t buffer, const BlockWord& taken, Recovery& recovery) noexcept;
  void wake_all() noexcept;

  RingMap map;
  const std::shared_ptr<State> home;  // null: itself
  const RingSettings settings;
  const std::vector<LaneSettings> lane_settings;  // points into `settings`
  const bool rerun;
  std::unique_ptr<LaneRecord[]> lanes;
  std::unique_ptr<BufferRecord[]> buffers;
  std::unique_ptr<LoopRecord[]> loops;
  std::unique_ptr<SharedCost[]> costs;  // per bucket; the header has copies for the workers
  SlotPool slots;
  Completion closing;  // what rows get that were open when the ring was closed

  // What was published since the bell was rung last: lanes, a bit each; and whether a block became full.
  alignas(kCacheLine) std::atomic<std::uint64_t> bell_lanes{0};
  std::atomic<bool> bell_full{false};
  alignas(kCacheLine) std::atomic<bool> closed{false};
  std::atomic<bool> corrupt{false};
  std::atomic<bool> closing_claimed{false};  // somebody is closing the ring
  alignas(kCacheLine) std::atomic<std::uint64_t> claims_refused{0};
  std::atomic<std::uint64_t> bell_rings{0};
};

}  // namespace penstock::batcher
