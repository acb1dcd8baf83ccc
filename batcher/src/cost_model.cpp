#include "penstock/batcher/cost_model.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>

namespace penstock::batcher {

namespace {

using Knots = std::array<float, kCostKnots>;

constexpr std::uint32_t kRowsMax = std::numeric_limits<std::uint32_t>::max();

// Between the knots below and above; past the last one on the line through the last two.
double at(const Knots& knots, std::uint32_t rows) noexcept {
  if (rows == 0) return 0;
  const auto below = std::min<std::size_t>(std::bit_width(rows) - 1U, kCostKnots - 2);
  const double start = static_cast<double>(1U << below);
  const double share = (static_cast<double>(rows) - start) / start;
  return knots[below] + (static_cast<double>(knots[below + 1]) - knots[below]) * share;
}

std::uint64_t rounded(double ns) noexcept { return static_cast<std::uint64_t>(std::llrint(ns)); }

}  // namespace

std::uint64_t CostModel::mean_ns(std::uint32_t rows) const noexcept { return rounded(at(mean_ns_at, rows)); }

std::uint64_t CostModel::p99_ns(std::uint32_t rows) const noexcept { return rounded(at(p99_ns_at, rows)); }

std::uint32_t CostModel::rows_within(std::uint64_t ns) const noexcept {
  if (!is_known()) return kRowsMax;
  const auto limit = static_cast<double>(ns);
  if (p99_ns_at.front() > limit) return 0;
  std::size_t below = 0;
  while (below + 2 < kCostKnots && p99_ns_at[below + 1] <= limit) ++below;
  const double start = static_cast<double>(1U << below);
  const double slope = (static_cast<double>(p99_ns_at[below + 1]) - p99_ns_at[below]) / start;
  if (slope <= 0) return kRowsMax;
  const double rows = start + (limit - p99_ns_at[below]) / slope;
  if (rows >= static_cast<double>(kRowsMax)) return kRowsMax;
  auto whole = static_cast<std::uint32_t>(rows);
  // The division may have rounded either way.
  if (whole < kRowsMax && p99_ns(whole + 1) <= ns) ++whole;
  while (whole > 0 && p99_ns(whole) > ns) --whole;
  return whole;
}

}  // namespace penstock::batcher
