// Two model versions on the same traffic: a share of the rows of one ring is claimed in another one, too, and what
// comes out of both is compared. The other ring, the shadow, answers nobody: when it is slow, full, dead or damaged,
// rows are not compared, and that is all.
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "engine/model_entry.hpp"
#include "engine/stats.hpp"
#include "penstock/batcher/batch_ring.hpp"
#include "penstock/kernels/row_layout.hpp"

namespace penstock::dataplane {

struct MirrorRules {
  double share = 1;  // of the rows, above 0 and at most 1
  // Floats are the same when |shadow - live| <= atol + rtol * |live|, or both are NaN; everything else when it is
  // equal.
  double rtol = 0;
  double atol = 0;
};

struct MirrorCounts {
  std::uint64_t mirrored = 0;   // rows that the shadow was given
  std::uint64_t compared = 0;   // of them
  std::uint64_t differing = 0;  // of those compared
  std::uint64_t failed = 0;     // rows that the live version answered, and for which the shadow had an error
  std::uint64_t dropped = 0;    // rows whose turn it was, and that neither were compared nor failed
  double max_abs_difference = 0;
};

// Shared by the loops; each writes its own counters.
class Mirror {
 public:
  // Throws std::invalid_argument for rules that make no sense, and for rings of different tensors.
  Mirror(const ModelEntry& live, const ModelEntry& shadow, const MirrorRules& rules);

  [[nodiscard]] std::uint32_t shadow() const noexcept { return shadow_; }  // its ring
  [[nodiscard]] const RowLayout& outputs() const noexcept { return outputs_; }
  // Any thread.
  [[nodiscard]] MirrorCounts counts() const noexcept;

  // --- the loop of that index ----------------------------------------------------------------------------------------

  // Whether the next row is to be mirrored: every 1 / share-th.
  [[nodiscard]] bool is_next(std::uint32_t loop) noexcept;
  // Whether is_next() will say so.
  [[nodiscard]] bool is_due(std::uint32_t loop) const noexcept;
  void note_mirrored(std::uint32_t loop) noexcept { loops_[loop].mirrored.add(); }
  void note_dropped(std::uint32_t loop) noexcept { loops_[loop].dropped.add(); }
  void note_failed(std::uint32_t loop) noexcept { loops_[loop].failed.add(); }
  // Rows of `length` where tensors vary, packed as outputs() says.
  void compare(std::uint32_t loop, const std::byte* live, const std::byte* shadow, std::uint32_t length) noexcept;

 private:
  struct alignas(64) LoopCounts {
    Counter seen;
    Counter mirrored;
    Counter compared;
    Counter differing;
    Counter failed;
    Counter dropped;
    std::atomic<double> max_abs_difference{0};  // relaxed: a statistic with one writer
  };

  const std::uint32_t shadow_;
  const MirrorRules rules_;
  const RowLayout outputs_;
  std::vector<LoopCounts> loops_;
};

inline constexpr std::uint64_t kMirroredBytesMax = 64 * 1024;  // of a row's outputs; what is larger is dropped

// The rows of one loop that are out in both rings, or back from one. Bounded: when all places are taken, further rows
// are dropped.
class MirrorPairs {
 public:
  enum class Side : std::uint8_t { kLive, kShadow };
  enum class Outcome : std::uint8_t { kOut, kOk, kFailed, kDropped };

  explicit MirrorPairs(std::uint32_t loop) noexcept : loop_(loop) {}

  // A place for a row; kNoPair when there is none.
  [[nodiscard]] std::uint32_t begin(const std::shared_ptr<Mirror>& mirror, std::uint32_t length) noexcept;
  // The place is free again: the row did not get out to the shadow.
  void end(std::uint32_t pair) noexcept;
  // Row `row` of `block` is one side of the pair. Copies its outputs, if it is kOk.
  void settle(std::uint32_t pair, Side side, Outcome outcome, const batcher::BatchRing& ring,
              const batcher::DoneBlock& block, std::uint32_t row) noexcept;
  // Apart from settle(), so that no answer waits for a comparison. A bounded part of what there is to do.
  void compare_some() noexcept;
  [[nodiscard]] bool has_ready() const noexcept { return ready_count_ > 0; }

 private:
  static constexpr std::uint32_t kPairs = 128;

  struct Pair {
    std::shared_ptr<Mirror> mirror;  // null: the place is free
    std::array<Outcome, 2> outcomes{};
    std::uint32_t length = 0;
    std::unique_ptr<std::byte[]> outputs;  // the live version's, then the shadow's

    [[nodiscard]] Outcome& of(Side side) noexcept { return outcomes[static_cast<std::size_t>(side)]; }
  };

  const std::uint32_t loop_;
  std::array<Pair, kPairs> pairs_;
  std::array<std::uint32_t, kPairs> ready_{};  // of which both outputs are there
  std::uint32_t ready_count_ = 0;
  std::uint32_t next_ = 0;  // where the search for a free place begins
};

}  // namespace penstock::dataplane
