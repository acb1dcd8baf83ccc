// What a worker says of the batch that a block ran in, kept within reason: it feeds statistics, the cost model and
// receipts, and may hold anything.
#pragma once

#include <cstdint>
#include <string_view>

#include "penstock/batcher/batch_ring.hpp"

namespace penstock::dataplane {

struct BatchStamps {
  std::uint64_t taken_ns = 0;  // <= run_ns <= done_ns <= now
  std::uint64_t run_ns = 0;
  std::uint64_t done_ns = 0;
  std::uint32_t batch_rows = 0;
  std::uint32_t padding_rows = 0;
  std::uint32_t worker = 0;
  batcher::SealReason reason = batcher::SealReason::kIdle;
  bool unmeasured = false;  // its times say nothing of what the model costs
};

[[nodiscard]] BatchStamps stamps_of(const batcher::DoneBlock& block, std::uint64_t now_ns) noexcept;

// As receipts and metrics call it.
[[nodiscard]] std::string_view name_of(batcher::SealReason reason) noexcept;
[[nodiscard]] std::string_view name_of(batcher::RowClass row_class) noexcept;

}  // namespace penstock::dataplane
