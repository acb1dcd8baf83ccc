// CostLearner: what it makes of honest, changing and hostile samples.
#include <array>
#include <cmath>
#include <limits>

#include "check.hpp"
#include "penstock/batcher/cost_learner.hpp"
#include "policy_fixture.hpp"

namespace {

using namespace penstock::batcher;
using namespace penstock::test;

constexpr double kSigma = 0.02;

class Device {
 public:
  Device(double fixed_ns, double row_ns) : fixed_ns_(fixed_ns), row_ns_(row_ns) {}
  [[nodiscard]] double mean_ns(std::uint32_t rows) const { return fixed_ns_ + row_ns_ * rows; }
  [[nodiscard]] CostSample run(std::uint32_t rows, double slower = 1) {
    return {rows, static_cast<std::uint64_t>(mean_ns(rows) * slower * std::exp(kSigma * normal_(random_)))};
  }
  std::uint32_t any_rows(std::uint32_t most) { return 1 + static_cast<std::uint32_t>(below(random_, most)); }

 private:
  double fixed_ns_;
  double row_ns_;
  std::mt19937_64 random_{3};
  std::normal_distribution<double> normal_;
};

double mean_ns(const CostLearner& learner, std::uint32_t rows) {
  return static_cast<double>(learner.publish().mean_ns(rows));
}

bool is_near(double a, double b, double share) { return std::abs(a - b) <= share * b; }

void is_sound(const CostModel& cost) {
  for (std::size_t k = 0; k < kCostKnots; ++k) {
    CHECK(std::isfinite(cost.mean_ns_at[k]) && cost.mean_ns_at[k] > 0 && cost.p99_ns_at[k] >= cost.mean_ns_at[k]);
    CHECK(k == 0 || (cost.mean_ns_at[k] >= cost.mean_ns_at[k - 1] && cost.p99_ns_at[k] >= cost.p99_ns_at[k - 1]));
  }
}

void warm_up_tells_all_sizes() {
  Device device(2e6, 1e5);
  CostLearner learner;
  CHECK(!learner.publish().is_known());
  std::vector<CostSample> samples;
  for (std::uint32_t rows = 1; rows <= 64; rows *= 2) {
    for (int i = 0; i < 5; ++i) samples.push_back(device.run(rows, i == 0 ? 10 : 1));  // the first run is slow
  }
  learner.seed(samples);
  is_sound(learner.publish());
  for (const std::uint32_t rows : {1U, 3U, 16U, 50U, 64U, 128U, 1000U}) {
    CHECK(is_near(mean_ns(learner, rows), device.mean_ns(rows), 0.25));
  }
  CHECK(learner.batches() == 0 && learner.error().p95() == 0);
}

void it_learns_mean_percentile_and_line() {
  Device device(2e6, 1e5);
  CostLearner learner;
  for (int i = 0; i < 20'000; ++i) learner.add(device.run(device.any_rows(100)));
  const CostModel cost = learner.publish();
  is_sound(cost);
  int above = 0;
  constexpr int kRuns = 20'000;
  for (int i = 0; i < kRuns; ++i) {
    const CostSample sample = device.run(device.any_rows(100));
    CHECK(is_near(static_cast<double>(cost.mean_ns(sample.rows)), device.mean_ns(sample.rows), 0.03));
    above += sample.ns > cost.p99_ns(sample.rows) ? 1 : 0;
  }
  CHECK(above > kRuns / 500 && above < kRuns / 40);  // one in a hundred, roughly
  CHECK(is_near(learner.affine().fixed_ns, 2e6, 0.05) && is_near(learner.affine().row_ns, 1e5, 0.05));
  CHECK(learner.error().p95() <= 0.06 && !learner.is_alarmed());
  CHECK(is_near(static_cast<double>(cost.mean_ns(4096)), device.mean_ns(4096), 0.2));  // never seen
}

void one_size_is_enough_to_begin_with() {
  Device device(2e6, 1e5);
  CostLearner learner;
  for (int i = 0; i < 2'000; ++i) learner.add(device.run(48));
  is_sound(learner.publish());
  CHECK(is_near(mean_ns(learner, 48), device.mean_ns(48), 0.02));
  CHECK(mean_ns(learner, 1) >= device.mean_ns(48) / 50 && mean_ns(learner, 96) > device.mean_ns(48));
}

void a_slower_device_is_noticed_and_followed() {
  Device device(2e6, 1e5);
  CostLearner learner;
  for (int i = 0; i < 5'000; ++i) learner.add(device.run(device.any_rows(64)));
  CHECK(!learner.is_alarmed());
  int batches = 0;
  for (; !learner.is_alarmed(); ++batches) learner.add(device.run(device.any_rows(64), 1.5));
  CHECK(batches < 30);
  const CostModel alarmed = learner.publish();
  CHECK(static_cast<double>(alarmed.p99_ns(32)) >= 1.19 * static_cast<double>(alarmed.mean_ns(32)));
  for (int i = 0; i < 10'000; ++i) learner.add(device.run(device.any_rows(64), 1.5));
  CHECK(!learner.is_alarmed());
  CHECK(is_near(mean_ns(learner, 32), 1.5 * device.mean_ns(32), 0.03));
}

void steps_are_learned() {
  CostLearner learner;
  std::mt19937_64 random(4);
  for (int i = 0; i < 20'000; ++i) {
    const auto rows = static_cast<std::uint32_t>(1 + below(random, 64));
    learner.add({rows, rows <= 32 ? kMs : 2 * kMs});
  }
  const CostModel cost = learner.publish();
  is_sound(cost);
  CHECK(is_near(static_cast<double>(cost.mean_ns(8)), 1e6, 0.05) &&
        is_near(static_cast<double>(cost.mean_ns(64)), 2e6, 0.15));
}

void lies_do_not_break_it() {
  std::mt19937_64 random(5);
  constexpr std::array<std::uint64_t, 8> kTimes{0, 1, 2, 1000, kMs, 599 * kSecond, ~std::uint64_t{0}, 1ULL << 63U};
  constexpr std::array<std::uint32_t, 7> kSizes{0, 1, 2, 63, 4096, 4097, std::numeric_limits<std::uint32_t>::max()};
  for (int round = 0; round < 200; ++round) {
    CostLearner learner;
    for (int i = 0; i < 300; ++i)
      learner.add({kSizes[below(random, kSizes.size())], kTimes[below(random, kTimes.size())]});
    if (learner.batches() > 0) is_sound(learner.publish());
  }
  Device device(2e6, 1e5);
  CostLearner learner;
  for (int i = 0; i < 1'000; ++i) learner.add(device.run(device.any_rows(64)));
  learner.add({32, 599 * kSecond});
  CHECK(mean_ns(learner, 32) < 2 * device.mean_ns(32));
}

}  // namespace

int main() {
  warm_up_tells_all_sizes();
  it_learns_mean_percentile_and_line();
  one_size_is_enough_to_begin_with();
  a_slower_device_is_noticed_and_followed();
  steps_are_learned();
  lies_do_not_break_it();
}
