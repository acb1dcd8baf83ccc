// What a taker keeps in its own memory.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "penstock/batcher/batch_taker.hpp"
#include "penstock/batcher/spinner.hpp"
#include "taker_ring.hpp"

namespace penstock::batcher {

// A copy of a descriptor, closed with its owner.
class Descriptor {
 public:
  explicit Descriptor(int fd);  // duplicates; throws std::system_error
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : fd_(other.fd_) { other.fd_ = -1; }
  Descriptor& operator=(Descriptor&&) = delete;
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;

  [[nodiscard]] int get() const noexcept { return fd_; }

 private:
  int fd_;
};

inline void count(std::atomic<std::uint64_t>& counter) noexcept {
  counter.store(counter.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);  // a statistic with one writer
}

// A lane among those of all rings.
struct LanePlace {
  std::uint32_t ring = 0;
  std::uint32_t lane = 0;
};

struct BatchTaker::State {
  State(std::span<const int> ring_fds, const std::vector<int>& loop_event_fds, std::uint32_t worker_id,
        const TakerOptions& taker_options);

  // Workers of all rings sleep in the first one.
  [[nodiscard]] RingHeader& sleepers() const noexcept { return rings.front()->header(); }

  // --- what to take (batch_taker.cpp)
  void attach() noexcept;
  // Looks at every lane; sets `held`.
  [[nodiscard]] Decision decide_now() noexcept;
  [[nodiscard]] std::optional<TakenBatch> grab(const Decision& decision) noexcept;
  [[nodiscard]] std::optional<TakenBatch> take_quarantined() noexcept;
  [[nodiscard]] bool any_quarantined() const noexcept;
  void take_lane(TakenBatch& batch, const LanePlace& place, std::uint32_t rows_max) noexcept;
  void take_queued(TakenBatch& batch, std::uint32_t ring) noexcept;
  bool take_word(TakenBatch& batch, std::uint64_t sequence, std::uint32_t buffer, std::uint64_t bits) noexcept;
  // Looks for rows a moment longer while requests come one or two at a time. True: there is a batch to take.
  [[nodiscard]] bool spin(const Decision& decision) noexcept;

  // --- sleeping (taker_sleep.cpp)
  void wake_another() noexcept;
  // Sleeps until somebody has news, until the decision's time or the deadline. False: the deadline passed, or a signal
  // came.
  [[nodiscard]] bool wait(std::uint64_t deadline_ns) noexcept;
  [[nodiscard]] bool is_lost() noexcept;

  // --- the batch in hand (taken_batch.cpp)
  // In steady state without an allocation.
  [[nodiscard]] TakenBatch fresh_batch(const LanePlace& place) noexcept;
  void give_back(TakenBatch&& batch) noexcept;
  // Collects rows, drops those that are not run, and fixes what the batch looks like. False: none is left.
  [[nodiscard]] bool settle(TakenBatch& batch, const Decision& decision) noexcept;
  // Waits until the blocks' rows are published and adds them to the batch.
  void collect_rows(TakenBatch& batch, std::size_t first_block) noexcept;
  void drop_rows(TakenBatch& batch) noexcept;
  void drop_late_rows(TakenBatch& batch, std::uint64_t now_ns) noexcept;
  void fail(std::uint32_t ring, std::uint32_t row_index, RowError error, std::string_view detail) noexcept;
  void stamp(const TakenBatch& batch, std::uint64_t run_ns) noexcept;
  // Blocks of which no row is left are answered before the others run.
  void complete_dropped_blocks(TakenBatch& batch) noexcept;
  // Says DONE and sets the hints. The loops that own rows of the block.
  [[nodiscard]] std::uint64_t complete_block(std::uint32_t ring, const TakenBlock& block) noexcept;
  void notify(std::uint32_t ring, std::uint32_t loop) noexcept;

  std::vector<std::unique_ptr<TakerRing>> rings;
  const std::uint32_t worker;
  const std::uint64_t bit;
  const TakerOptions options;
  std::vector<Descriptor> loop_events;
  Scheduler scheduler;
  std::vector<LanePlace> places;  // of the views
  std::vector<LaneView> views;
  bool attached = false;          // admission counts on this worker
  bool held = false;              // rows are held for want of a free buffer, as decide_now() saw it last
  std::uint64_t taken_ns = 0;     // of the batch in hand
  std::uint64_t run_last_ns = 0;  // when a batch was run last
  std::uint32_t rows_last = 0;    // of the batch taken last
  Spinner spinner;
  std::vector<TakenBatch> spare;         // memory of earlier batches
  std::vector<std::uint64_t> deadlines;  // of the rows in hand
  std::vector<std::uint8_t> dropped;
};

}  // namespace penstock::batcher
