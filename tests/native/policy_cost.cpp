// CostModel: interpolation and its inverse.
#include <limits>

#include "check.hpp"
#include "policy_fixture.hpp"

namespace {

using namespace penstock::batcher;
using namespace penstock::test;

void an_affine_curve_is_met_everywhere() {
  const CostModel cost = affine(2e6, 1e5);
  for (const std::uint32_t rows : {1U, 2U, 3U, 5U, 64U, 65U, 1000U, 4096U, 5000U, 100'000U}) {
    const double expected = 2e6 + 1e5 * rows;
    CHECK(std::abs(static_cast<double>(cost.mean_ns(rows)) - expected) < expected * 1e-6);
    CHECK(std::abs(static_cast<double>(cost.p99_ns(rows)) - expected * 1.03) < expected * 1e-6);
  }
  CHECK(cost.mean_ns(0) == 0);
}

void rows_within_is_the_inverse() {
  std::mt19937_64 random(1);
  for (int i = 0; i < 20'000; ++i) {
    const CostModel cost =
        affine(static_cast<double>(below(random, 10 * kMs)), static_cast<double>(1 + below(random, kMs)));
    const std::uint64_t ns = below(random, 100 * kMs);
    const std::uint32_t rows = cost.rows_within(ns);
    CHECK(rows == 0 || cost.p99_ns(rows) <= ns);
    CHECK(cost.p99_ns(rows + 1) > ns);
  }
}

void steps_and_flat_curves() {
  CostModel flat;
  flat.mean_ns_at.fill(5e6F);
  flat.p99_ns_at.fill(6e6F);
  CHECK(flat.rows_within(5 * kMs) == 0);
  CHECK(flat.rows_within(6 * kMs) == std::numeric_limits<std::uint32_t>::max());
  CHECK(flat.p99_ns(1) == flat.p99_ns(1'000'000));
  const CostModel unknown;
  CHECK(!unknown.is_known() && flat.is_known());
  CHECK(unknown.p99_ns(64) == 0);
  CHECK(unknown.rows_within(0) == std::numeric_limits<std::uint32_t>::max());
}

}  // namespace

int main() {
  an_affine_curve_is_met_everywhere();
  rows_within_is_the_inverse();
  steps_and_flat_curves();
}
