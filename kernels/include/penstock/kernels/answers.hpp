// Answers: from what a model gives to what people take, for a whole batch at once.
//
// A classifier's scores become probabilities, a label, a confidence, the best labels, a set that holds the true one
// with a known probability; numbers go back to their unit. Labels are codes here: strings are their caller's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

#include "penstock/kernels/dtype.hpp"
#include "penstock/kernels/lane.hpp"

namespace penstock {

// What makes probabilities of what the model gives; kNone: it gives them.
enum class Scores : std::uint8_t { kNone, kSoftmax, kSigmoid };

// How sure an answer is, from 0 to 1.
enum class Confidence : std::uint8_t {
  kMaximum,  // the probability of its label
  kMargin,   // that less the largest of the others
  kEntropy,  // 1 - entropy / log(classes)
};

// Which labels a set holds: those with 1 - p at most the quantile (least ambiguous classifiers, Sadinle et al. 2019),
// or the most probable ones while their sum is at most the quantile (adaptive sets, Romano et al. 2020).
enum class SetRule : std::uint8_t { kNone, kLac, kAps };

// Platt (1999): 1 / (1 + exp(a x + b)).
struct PlattLine {
  double a = 0.0;
  double b = 0.0;
};

// Isotonic: straight lines between points, x ascending; beyond them the first and last y.
struct Curve {
  std::vector<double> x;
  std::vector<double> y;
};

// A row has `elements` scores, one for each class. A single one is that of the second of two exclusive classes, or the
// only one of classes that do not exclude each other.
struct ClassPlan {
  DType dtype = DType::kFloat32;  // float16, float32 or float64
  std::uint32_t elements = 0;
  Scores scores = Scores::kSoftmax;
  bool exclusive = true;
  double temperature = 1.0;        // scores are divided by it; with kNone their logarithms are
  std::vector<PlattLine> lines{};  // of each class behind `scores`, or of the second of two; either these or `curves`
  std::vector<Curve> curves{};
  Confidence confidence = Confidence::kMaximum;
  std::vector<double> thresholds{};  // by label: less confidence is an abstention; empty: none is
  std::vector<double> cuts{};        // by class: from which probability on it is given; of two exclusive ones the last
  SetRule set = SetRule::kNone;
  double quantile = 1.0;
  std::uint32_t set_width = 0;  // room for labels of a set
  std::uint32_t top = 0;

  [[nodiscard]] std::uint32_t classes() const noexcept { return elements == 1 && exclusive ? 2 : elements; }
};

// Floats of one array: float64 where `wide`, else float32. Null: not wanted.
struct Reals {
  std::byte* to = nullptr;
  bool wide = false;
};

// Where results go, null where they are not wanted. Codes of labels count from 0; classes() says none.
struct ClassResults {
  std::int32_t* label = nullptr;  // none: an abstention
  Reals confidence;
  Reals probabilities;                 // (rows, classes)
  std::int32_t* top_labels = nullptr;  // (rows, top), the most probable first; of equal ones the first
  Reals top_scores;                    // (rows, top)
  std::uint8_t* abstained = nullptr;
  std::int32_t* reason = nullptr;  // the label whose threshold was missed
  std::int32_t* set = nullptr;     // (rows, set_width), the most probable first
  std::int32_t* set_size = nullptr;
  std::int32_t* labels = nullptr;  // (rows, classes): those that reach their cuts
  std::int32_t* count = nullptr;   // how many do
};

// A plan that was checked and given room. Used by one thread at a time.
class ClassAnswer {
 public:
  // Throws std::invalid_argument for a plan that makes no sense.
  explicit ClassAnswer(ClassPlan plan);

  [[nodiscard]] const ClassPlan& plan() const noexcept { return plan_; }

  // `from` holds rows * elements scores. False: a row has a NaN, about which nothing can be said; results are
  // unfinished then.
  [[nodiscard]] bool run(Lane lane, const std::byte* from, std::size_t rows, const ClassResults& to) noexcept;

 private:
  struct alignas(64) Column {
    double rows[8];
  };

  void check() const;
  void load(const std::byte* from, std::size_t rows) noexcept;
  void prepare(double* scores, std::size_t count) const noexcept;
  void score(Lane lane) noexcept;
  void decide(std::size_t place, std::size_t row, double first, double second, std::uint32_t best,
              const ClassResults& to) const noexcept;
  void list(std::size_t place, std::size_t row, const ClassResults& to) noexcept;
  void cut(std::size_t place, std::size_t row, const ClassResults& to) const noexcept;

  [[nodiscard]] double at(std::size_t label, std::size_t place) const noexcept { return columns_[label].rows[place]; }
  // The columns that come from the model: of a single score the second.
  [[nodiscard]] std::size_t first_column() const noexcept { return plan_.classes() - plan_.elements; }
  [[nodiscard]] bool of_two() const noexcept { return plan_.exclusive && plan_.classes() == 2; }

  ClassPlan plan_;
  std::vector<Column> columns_;  // of eight rows, one for each class
  std::vector<std::uint32_t> order_;
  std::vector<double> row_;  // one, side by side
};

enum class NumberStepKind : std::uint8_t {
  kAffine,      // x * a + b
  kExp,         // exp(x) - a
  kYeoJohnson,  // undoes it, with lambda a
  kBoxCox,      // undoes it, with lambda a
};

struct NumberStep {
  NumberStepKind kind = NumberStepKind::kAffine;
  double a = 0.0;
  double b = 0.0;
};

// Elements [first, first + count) of a row.
struct NumberPlan {
  DType dtype = DType::kFloat32;  // any but strings
  std::uint32_t elements = 0;
  std::uint32_t first = 0;
  std::uint32_t count = 0;
  std::vector<NumberStep> steps{};
  double least = -std::numeric_limits<double>::infinity();  // what is below becomes this, and above
  double most = std::numeric_limits<double>::infinity();    // this; an interval's bounds, too
  std::int32_t decimals = -1;        // rounded to, half to even; the bounds of an interval outwards. -1: not at all
  double quantile = 0.0;             // the interval is so far to both sides,
  DType by_dtype = DType::kFloat32;  // or so many times what another array says,
  std::uint32_t by_elements = 0;     // which has `count` elements a row, or 1 for all; 0: there is none
  DType to = DType::kFloat32;        // whole numbers are rounded, and cut to what fits
};

// Results of (rows, count) elements of plan.to; null: not wanted.
struct NumberResults {
  std::byte* value = nullptr;
  std::byte* low = nullptr;
  std::byte* high = nullptr;
};

// Throws std::invalid_argument for a plan that makes no sense.
void check(const NumberPlan& plan);

// False: a NaN would have to be a whole number; results are unfinished then.
[[nodiscard]] bool answer_numbers(const NumberPlan& plan, const std::byte* from, const std::byte* by, std::size_t rows,
                                  const NumberResults& to) noexcept;

}  // namespace penstock
