#include "penstock/batcher/cost_learner.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <vector>

namespace penstock::batcher {

namespace {

constexpr double kAbsurdNs = 600e9;
constexpr double kAbsurdFactor = 8;          // a batch counts as at most so many times slower or faster than predicted
constexpr std::uint64_t kTrustedAfter = 20;  // batches
constexpr double kForgetting = 0.995;        // of the line: about the last 200 batches
constexpr double kGainMin = 0.05;            // of a knot: about the last 20 batches of its size
constexpr double kDeviationFirst = 0.03;     // assumed spread of a size seen once, relative
constexpr double kDeviationMin = 0.001;
constexpr double kQuantile = 0.99;
constexpr double kNormalDeviations = 2.92;  // 99th percentile of a normal distribution, in mean absolute deviations
constexpr double kSpreadMin = 0.05;         // of the sizes, relative: a line through less of them has no slope
constexpr double kErrorForgetting = 0.999;
constexpr double kOff = 0.2;
constexpr double kAlarmShare = 0.01;
constexpr double kCalmShare = 0.005;
constexpr double kJudgedMin = 100;    // batches before an alarm
constexpr double kAlarmMargin = 0.2;  // of the percentile above the mean while alarmed, at least
constexpr double kSeedClamp = 1.5;    // a run of warm-up counts as at most so many times the median of its size

// The knot below, and how far the way to the next one `rows` is.
struct Place {
  std::size_t below;
  double share;
};

Place place_of(std::uint32_t rows) noexcept {
  const auto below = std::min<std::size_t>(std::bit_width(rows) - 1U, kCostKnots - 2);
  const auto start = static_cast<double>(1U << below);
  return {below, std::min(1.0, (static_cast<double>(rows) - start) / start)};
}

double size_of(std::size_t knot) noexcept { return static_cast<double>(1U << knot); }

// Isotonic regression by pooling neighbours that decrease.
void make_rising(std::array<double, kCostKnots>& values, const std::array<double, kCostKnots>& weights) noexcept {
  struct Pool {
    double value;
    double weight;
    std::size_t size;
  };
  std::array<Pool, kCostKnots> pools{};
  std::size_t count = 0;
  for (std::size_t k = 0; k < kCostKnots; ++k) {
    Pool pool{values[k], weights[k], 1};
    while (count > 0 && pools[count - 1].value > pool.value) {
      const Pool& last = pools[--count];
      const double weight = last.weight + pool.weight;
      pool = {(last.value * last.weight + pool.value * pool.weight) / weight, weight, last.size + pool.size};
    }
    pools[count++] = pool;
  }
  std::size_t k = 0;
  for (std::size_t p = 0; p < count; ++p) {
    for (std::size_t i = 0; i < pools[p].size; ++i) values[k++] = pools[p].value;
  }
}

}  // namespace

double PredictionError::p95() const noexcept {
  double total = 0;
  for (const double count : batches) total += count;
  double seen = 0;
  for (std::size_t i = 0; i < kBuckets && total > 0; ++i) {
    seen += batches[i];
    if (seen >= 0.95 * total) return static_cast<double>(i + 1) / 100;
  }
  return 0;
}

void CostLearner::seed(std::span<const CostSample> samples) {
  std::vector<CostSample> sorted(samples.begin(), samples.end());
  std::ranges::sort(sorted, [](const CostSample& a, const CostSample& b) {
    return a.rows != b.rows ? a.rows < b.rows : a.ns < b.ns;
  });
  for (auto first = sorted.begin(); first != sorted.end();) {
    const auto last = std::find_if(first, sorted.end(), [&](const CostSample& s) { return s.rows != first->rows; });
    const std::ptrdiff_t middle = (last - first) / 2;
    const auto median = static_cast<double>(first[middle].ns);
    for (; first != last; ++first) {
      const double ns = std::clamp(static_cast<double>(first->ns), median / kSeedClamp, median * kSeedClamp);
      if (first->rows == 0 || ns < 1 || ns > kAbsurdNs) continue;
      learn_line(first->rows, ns);
      learn_knots(first->rows, ns);
    }
  }
}

void CostLearner::add(const CostSample& sample) noexcept {
  auto ns = static_cast<double>(sample.ns);
  if (sample.rows == 0 || ns < 1 || ns > kAbsurdNs) return;
  const double predicted_ns = mean_at(sample.rows);
  if (predicted_ns > 0) {
    judge(predicted_ns, ns);
    if (batches_ >= kTrustedAfter) ns = std::clamp(ns, predicted_ns / kAbsurdFactor, predicted_ns * kAbsurdFactor);
  }
  ++batches_;
  learn_line(sample.rows, ns);
  learn_knots(sample.rows, ns);
}

void CostLearner::judge(double predicted_ns, double ns) noexcept {
  const double error = std::abs(ns - predicted_ns) / predicted_ns;
  const auto last = static_cast<double>(PredictionError::kBuckets - 1);
  for (double& count : error_.batches) count *= kErrorForgetting;
  error_.batches[static_cast<std::size_t>(std::min(error * 100, last))] += 1;
  recent_ = recent_ * kErrorForgetting + 1;
  error_.off_share += ((error > kOff ? 1 : 0) - error_.off_share) / recent_;
  if (recent_ >= kJudgedMin && error_.off_share > kAlarmShare) alarmed_ = true;
  if (error_.off_share < kCalmShare) alarmed_ = false;
}

// Recursive least squares with forgetting, of relative errors: small batches count as much as large ones.
void CostLearner::learn_line(double rows, double ns) noexcept {
  const double weight = 1 / (ns * ns);
  const std::array<double, 5> sample{1, rows, rows * rows, ns, rows * ns};
  for (std::size_t i = 0; i < sums_.size(); ++i) sums_[i] = sums_[i] * kForgetting + weight * sample[i];
  const auto& [w, wb, wbb, wx, wbx] = sums_;
  const double mean_rows = wb / w;
  const double mean_ns = wx / w;
  const double spread = wbb / w - mean_rows * mean_rows;
  if (spread > kSpreadMin * kSpreadMin * mean_rows * mean_rows) {
    affine_.row_ns = (wbx / w - mean_rows * mean_ns) / spread;
  } else if (affine_.row_ns <= 0) {
    affine_.row_ns = mean_ns / (2 * mean_rows);  // half fixed, half by the row, until a second size tells
  }
  affine_.row_ns = std::clamp(affine_.row_ns, 0.0, mean_ns / mean_rows);
  affine_.fixed_ns = mean_ns - affine_.row_ns * mean_rows;
}

// Both knots around the size move so that the line between them comes nearer to the sample.
void CostLearner::learn_knots(std::uint32_t rows, double ns) noexcept {
  const Place place = place_of(rows);
  const std::array<double, 2> shares{1 - place.share, place.share};
  for (std::size_t i = 0; i < 2; ++i) {
    if (shares[i] > 0 && knots_[place.below + i].weight == 0) {
      // On the affine line through the sample.
      first_seen(place.below + i, std::max(ns / 2, ns + affine_.row_ns * (size_of(place.below + i) - rows)));
    }
  }
  const auto between = [&](double Knot::* field) {
    double value = 0;
    for (std::size_t i = 0; i < 2; ++i) value += shares[i] > 0 ? shares[i] * (knots_[place.below + i].*field) : 0;
    return value;
  };
  const double error_ns = ns - between(&Knot::mean_ns);
  const bool above = ns > between(&Knot::p99_ns);
  const double norm = shares[0] * shares[0] + shares[1] * shares[1];
  for (std::size_t i = 0; i < 2; ++i) {
    if (shares[i] <= 0) continue;
    Knot& knot = knots_[place.below + i];
    knot.weight += shares[i];
    const double gain = shares[i] / norm * std::max(kGainMin, std::min(1.0, 1 / knot.weight));
    knot.mean_ns = std::max(1.0, knot.mean_ns + gain * error_ns);
    knot.deviation_ns += kGainMin * shares[i] * (std::abs(error_ns) - knot.deviation_ns);
    knot.deviation_ns = std::max(knot.deviation_ns, kDeviationMin * knot.mean_ns);
    // Robbins and Monro: up by 99 parts when above, down by one part when not, balances where one in a hundred is
    // above.
    knot.p99_ns += shares[i] * knot.deviation_ns * (above ? kQuantile : kQuantile - 1);
    knot.p99_ns = std::max(knot.p99_ns, knot.mean_ns);
  }
}

void CostLearner::first_seen(std::size_t knot, double ns) noexcept {
  knots_[knot] = {.weight = 0,
                  .mean_ns = ns,
                  .deviation_ns = kDeviationFirst * ns,
                  .p99_ns = ns * (1 + kNormalDeviations * kDeviationFirst)};
}

double CostLearner::mean_at(std::uint32_t rows) const noexcept {
  const Place place = place_of(rows);
  const Knot& below = knots_[place.below];
  const Knot& above = knots_[place.below + 1];
  if (below.weight > 0 && (place.share <= 0 || above.weight > 0)) {
    return place.share <= 0 ? below.mean_ns : below.mean_ns + place.share * (above.mean_ns - below.mean_ns);
  }
  return affine_.fixed_ns + affine_.row_ns * rows;
}

CostModel CostLearner::publish() const noexcept {
  CostModel model;
  std::array<double, kCostKnots> mean{};
  std::array<double, kCostKnots> p99{};
  std::array<double, kCostKnots> weights{};
  std::size_t seen = kCostKnots;  // the last knot that was seen, at or below k
  for (std::size_t k = 0; k < kCostKnots; ++k) {
    if (knots_[k].weight > 0) seen = k;
    if (seen == kCostKnots) continue;
    const Knot& knot = knots_[seen];
    mean[k] = knot.mean_ns + affine_.row_ns * (size_of(k) - size_of(seen));
    p99[k] = mean[k] * knot.p99_ns / knot.mean_ns;
    // A knot that is a guess gives way to its neighbours.
    weights[k] = knots_[k].weight > 0 ? std::min(knot.weight, 1 / kGainMin) : 1e-3;
  }
  if (seen == kCostKnots) return model;
  const auto first = static_cast<std::size_t>(
      std::ranges::find_if(knots_, [](const Knot& knot) { return knot.weight > 0; }) - knots_.begin());
  for (std::size_t k = first; k-- > 0;) {
    mean[k] = std::max(mean[first] - affine_.row_ns * (size_of(first) - size_of(k)), mean[first] / size_of(first - k));
    p99[k] = mean[k] * p99[first] / mean[first];
    weights[k] = 1e-3;
  }
  make_rising(mean, weights);
  make_rising(p99, weights);
  for (std::size_t k = 0; k < kCostKnots; ++k) {
    const double margin = alarmed_ ? std::max(2 * (p99[k] - mean[k]), kAlarmMargin * mean[k]) : p99[k] - mean[k];
    model.mean_ns_at[k] = static_cast<float>(mean[k]);
    model.p99_ns_at[k] = static_cast<float>(mean[k] + std::max(0.0, margin));
    if (k > 0) model.p99_ns_at[k] = std::max(model.p99_ns_at[k], model.p99_ns_at[k - 1]);
  }
  return model;
}

}  // namespace penstock::batcher
