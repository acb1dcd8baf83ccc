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

// The trusted half of a buffer. `published` and `handled` decide when it may be used again, whatever the batch word
// says.
struct alignas(kCacheLine) BufferRecord {
  std::atomic<std::uint64_t> sequence{0};   // the batch that may use the buffer now
  std::atomic<std::uint32_t> published{0};  // rows of that batch
  std::atomic<std::uint32_t> handled{0};    // rows of it that were answered
  std::atomic<bool> failed{false};          // the ring was closed before a worker completed it
};

// One I/O loop. Only that loop writes `rows_published` and `reported`.
struct alignas(kCacheLine) LoopRecord {
  std::atomic<std::uint64_t> rows_published{0};
  std::vector<std::uint64_t> reported;  // per buffer: 1 + the batch last reported to the loop; 0: none
  HintBitmap closed;                    // buffers to report because the ring was closed
};

// What was published since the bell was rung last.
inline constexpr std::uint32_t kBellRows = 1;
inline constexpr std::uint32_t kBellFull = 2;  // a batch became full

struct BatchRing::State {
  State(const RingConfig& config, const RingPlan& plan);

  [[nodiscard]] std::uint32_t buffer_of(std::uint64_t sequence) const noexcept {
    return static_cast<std::uint32_t>(sequence % map.plan().buffers);
  }
  // Acquire: pairs with whoever made the transition, so that what he wrote before is visible.
  [[nodiscard]] BatchWord word(std::uint32_t buffer) const noexcept {
    return unpack(map.control(buffer).word.load(std::memory_order_acquire));
  }

  // The open batch is full, taken or passed: moves `tail` on. False: no further batch may be opened now.
  bool advance_tail(std::uint64_t& tail) noexcept;
  [[nodiscard]] std::optional<DoneBatch> report(std::uint32_t loop, std::uint32_t buffer) noexcept;
  [[nodiscard]] std::optional<DoneBatch> report_closed(std::uint32_t loop, std::uint32_t buffer) noexcept;
  [[nodiscard]] std::optional<DoneBatch> describe(std::uint32_t loop, std::uint32_t buffer, std::uint64_t sequence,
                                                  std::uint32_t rows) noexcept;
  void recycle(const DoneBatch& batch) noexcept;
  bool wake_for_buffer(std::uint64_t next) noexcept;
  void close(RowError why) noexcept;
  // The region holds a word that the protocol cannot have written. Nothing in it is believed any more.
  void give_up() noexcept;

  bool fail_rows(std::uint32_t buffer, std::uint32_t row_count, RowError why, std::uint32_t* rows_failed) noexcept;
  void recover_batch(std::uint32_t buffer, const BatchWord& taken, Recovery& recovery) noexcept;
  void complete_for_worker(std::uint32_t buffer, const BatchWord& taken, Recovery& recovery) noexcept;
  void wake_all() noexcept;

  RingMap map;
  const std::uint64_t queue_delay_ns;
  const bool rerun;
  std::unique_ptr<BufferRecord[]> buffers;
  std::unique_ptr<LoopRecord[]> loops;
  SlotPool slots;
  Completion closing;  // what rows get that were open when the ring was closed

  // The open batch: a claim starts there. Only the main process claims, so it lives here.
  alignas(kCacheLine) std::atomic<std::uint64_t> tail;
  alignas(kCacheLine) std::atomic<std::uint32_t> bell{0};
  alignas(kCacheLine) std::atomic<bool> closed{false};
  std::atomic<bool> corrupt{false};
  std::atomic<bool> closing_claimed{false};  // somebody is closing the ring
  alignas(kCacheLine) std::atomic<std::uint64_t> claims_refused{0};
  std::atomic<std::uint64_t> bell_rings{0};
};

}  // namespace penstock::batcher
