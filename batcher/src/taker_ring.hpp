// One ring as a taker sees it: its lanes, and its rows when they are copied together.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "penstock/batcher/batch_taker.hpp"
#include "penstock/batcher/scheduler.hpp"
#include "ring_map.hpp"

namespace penstock::batcher {

// The oldest block of a lane that nobody has taken, if it has rows.
struct OpenBlock {
  std::uint64_t sequence = 0;
  std::uint32_t buffer = 0;
  std::uint64_t bits = 0;
  std::uint32_t rows = 0;
  bool takeable = false;  // full, passed, or with a free buffer behind it
};

// Rows of one tensor in memory of the taker.
struct CopiedRows {
  struct Free {
    void operator()(std::byte* memory) const noexcept;
  };
  std::unique_ptr<std::byte, Free> bytes;
};

class TakerRing {
 public:
  // Throws as BatchTaker's constructor.
  TakerRing(int fd, std::uint32_t model);
  TakerRing(const TakerRing&) = delete;
  TakerRing& operator=(const TakerRing&) = delete;

  [[nodiscard]] const RingPlan& plan() const noexcept { return map.plan(); }
  [[nodiscard]] RingHeader& header() const noexcept { return map.header(); }

  // The loads of words are sequentially consistent: after an announcement they must see what a producer, recycle() or
  // recovery made visible before it read the announcement (pick_waiting()).
  [[nodiscard]] std::optional<OpenBlock> oldest(std::uint32_t lane) noexcept;
  // Fills in what changes of the lane's view. True: rows are held for want of a free buffer.
  bool look(std::uint32_t lane, LaneView& view) noexcept;
  [[nodiscard]] std::uint32_t copied_rows_max() const noexcept;
  // Copies of the cost models, when they have changed.
  void refresh_costs() noexcept;

  [[nodiscard]] const std::byte* input(const TakenBatch& batch, std::size_t index);
  [[nodiscard]] std::byte* output(const TakenBatch& batch, std::size_t index);
  void input_offsets(const TakenBatch& batch, std::size_t index, std::span<std::uint64_t> to) const noexcept;
  // Copies a row's outputs to its place, when they were computed elsewhere.
  void scatter(const TakenBatch& batch, std::uint32_t row) noexcept;

  RingMap map;
  const RingSettings settings;
  const std::vector<LaneSettings> lanes;
  std::vector<CostModel> costs;  // per bucket

 private:
  [[nodiscard]] std::uint32_t slot_of(const BatchRow& row) const noexcept;
  [[nodiscard]] const std::byte* source(const BatchRow& row, std::size_t index) const noexcept;
  [[nodiscard]] bool neighbouring_slots(const TakenBatch& batch, std::uint64_t tensor_bytes) const noexcept;
  [[nodiscard]] std::byte* copied(std::vector<CopiedRows>& copies, const RowLayout& layout, std::size_t index);

  std::vector<std::uint32_t> cost_versions_;
  std::vector<CopiedRows> inputs_;
  std::vector<CopiedRows> outputs_;
  std::vector<const std::byte*> sources_;
};

}  // namespace penstock::batcher
