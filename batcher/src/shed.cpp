// Which rows of a batch in hand are shed, and the size that it is padded to.
#include <algorithm>

#include "penstock/batcher/scheduler.hpp"

namespace penstock::batcher {

std::uint32_t padded_rows(std::span<const std::uint32_t> batch_sizes, std::uint32_t rows) noexcept {
  const auto size = std::ranges::lower_bound(batch_sizes, rows);
  return size == batch_sizes.end() ? rows : *size;
}

namespace {

std::uint64_t run_ns(const LaneSettings& lane, const CostModel& cost, std::uint32_t rows) noexcept {
  return cost.p99_ns(padded_rows(lane.batch_sizes, rows));
}

std::uint32_t rows_due_after(std::span<const std::uint64_t> deadlines_ns, std::uint64_t done_ns) noexcept {
  std::uint32_t rows = 0;
  for (const std::uint64_t deadline_ns : deadlines_ns) rows += deadline_ns >= done_ns ? 1 : 0;
  return rows;
}

}  // namespace

// The most rows m of which m are in time when m run: that many have a deadline after l(m). Fewer have one the larger m
// is, so bisection finds it, without sorting rows whose deadlines come in no order.
std::uint32_t shed_late(std::span<const std::uint64_t> deadlines_ns, const LaneSettings& lane, const CostModel& cost,
                        std::uint64_t now_ns, std::span<std::uint8_t> shed) noexcept {
  std::ranges::fill(shed, std::uint8_t{0});
  const auto rows = static_cast<std::uint32_t>(deadlines_ns.size());
  if (rows_due_after(deadlines_ns, now_ns + run_ns(lane, cost, rows)) == rows) return rows;
  std::uint32_t staying = 0;
  std::uint32_t too_many = rows;
  while (too_many - staying > 1) {
    const std::uint32_t middle = staying + (too_many - staying) / 2;
    const bool in_time = rows_due_after(deadlines_ns, now_ns + run_ns(lane, cost, middle)) >= middle;
    (in_time ? staying : too_many) = middle;
  }
  const std::uint64_t done_ns = now_ns + run_ns(lane, cost, staying);
  const std::uint64_t one_more_ns = now_ns + run_ns(lane, cost, staying + 1);
  // Rows that are in time only if another one goes instead: the first ones go, which have waited longest in vain.
  std::uint32_t excess = staying == 0 ? 0 : rows_due_after(deadlines_ns, done_ns) - staying;
  for (std::uint32_t i = 0; i < rows; ++i) {
    const bool displaced = excess > 0 && deadlines_ns[i] >= done_ns && deadlines_ns[i] < one_more_ns;
    if (displaced) --excess;
    shed[i] = staying == 0 || deadlines_ns[i] < done_ns || displaced ? 1 : 0;
  }
  return staying;
}

}  // namespace penstock::batcher
