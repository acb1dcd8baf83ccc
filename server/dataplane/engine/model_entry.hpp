// What the data plane keeps of one model version: its ring, its replies, its counters. Lives as long as any request to
// it.
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "codec/codec.hpp"
#include "codec/codec_oip.hpp"
#include "codec/record_plan.hpp"
#include "engine/arrival_rate.hpp"
#include "engine/cost_keeper.hpp"
#include "engine/stats.hpp"
#include "penstock/batcher/batch_ring.hpp"

namespace penstock::dataplane {

inline constexpr std::uint32_t kNoSlot = ~std::uint32_t{0};
inline constexpr std::uint32_t kNoPair = ~std::uint32_t{0};
inline constexpr std::uint32_t kNoPart = ~std::uint32_t{0};
inline constexpr std::uint32_t kNoFlight = ~std::uint32_t{0};
inline constexpr std::uint32_t kNobody = ~std::uint32_t{0};  // instead of a connection: the row is a shadow's

struct CacheAccount;

// Which request waits for a row. Private memory of the main process: workers cannot touch it. Written and read by the
// loop that claimed the row; other loops read only `owner`.
struct Ticket {
  std::uint64_t sequence = ~std::uint64_t{0};
  std::uint64_t arrival_ns = 0;
  std::uint32_t connection = 0;
  std::uint32_t generation = 0;
  std::uint32_t request = 0;
  std::uint32_t slot = 0;            // arena slot, or kNoSlot
  std::uint32_t row = 0;             // of the request
  std::uint32_t part = kNoPart;      // of its Rejoin, when it has one
  std::uint32_t pair = kNoPair;      // of MirrorPairs
  std::uint32_t flight = kNoFlight;  // of FlightPool: others share the answer
  std::atomic<std::uint32_t> owner{
      ~std::uint32_t{0}};  // loop; relaxed: the ring orders it, and a stale value is another loop's
};

class ModelEntry {
 public:
  // `group`: models of one name share workers; empty: it has its own.
  ModelEntry(std::uint32_t ring_id, std::string model_name, std::string version_name, const batcher::RingConfig& config,
             std::string group_name = {}, std::shared_ptr<CacheAccount> account = nullptr,
             std::shared_ptr<const RecordPlan> record_plan = nullptr);

  [[nodiscard]] Ticket& ticket(std::uint32_t buffer, std::uint32_t row) noexcept {
    return tickets_[ring.row_index(buffer, row)];
  }
  // Any loop, now and then: learns at which rate rows are asked for.
  void note_arrivals(std::uint64_t now_ns) noexcept;
  // Rows a second that do not go behind this class, refused ones included.
  [[nodiscard]] double arrivals_per_second(batcher::RowClass row_class) const noexcept;
  // The lane of a row of this class and length: the shortest length bucket that it fits into.
  [[nodiscard]] std::uint32_t lane_of(batcher::RowClass row_class, std::uint32_t length) const noexcept {
    return ring.lane_of(row_class, length == 0 ? 0 : bucket_of(length));
  }
  // Length buckets; 1 where nothing varies.
  [[nodiscard]] std::uint32_t buckets() const noexcept {
    return varies() ? static_cast<std::uint32_t>(ring.lengths().size()) : 1;
  }
  // Tensors of its rows vary in length.
  [[nodiscard]] bool varies() const noexcept { return !ring.lengths().empty(); }
  // No loop has a row of it, or means to claim one.
  [[nodiscard]] bool is_unused() const noexcept {
    return std::ranges::all_of(stats, [](const RingStats& loop) { return loop.rows_out.get() == 0; });
  }
  // Rows that a lane can hold at all.
  [[nodiscard]] std::uint32_t lane_rows(std::uint32_t lane) const noexcept { return lane_rows_[lane]; }

  const std::uint32_t id;
  const std::string model;
  const std::string version;
  const std::string group;
  const std::uint64_t slo_ns;  // 0: none
  batcher::BatchRing ring;
  const ReplyEncoder encoder;
  const InferReplyEncoder infer_encoder;
  std::uint64_t body_bytes_max = 0;
  CostKeeper costs;
  const std::shared_ptr<CacheAccount> cache;       // null: its answers are not kept
  const std::shared_ptr<const RecordPlan> record;  // what clients send; null: the tensors of the ring
  // That admission counts on, as the supervisor says; 0: as many as have the ring. Relaxed: a number, not a message.
  std::atomic<std::uint32_t> workers{0};
  std::atomic<bool> closed{false};  // a loop has seen it and told the others; relaxed: who is told looks at the ring
  std::vector<RingStats> stats;     // one per loop

 private:
  [[nodiscard]] std::uint32_t bucket_of(std::uint32_t length) const noexcept;

  std::unique_ptr<Ticket[]> tickets_;
  std::vector<std::uint32_t> lane_rows_;
  std::array<ArrivalRate, batcher::kRowClasses> arrivals_;
};

}  // namespace penstock::dataplane
