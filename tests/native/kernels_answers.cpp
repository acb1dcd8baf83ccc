// Answers: every lane against the scalar one, bit for bit, and what a plan is refused for.
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "check.hpp"
#include "penstock/kernels/answers.hpp"
#include "penstock/kernels/half.hpp"

namespace {

using namespace penstock;

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::array kOdd{0.0,   -0.0,   1.0,    -1.0,      2.5,        88.0,
                          -88.0, 708.0,  -708.0, -709.0,    1e300,      -1e300,
                          1e-9,  5e-324, 0.5,    kInfinity, -kInfinity, std::numeric_limits<double>::quiet_NaN()};

// All that a plan can give of some rows.
struct Given {
  explicit Given(const ClassPlan& plan, std::size_t rows)
      : label(rows, -9),
        reason(rows, -9),
        top_labels(rows * plan.top, -9),
        set(rows * plan.set_width, -9),
        set_size(rows, -9),
        labels(rows * plan.classes(), -9),
        count(rows, -9),
        confidence(rows, -9),
        probabilities(rows * plan.classes(), -9),
        top_scores(rows * plan.top, -9),
        abstained(rows, 9) {}

  [[nodiscard]] ClassResults results() {
    const auto reals = [](std::vector<double>& of) {
      return Reals{.to = reinterpret_cast<std::byte*>(of.data()), .wide = true};
    };
    return {.label = label.data(),
            .confidence = reals(confidence),
            .probabilities = reals(probabilities),
            .top_labels = top_labels.data(),
            .top_scores = reals(top_scores),
            .abstained = abstained.data(),
            .reason = reason.data(),
            .set = set.data(),
            .set_size = set_size.data(),
            .labels = labels.data(),
            .count = count.data()};
  }

  bool operator==(const Given& other) const {
    const auto same = [](const std::vector<double>& x, const std::vector<double>& y) {
      return x.size() == y.size() && (x.empty() || std::memcmp(x.data(), y.data(), x.size() * sizeof(double)) == 0);
    };
    return label == other.label && reason == other.reason && top_labels == other.top_labels && set == other.set &&
           set_size == other.set_size && labels == other.labels && count == other.count &&
           same(confidence, other.confidence) && same(probabilities, other.probabilities) &&
           same(top_scores, other.top_scores) && abstained == other.abstained;
  }

  std::vector<std::int32_t> label, reason, top_labels, set, set_size, labels, count;
  std::vector<double> confidence, probabilities, top_scores;
  std::vector<std::uint8_t> abstained;
};

Curve random_curve(std::mt19937_64& random) {
  std::uniform_real_distribution<double> share(0, 1);
  Curve curve;
  double x = -0.1;
  for (std::size_t i = 1 + random() % 6; i > 0; --i) {
    x += share(random) + 0.01;
    curve.x.push_back(x);
    curve.y.push_back(share(random));
  }
  return curve;
}

ClassPlan random_plan(std::mt19937_64& random) {
  std::uniform_real_distribution<double> share(0, 1);
  constexpr std::array kDTypes{DType::kFloat16, DType::kFloat32, DType::kFloat64};
  ClassPlan plan{.dtype = kDTypes[random() % kDTypes.size()],
                 .elements = 1 + static_cast<std::uint32_t>(random() % 12)};
  plan.scores = static_cast<Scores>(random() % 3);
  if (plan.scores == Scores::kSoftmax && plan.elements == 1) plan.scores = Scores::kSigmoid;
  plan.exclusive = plan.scores == Scores::kSoftmax ||
                   (plan.scores == Scores::kNone ? random() % 2 == 0 : plan.elements == 1 && random() % 2 == 0);
  const std::uint32_t classes = plan.classes();
  if (random() % 2 == 0) plan.temperature = 0.1 + 3 * share(random);
  const std::uint32_t maps = classes == 2 && plan.exclusive ? 1 : classes;
  if (random() % 3 == 0) {
    for (std::uint32_t i = 0; i < maps; ++i) plan.lines.push_back({8 * share(random) - 4, 2 * share(random) - 1});
  } else if (random() % 3 == 0) {
    for (std::uint32_t i = 0; i < maps; ++i) plan.curves.push_back(random_curve(random));
  }
  plan.confidence = static_cast<Confidence>(random() % 3);
  if (random() % 2 == 0) plan.thresholds.assign(classes, share(random));
  if (random() % 2 == 0 && (!plan.exclusive || classes == 2))
    plan.cuts.assign(plan.exclusive ? 1 : classes, share(random));
  plan.set = static_cast<SetRule>(random() % 3);
  plan.quantile = share(random);
  plan.set_width = static_cast<std::uint32_t>(random()) % (classes + 1);
  plan.top = static_cast<std::uint32_t>(random()) % (classes + 1);
  return plan;
}

std::vector<std::byte> random_scores(const ClassPlan& plan, std::size_t rows, bool odd, std::mt19937_64& random) {
  std::normal_distribution<double> logit(0, 4);
  std::uniform_real_distribution<double> share(0, 1);
  std::vector<std::byte> bytes;
  for (std::size_t i = 0; i < rows * plan.elements; ++i) {
    double x = plan.scores == Scores::kNone ? share(random) : logit(random);
    if (odd && random() % 8 == 0) x = kOdd[random() % kOdd.size()];
    const auto append = [&bytes](auto value) {
      const auto* const from = reinterpret_cast<const std::byte*>(&value);
      bytes.insert(bytes.end(), from, from + sizeof value);
    };
    if (plan.dtype == DType::kFloat16) append(to_half(x));
    if (plan.dtype == DType::kFloat32) append(static_cast<float>(x));
    if (plan.dtype == DType::kFloat64) append(x);
  }
  return bytes;
}

void lanes_give_the_same_bits() {
  std::mt19937_64 random(7);
  std::size_t answered = 0;
  for (int round = 0; round < 4000; ++round) {
    ClassPlan plan = random_plan(random);
    const std::size_t rows = random() % 20;
    const std::vector<std::byte> scores = random_scores(plan, rows, round % 4 == 0, random);
    ClassAnswer answer(plan);
    Given expected(plan, rows);
    const bool can = answer.run(Lane::kScalar, scores.data(), rows, expected.results());
    answered += can ? 1 : 0;
    for (const Lane lane : available_lanes()) {
      Given given(plan, rows);
      CHECK(answer.run(lane, scores.data(), rows, given.results()) == can);
      CHECK(given == expected);
    }
  }
  CHECK(answered > 2500);
}

// To two units of the last place, over all that can come.
void exponentials_are_close() {
  ClassAnswer answer({.dtype = DType::kFloat64, .elements = 1, .scores = Scores::kSigmoid, .exclusive = false});
  for (const Lane lane : available_lanes()) {
    for (int step = -1900; step <= 1900; ++step) {
      const double x = step * 0.37;
      double got = -1;
      ClassResults to;
      to.probabilities = {.to = reinterpret_cast<std::byte*>(&got), .wide = true};
      CHECK(answer.run(lane, reinterpret_cast<const std::byte*>(&x), 1, to));
      const double expected = x < 0 ? std::exp(x) / (1 + std::exp(x)) : 1 / (1 + std::exp(-x));
      CHECK(std::abs(got - expected) <= 4 * std::numeric_limits<double>::epsilon() * expected);
    }
  }
}

template <typename F>
bool refused(F make) {
  try {
    make();
    return false;
  } catch (const std::invalid_argument&) {
    return true;
  }
}

void nonsense_is_refused() {
  const auto with = [](auto change) {
    return refused([&] {
      ClassPlan plan{.elements = 3};
      change(plan);
      ClassAnswer{plan};
    });
  };
  CHECK(!with([](ClassPlan&) {}));
  CHECK(with([](ClassPlan& plan) { plan.elements = 0; }));
  CHECK(with([](ClassPlan& plan) { plan.elements = 1; }));
  CHECK(with([](ClassPlan& plan) { plan.dtype = DType::kInt32; }));
  CHECK(with([](ClassPlan& plan) { plan.scores = Scores::kSigmoid; }));
  CHECK(with([](ClassPlan& plan) { plan.exclusive = false; }));
  CHECK(with([](ClassPlan& plan) { plan.temperature = 0; }));
  CHECK(with([](ClassPlan& plan) { plan.lines.resize(2); }));
  CHECK(with([](ClassPlan& plan) { plan.curves = {{{0, 0}, {1, 1}}, {{0}, {0}}, {{0}, {0}}}; }));
  CHECK(with([](ClassPlan& plan) { plan.curves = {{{0}, {}}, {{0}, {0}}, {{0}, {0}}}; }));
  CHECK(with([](ClassPlan& plan) { plan.thresholds = {0.5}; }));
  CHECK(with([](ClassPlan& plan) { plan.cuts = {0.5}; }));
  CHECK(with([](ClassPlan& plan) { plan.top = 4; }));
  CHECK(with([](ClassPlan& plan) { plan.set_width = 4; }));
  CHECK(refused([] { check(NumberPlan{.elements = 2, .first = 1, .count = 2}); }));
  CHECK(refused([] { check(NumberPlan{.elements = 1, .count = 1, .least = 1, .most = 0}); }));
  CHECK(refused([] { check(NumberPlan{.dtype = DType::kBytes, .elements = 1, .count = 1}); }));
  CHECK(refused([] { check(NumberPlan{.elements = 4, .count = 4, .by_elements = 2}); }));
}

}  // namespace

int main() {
  lanes_give_the_same_bits();
  exponentials_are_close();
  nonsense_is_refused();
}
