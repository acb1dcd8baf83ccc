// shed_late(), padded_rows() and admission: against the plain definition, on random batches.
#include <algorithm>
#include <array>

#include "check.hpp"
#include "penstock/batcher/admission.hpp"
#include "policy_fixture.hpp"

namespace {

using namespace penstock::batcher;
using namespace penstock::test;

constexpr std::uint64_t kNow = 10 * kSecond;

// Fewest rows dropped from the front of the sorted deadlines so that the rest is in time together.
std::uint32_t reference(std::vector<std::uint64_t> deadlines, const LaneSettings& lane, const CostModel& cost) {
  std::ranges::sort(deadlines);
  const auto rows = static_cast<std::uint32_t>(deadlines.size());
  for (std::uint32_t i = 0; i < rows; ++i) {
    if (kNow + cost.p99_ns(padded_rows(lane.batch_sizes, rows - i)) <= deadlines[i]) return rows - i;
  }
  return 0;
}

void the_fewest_rows_are_shed() {
  std::mt19937_64 random(2);
  const std::array<std::uint32_t, 4> sizes{4, 16, 64, 128};
  const CostModel cost = affine(2e6, 1e5);
  for (int round = 0; round < 20'000; ++round) {
    LaneSettings lane;
    if (round % 2 == 0) lane.batch_sizes = sizes;
    std::vector<std::uint64_t> deadlines(1 + below(random, 128));
    for (std::uint64_t& deadline : deadlines) {
      deadline = below(random, 20) == 0 ? kNoDeadline : kNow - 2 * kMs + below(random, 20 * kMs);
    }
    if (round % 3 == 0) std::ranges::sort(deadlines);
    std::vector<std::uint8_t> shed(deadlines.size());
    const std::uint32_t staying = shed_late(deadlines, lane, cost, kNow, shed);
    CHECK(staying == reference(deadlines, lane, cost));
    CHECK(std::ranges::count(shed, 0) == staying);
    const std::uint64_t done_ns = kNow + cost.p99_ns(padded_rows(lane.batch_sizes, staying));
    const std::uint64_t one_more_ns = kNow + cost.p99_ns(padded_rows(lane.batch_sizes, staying + 1));
    for (std::size_t i = 0; i < deadlines.size(); ++i) {
      if (shed[i] == 0) CHECK(deadlines[i] >= done_ns);
      if (shed[i] == 1) CHECK(deadlines[i] < one_more_ns);  // it would be late
    }
  }
}

void without_deadlines_nothing_is_shed() {
  const std::array<std::uint64_t, 3> deadlines{kNoDeadline, kNoDeadline, kNoDeadline};
  std::array<std::uint8_t, 3> shed{1, 1, 1};
  CHECK(shed_late(deadlines, {}, affine(1e12, 1e12), kNow, shed) == 3);
  CHECK(std::ranges::count(shed, 0) == 3);
  CHECK(shed_late({}, {}, affine(1, 1), kNow, {}) == 0);
}

void sizes_pad_up() {
  const std::array<std::uint32_t, 3> sizes{4, 16, 64};
  CHECK(padded_rows(sizes, 1) == 4 && padded_rows(sizes, 4) == 4 && padded_rows(sizes, 17) == 64);
  CHECK(padded_rows(sizes, 65) == 65 && padded_rows({}, 5) == 5);
}

void predictions_follow_the_queue() {
  LaneSettings lane;
  lane.slo_ns = 20 * kMs;
  lane.batch_rows_max = 128;
  const CostModel cost = affine(2e6, 1e5);
  CHECK(predict_done_ns({}, lane, cost, kNow) == kNow + cost.p99_ns(1));
  CHECK(predict_done_ns({.free_at_ns = kNow + kMs}, lane, cost, kNow) == kNow + kMs + cost.p99_ns(1));
  CHECK(predict_done_ns({.rows_ahead = 9, .others_ns = kMs}, lane, cost, kNow) == kNow + kMs + cost.p99_ns(10));
  std::uint64_t before_ns = 0;
  for (std::uint64_t ahead = 0; ahead < 2000; ahead += 128) {
    const std::uint64_t done_ns = predict_done_ns({.rows_ahead = ahead}, lane, cost, kNow);
    CHECK(done_ns > before_ns && done_ns >= predict_done_ns({.rows_ahead = ahead, .workers = 4}, lane, cost, kNow));
    before_ns = done_ns;
  }
  CHECK(predict_done_ns({.rows_ahead = 1'000'000}, lane, CostModel{}, kNow) == kNow);  // nothing is known yet
}

void retries_are_told_in_whole_seconds() {
  CHECK(retry_after_s(kNow, kNow + 1) == 1 && retry_after_s(kNow, kNow) == 1);
  CHECK(retry_after_s(kNow + kMs, kNow) == 1 && retry_after_s(kNow + kSecond + 1, kNow) == 2);
  CHECK(retry_after_s(~std::uint64_t{0}, 0) == 3600);
}

}  // namespace

int main() {
  the_fewest_rows_are_shed();
  without_deadlines_nothing_is_shed();
  sizes_pad_up();
  predictions_follow_the_queue();
  retries_are_told_in_whole_seconds();
}
