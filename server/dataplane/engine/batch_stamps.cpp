#include "engine/batch_stamps.hpp"

#include <algorithm>
#include <array>

namespace penstock::dataplane {
namespace {

constexpr std::uint32_t kBatchRowsMax = 4096;  // no ring has larger batches
constexpr std::uint32_t kWorkersMax = 64;

constexpr std::array<std::string_view, batcher::kSealReasons> kReasonNames{"idle",  "full",     "deadline",
                                                                           "delay", "requeued", "reproducible"};
constexpr std::array<std::string_view, batcher::kRowClasses> kClassNames{"interactive", "normal", "batch",
                                                                         "reproducible"};

}  // namespace

BatchStamps stamps_of(const batcher::DoneBlock& block, std::uint64_t now_ns) noexcept {
  BatchStamps stamps;
  stamps.done_ns = std::min(block.done_ns, now_ns);
  stamps.run_ns = std::min(block.run_ns, stamps.done_ns);
  stamps.taken_ns = std::min(block.taken_ns, stamps.run_ns);
  stamps.batch_rows = std::clamp(block.batch_rows, block.rows, kBatchRowsMax);
  const std::uint32_t run_rows = std::clamp(block.run_rows, stamps.batch_rows, kBatchRowsMax);
  stamps.padding_rows = run_rows - stamps.batch_rows;
  stamps.worker = block.worker % kWorkersMax;
  stamps.unmeasured = block.unmeasured;
  if (static_cast<std::uint8_t>(block.reason) < batcher::kSealReasons) stamps.reason = block.reason;
  return stamps;
}

std::string_view name_of(batcher::SealReason reason) noexcept { return kReasonNames[static_cast<std::size_t>(reason)]; }

std::string_view name_of(batcher::RowClass row_class) noexcept {
  return kClassNames[static_cast<std::size_t>(row_class)];
}

}  // namespace penstock::dataplane
