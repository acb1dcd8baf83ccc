#include "penstock/batcher/admission.hpp"

#include <algorithm>

#include "batch_plan.hpp"

namespace penstock::batcher {

namespace {

constexpr double kSecondNs = 1e9;
std::uint32_t rows_of_batch(const LaneSettings& lane, const CostModel& cost) noexcept {
  return lane.slo_ns > 0 ? balanced_rows(lane, cost, lane.slo_ns) : std::max(1U, lane.batch_rows_max);
}

}  // namespace

bool is_overloaded(const QueueLoad& load, const LaneSettings& lane, const CostModel& cost) noexcept {
  const std::uint32_t batch_rows = rows_of_batch(lane, cost);
  const auto batch_ns = static_cast<double>(cost.mean_ns(padded_rows(lane.batch_sizes, batch_rows)));
  const std::uint64_t rows = std::uint64_t{batch_rows} * std::max(1U, load.workers);
  return load.rows_per_second * batch_ns > static_cast<double>(rows) * kSecondNs;
}

std::uint64_t predict_done_ns(const QueueLoad& load, const LaneSettings& lane, const CostModel& cost,
                              std::uint64_t now_ns) noexcept {
  const std::uint64_t start_ns = std::max(now_ns, load.free_at_ns) + load.others_ns;
  if (!cost.is_known()) return start_ns;
  const std::uint32_t batch_rows = rows_of_batch(lane, cost);
  const std::uint64_t batch_ns = cost.mean_ns(padded_rows(lane.batch_sizes, batch_rows));
  const std::uint64_t workers = std::max(1U, load.workers);
  // Full batches that go first, spread over the workers; the row itself runs with what is left and what still comes.
  const std::uint64_t batches = load.rows_ahead / batch_rows;
  const std::uint64_t wait_ns = batches * batch_ns / workers;
  // Rows that come later run with this one, but takers see to it that they make no older row late. In overload they
  // take the place of older ones: a batch that could not be balanced any more is shed to size.
  const double coming = is_overloaded(load, lane, cost)
                            ? load.rows_per_second * static_cast<double>(start_ns + wait_ns - now_ns) / kSecondNs
                            : 0;
  const double together = static_cast<double>(load.rows_ahead % batch_rows) + 1 + coming;
  const auto rows = static_cast<std::uint32_t>(std::min(together, static_cast<double>(batch_rows)));
  return start_ns + wait_ns + cost.p99_ns(padded_rows(lane.batch_sizes, rows));
}

std::uint32_t retry_after_s(std::uint64_t predicted_ns, std::uint64_t deadline_ns) noexcept {
  constexpr std::uint64_t kSecond = 1'000'000'000;
  constexpr std::uint64_t kLongest = 3600;
  if (predicted_ns <= deadline_ns) return 1;
  const std::uint64_t late_ns = predicted_ns - deadline_ns;
  return static_cast<std::uint32_t>(
      std::clamp<std::uint64_t>(late_ns / kSecond + (late_ns % kSecond != 0 ? 1 : 0), 1, kLongest));
}

}  // namespace penstock::batcher
