// What the data plane keeps of one model version: its ring, its replies, its counters. Lives as long as any request to
// it.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "codec/codec.hpp"
#include "engine/stats.hpp"
#include "penstock/batcher/batch_ring.hpp"

namespace penstock::dataplane {

// Which request waits for a row. Private memory of the main process: workers cannot touch it. Written and read by the
// loop that claimed the row; other loops read only `owner`.
struct Ticket {
  std::uint64_t sequence = ~std::uint64_t{0};
  std::uint64_t arrival_ns = 0;
  std::uint32_t connection = 0;
  std::uint32_t generation = 0;
  std::uint32_t request = 0;
  std::uint32_t slot = 0;  // arena slot, or kNoSlot
  std::atomic<std::uint32_t> owner{
      ~std::uint32_t{0}};  // loop; relaxed: the ring orders it, and a stale value is another loop's
};
inline constexpr std::uint32_t kNoSlot = ~std::uint32_t{0};

class ModelEntry {
 public:
  ModelEntry(std::uint32_t ring_id, std::string model_name, std::string version_name, const batcher::RingConfig& config)
      : id(ring_id),
        model(std::move(model_name)),
        version(std::move(version_name)),
        ring(config),
        encoder(model, version, ring.schema()),
        stats(config.loops),
        tickets_(std::make_unique<Ticket[]>(ring.rows())) {
    const RowLayout& inputs = ring.schema().inputs;
    // The longest honest JSON number is about 25 bytes; white space beyond that is on the client.
    std::uint64_t elements = 0;
    for (const TensorSpec& tensor : inputs.tensors()) elements += tensor.elements();
    body_bytes_max = elements * 32 + 64 * 1024;
  }

  [[nodiscard]] Ticket& ticket(std::uint32_t buffer, std::uint32_t row) noexcept {
    return tickets_[ring.row_index(buffer, row)];
  }

  const std::uint32_t id;
  const std::string model;
  const std::string version;
  batcher::BatchRing ring;
  const ReplyEncoder encoder;
  std::uint64_t body_bytes_max = 0;
  std::vector<RingStats> stats;  // one per loop

 private:
  std::unique_ptr<Ticket[]> tickets_;
};

}  // namespace penstock::dataplane
