// Answers of classifiers: what a plan is checked for, and how a batch goes through it.
#include "penstock/kernels/answers.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>

#include "answers_block.hpp"
#include "penstock/kernels/half.hpp"

namespace penstock {
namespace {

constexpr std::size_t kSortedFirst = 16;

[[nodiscard]] const AnswerFunctions& functions_of(Lane lane) noexcept {
#if PENSTOCK_LANE_AVX512
  if (lane == Lane::kAvx512) return avx512::kAnswers;
#endif
#if PENSTOCK_LANE_AVX2
  if (lane == Lane::kAvx2) return avx2::kAnswers;
#endif
  static_cast<void>(lane);
  return scalar::kAnswers;
}

[[noreturn]] void refuse(std::string_view why) { throw std::invalid_argument(std::string(why)); }

template <typename T>
[[nodiscard]] double element(const std::byte* from) noexcept {
  T value;
  std::memcpy(&value, from, sizeof value);
  if constexpr (std::is_same_v<T, Half>) {
    return static_cast<double>(to_float(value));
  } else {
    return static_cast<double>(value);
  }
}

// Transposes rows of `elements` into columns, which are written one after the other; what is left of a block is 0.
template <typename T>
void transpose(const std::byte* from, std::size_t rows, std::size_t elements, double* columns) noexcept {
  const std::size_t row_bytes = elements * sizeof(T);
  for (std::size_t k = 0; k < elements; ++k, from += sizeof(T), columns += kAnswerRows) {
    for (std::size_t row = 0; row < rows; ++row) columns[row] = element<T>(from + row * row_bytes);
    for (std::size_t row = rows; row < kAnswerRows; ++row) columns[row] = 0;
  }
}

void put(const Reals& reals, std::size_t at, double value) noexcept {
  if (reals.to == nullptr) return;
  if (reals.wide) {
    std::memcpy(reals.to + at * sizeof value, &value, sizeof value);
  } else {
    const auto narrow = static_cast<float>(value);
    std::memcpy(reals.to + at * sizeof narrow, &narrow, sizeof narrow);
  }
}

void put(std::int32_t* codes, std::size_t at, std::size_t code) noexcept {
  if (codes != nullptr) codes[at] = static_cast<std::int32_t>(code);
}

[[nodiscard]] double on(const Curve& curve, double x) noexcept {
  if (!(x > curve.x.front())) return std::isnan(x) ? x : curve.y.front();
  if (x >= curve.x.back()) return curve.y.back();
  const auto above = static_cast<std::size_t>(std::ranges::upper_bound(curve.x, x) - curve.x.begin());
  const double slope = (curve.y[above] - curve.y[above - 1]) / (curve.x[above] - curve.x[above - 1]);
  return slope * (x - curve.x[above - 1]) + curve.y[above - 1];
}

void check_curve(const Curve& curve) {
  if (curve.x.empty() || curve.x.size() != curve.y.size()) refuse("a curve has as many x as y, and one at least");
  const bool ascends = std::ranges::adjacent_find(curve.x, std::ranges::greater_equal{}) == curve.x.end();
  if (!ascends) refuse("the x of a curve must ascend");
}

}  // namespace

ClassAnswer::ClassAnswer(ClassPlan plan) : plan_(std::move(plan)) {
  check();
  columns_.resize(plan_.classes());
  order_.resize(plan_.classes());
  row_.resize(plan_.classes());
}

void ClassAnswer::check() const {
  const std::size_t classes = plan_.classes();
  if (plan_.elements == 0) refuse("a row needs one score at least");
  if (plan_.dtype != DType::kFloat16 && plan_.dtype != DType::kFloat32 && plan_.dtype != DType::kFloat64) {
    refuse("scores are float16, float32 or float64");
  }
  if (plan_.scores == Scores::kSoftmax && (plan_.elements == 1 || !plan_.exclusive)) {
    refuse("softmax is for several classes that exclude each other");
  }
  if (plan_.scores == Scores::kSigmoid && plan_.elements > 1 && plan_.exclusive) {
    refuse("several sigmoids do not exclude each other");
  }
  if (!(plan_.temperature > 0)) refuse("a temperature is more than 0");
  const std::size_t maps = plan_.lines.size() + plan_.curves.size();
  const bool fits = maps == 0 || maps == classes || (maps == 1 && of_two());
  if (!fits || (!plan_.lines.empty() && !plan_.curves.empty())) refuse("one line or curve for each class is needed");
  if (plan_.elements == 1 && maps > 1) refuse("a single score has one line or curve");
  std::ranges::for_each(plan_.curves, check_curve);
  if (!plan_.thresholds.empty() && plan_.thresholds.size() != classes) refuse("one threshold for each label is needed");
  const std::size_t cuts = plan_.exclusive ? (of_two() ? 1 : 0) : classes;
  if (!plan_.cuts.empty() && plan_.cuts.size() != cuts)
    refuse("cuts are for two classes, or those that do not exclude");
  if (plan_.top > classes || plan_.set_width > classes) refuse("there are not that many labels");
}

bool ClassAnswer::run(Lane lane, const std::byte* from, std::size_t rows, const ClassResults& to) noexcept {
  const std::size_t row_bytes = plan_.elements * size_of(plan_.dtype);
  const bool lists =
      to.top_labels != nullptr || to.top_scores.to != nullptr || to.set != nullptr || to.set_size != nullptr;
  Ranking ranking;
  for (std::size_t first = 0; first < rows; first += kAnswerRows) {
    const std::size_t some = std::min(kAnswerRows, rows - first);
    load(from + first * row_bytes, some);
    score(lane);
    functions_of(lane).rank(columns_.front().rows, columns_.size(), ranking);
    for (std::size_t place = 0; place < some; ++place) {
      if (ranking.missing[place] != 0) return false;
      const std::size_t row = first + place;
      if (to.probabilities.to != nullptr) {
        for (std::size_t k = 0; k < columns_.size(); ++k)
          put(to.probabilities, row * columns_.size() + k, at(k, place));
      }
      if (plan_.exclusive) {
        decide(place, row, ranking.first[place], ranking.second[place],
               static_cast<std::uint32_t>(ranking.place[place]), to);
      } else {
        cut(place, row, to);
      }
      if (lists) list(place, row, to);
    }
  }
  return true;
}

void ClassAnswer::load(const std::byte* from, std::size_t rows) noexcept {
  double* const columns = columns_[first_column()].rows;
  if (plan_.dtype == DType::kFloat32) {
    transpose<float>(from, rows, plan_.elements, columns);
  } else if (plan_.dtype == DType::kFloat64) {
    transpose<double>(from, rows, plan_.elements, columns);
  } else {
    transpose<Half>(from, rows, plan_.elements, columns);
  }
}

// A temperature is for logits: those of probabilities are their logarithms, for each class by itself the odds'.
void ClassAnswer::prepare(double* scores, std::size_t count) const noexcept {
  const bool odds = plan_.elements == 1 || !plan_.exclusive;
  for (std::size_t i = 0; i < count; ++i) {
    double x = scores[i];
    if (plan_.scores == Scores::kNone) x = odds ? std::log(x) - std::log1p(-x) : std::log(x);
    scores[i] = x / plan_.temperature;
  }
}

void ClassAnswer::score(Lane lane) noexcept {
  const AnswerFunctions& functions = functions_of(lane);
  double* const given = columns_[first_column()].rows;
  const std::size_t count = plan_.elements;
  const bool heated = plan_.temperature != 1.0;
  if (heated) prepare(given, count * kAnswerRows);
  if (plan_.scores != Scores::kNone || heated) {
    (plan_.exclusive && count > 1 ? functions.softmax : functions.sigmoid)(given, count);
  }
  const std::size_t maps = plan_.lines.size() + plan_.curves.size();
  for (std::size_t i = 0; i < maps; ++i) {
    double* const column = columns_[maps == 1 ? columns_.size() - 1 : i].rows;
    if (plan_.lines.empty()) {
      for (std::size_t row = 0; row < kAnswerRows; ++row) column[row] = on(plan_.curves[i], column[row]);
    } else {
      functions.platt(column, plan_.lines[i].a, plan_.lines[i].b);
    }
  }
  if (plan_.elements < columns_.size() || (maps == 1 && of_two())) {
    for (std::size_t row = 0; row < kAnswerRows; ++row) columns_[0].rows[row] = 1.0 - columns_[1].rows[row];
  } else if (maps > 1 && plan_.exclusive) {
    functions.normalize(columns_.front().rows, columns_.size());
  }
}

void ClassAnswer::decide(std::size_t place, std::size_t row, double first, double second, std::uint32_t best,
                         const ClassResults& to) const noexcept {
  const std::size_t classes = columns_.size();
  std::size_t label = best;
  if (!plan_.cuts.empty()) label = at(1, place) >= plan_.cuts.front() ? 1 : 0;
  double confidence = at(label, place);
  if (plan_.confidence == Confidence::kMargin && classes > 1) confidence -= label == best ? second : first;
  if (plan_.confidence == Confidence::kEntropy) {
    double entropy = 0;
    for (std::size_t k = 0; k < classes; ++k) {
      const double p = at(k, place);
      if (p > 0) entropy -= p * std::log(p);
    }
    confidence = classes > 1 ? std::max(0.0, 1.0 - entropy / std::log(static_cast<double>(classes))) : 1.0;
  }
  const bool abstains = !plan_.thresholds.empty() && !(confidence >= plan_.thresholds[label]);
  put(to.confidence, row, confidence);
  put(to.label, row, abstains ? classes : label);
  put(to.reason, row, abstains ? label : classes);
  if (to.abstained != nullptr) to.abstained[row] = abstains ? 1 : 0;
}

// The most probable labels are sorted piece by piece, until the list and the set are full: of a thousand few are asked
// for.
void ClassAnswer::list(std::size_t place, std::size_t row, const ClassResults& to) noexcept {
  const std::size_t classes = columns_.size();
  for (std::size_t k = 0; k < classes; ++k) row_[k] = at(k, place);
  const auto before = [this](std::uint32_t x, std::uint32_t y) {
    return row_[x] > row_[y] || (row_[x] == row_[y] && x < y);
  };
  std::iota(order_.begin(), order_.end(), 0U);
  auto sorted = order_.begin();
  bool belongs = plan_.set != SetRule::kNone;
  double sum = 0;
  std::size_t size = 0;
  for (std::size_t n = 0; n < classes && (n < plan_.top || belongs); ++n) {
    if (order_.begin() + static_cast<std::ptrdiff_t>(n) == sorted) {
      const auto end = order_.begin() + static_cast<std::ptrdiff_t>(std::min(classes, std::max(kSortedFirst, 2 * n)));
      std::partial_sort(sorted, end, order_.end(), before);
      sorted = end;
    }
    const std::uint32_t label = order_[n];
    const double p = row_[label];
    if (n < plan_.top) {
      put(to.top_labels, row * plan_.top + n, label);
      put(to.top_scores, row * plan_.top + n, p);
    }
    sum += p;
    belongs = belongs && (plan_.set == SetRule::kLac ? 1.0 - p : sum) <= plan_.quantile;
    if (belongs && size++ < plan_.set_width) put(to.set, row * plan_.set_width + size - 1, label);
  }
  put(to.set_size, row, size);
  for (; size < plan_.set_width; ++size) put(to.set, row * plan_.set_width + size, classes);
}

void ClassAnswer::cut(std::size_t place, std::size_t row, const ClassResults& to) const noexcept {
  const std::size_t classes = columns_.size();
  std::size_t count = 0;
  for (std::size_t k = 0; k < classes; ++k) {
    if (at(k, place) >= (plan_.cuts.empty() ? 0.5 : plan_.cuts[k])) put(to.labels, row * classes + count++, k);
  }
  put(to.count, row, count);
  for (; count < classes; ++count) put(to.labels, row * classes + count, classes);
}

}  // namespace penstock
