#include "bindings_answers.hpp"

#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "penstock/kernels/answers.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock {
namespace {

using Points = std::pair<std::vector<double>, std::vector<double>>;
using StepTuple = std::tuple<std::string, double, double>;
// What a result is, which array it goes to, and the strings of its codes.
using ResultTuple = std::tuple<std::string, std::uint32_t, std::vector<nb::str>>;
using By = std::tuple<std::uint32_t, std::string, std::uint32_t>;

template <std::size_t N>
[[nodiscard]] std::size_t place_of(const std::array<std::string_view, N>& names, std::string_view name) {
  for (std::size_t i = 0; i < N; ++i) {
    if (names[i] == name) return i;
  }
  throw std::invalid_argument(std::string("unknown name ").append(name));
}

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr std::array<std::string_view, 3> kScores{"none", "softmax", "sigmoid"};
constexpr std::array<std::string_view, 3> kConfidences{"maximum", "margin", "entropy"};
constexpr std::array<std::string_view, 3> kSets{"", "lac", "aps"};
constexpr std::array<std::string_view, 4> kNumberSteps{"affine", "exp", "yeo_johnson", "box_cox"};

enum class What : std::uint8_t {
  kLabel,
  kConfidence,
  kProbabilities,
  kTopLabels,
  kTopScores,
  kAbstained,
  kReason,
  kSet,
  kSetSize,
  kLabels,
  kCount,
  kValue,
  kLow,
  kHigh
};
constexpr std::array<std::string_view, 14> kWhats{
    "label", "confidence", "probabilities", "top_labels", "top_scores", "abstained", "reason",
    "set",   "set_size",   "labels",        "count",      "value",      "low",       "high"};

[[nodiscard]] DType dtype_of(std::string_view name) {
  const std::optional<DType> dtype = dtype_from_name(name);
  if (!dtype) throw std::invalid_argument(std::string("unknown dtype ").append(name));
  return *dtype;
}

// The memory of an array for as long as a call takes. Of objects they are PyObject*.
class Memory {
 public:
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  Memory(Memory&& other) noexcept : buffer_(std::exchange(other.buffer_, Py_buffer{})), rows_(other.rows_) {}
  Memory& operator=(Memory&&) = delete;
  ~Memory() {
    if (buffer_.obj != nullptr) PyBuffer_Release(&buffer_);
  }

  void open(nb::handle array, bool writable) {
    const int flags = PyBUF_C_CONTIGUOUS | PyBUF_FORMAT | (writable ? PyBUF_WRITABLE : 0);
    if (PyObject_GetBuffer(array.ptr(), &buffer_, flags) != 0) throw nb::python_error();
    if (buffer_.ndim == 0) throw std::invalid_argument("an array has no rows");
    rows_ = static_cast<std::size_t>(buffer_.shape[0]);
  }

  [[nodiscard]] std::byte* data() const noexcept { return static_cast<std::byte*>(buffer_.buf); }
  [[nodiscard]] std::size_t rows() const noexcept { return rows_; }
  [[nodiscard]] bool of_objects() const noexcept { return std::string_view(buffer_.format) == "O"; }
  // Whether it has so many elements of this size.
  [[nodiscard]] bool holds(std::size_t elements, std::size_t size) const noexcept {
    return static_cast<std::size_t>(buffer_.itemsize) == size &&
           static_cast<std::size_t>(buffer_.len) == elements * size;
  }

 private:
  Py_buffer buffer_{};
  std::size_t rows_ = 0;  // the shape of bytes is inside the buffer itself, and does not move with it
};

struct Result {
  What what;
  std::uint32_t array;
  std::size_t elements;           // of a row
  std::size_t size;               // of an element
  std::vector<nb::object> texts;  // of codes
  std::vector<std::int32_t> codes;
};

struct ClassPart {
  std::uint32_t source;
  ClassAnswer answer;
  std::vector<Result> results;
};

struct NumberPart {
  std::uint32_t source;
  std::uint32_t by;
  NumberPlan plan;
  std::vector<Result> results;
};

[[nodiscard]] bool has_codes(What what) noexcept {
  return what == What::kLabel || what == What::kTopLabels || what == What::kReason || what == What::kSet ||
         what == What::kLabels;
}

// Codes come from the kernel, so that each has a string.
void write_texts(const Result& result, PyObject** to) {
  for (const std::int32_t code : result.codes) {
    PyObject* const before = *to;
    PyObject* const text = result.texts[static_cast<std::size_t>(code)].ptr();
    Py_INCREF(text);
    *to++ = text;
    Py_XDECREF(before);
  }
}

class PyAnswers {
 public:
  explicit PyAnswers(std::string_view lane) : lane_(lane.empty() ? active_lane() : choose_lane(lane)) {}
  PyAnswers(const PyAnswers&) = delete;
  PyAnswers& operator=(const PyAnswers&) = delete;
  PyAnswers(PyAnswers&&) = delete;
  PyAnswers& operator=(PyAnswers&&) = delete;
  ~PyAnswers() = default;

  void add_classes(std::uint32_t source, std::string_view dtype, std::uint32_t elements, std::string_view scores,
                   bool exclusive, double temperature, const std::vector<std::pair<double, double>>& lines,
                   std::vector<Points> curves, std::string_view confidence, std::vector<double> thresholds,
                   std::vector<double> cuts, std::string_view set, double quantile, std::uint32_t set_width,
                   std::uint32_t top, std::vector<ResultTuple> results) {
    ClassPlan plan{.dtype = dtype_of(dtype),
                   .elements = elements,
                   .scores = static_cast<Scores>(place_of(kScores, scores)),
                   .exclusive = exclusive,
                   .temperature = temperature,
                   .confidence = static_cast<Confidence>(place_of(kConfidences, confidence)),
                   .thresholds = std::move(thresholds),
                   .cuts = std::move(cuts),
                   .set = static_cast<SetRule>(place_of(kSets, set)),
                   .quantile = quantile,
                   .set_width = set_width,
                   .top = top};
    for (const auto& [a, b] : lines) plan.lines.push_back({a, b});
    for (Points& points : curves) plan.curves.push_back({std::move(points.first), std::move(points.second)});
    ClassPart part{.source = source, .answer = ClassAnswer(std::move(plan)), .results = {}};
    for (ResultTuple& result : results) part.results.push_back(class_result(part.answer.plan(), result));
    classes_.push_back(std::move(part));
  }

  void add_numbers(std::uint32_t source, std::string_view dtype, std::uint32_t elements, std::uint32_t first,
                   std::uint32_t count, const std::vector<StepTuple>& steps, std::pair<double, double> bounds,
                   std::int32_t decimals, double quantile, const std::optional<By>& by, std::string_view to,
                   const std::vector<ResultTuple>& results) {
    NumberPart part{.source = source,
                    .by = source,
                    .plan = {.dtype = dtype_of(dtype),
                             .elements = elements,
                             .first = first,
                             .count = count,
                             .least = bounds.first,
                             .most = bounds.second,
                             .decimals = decimals,
                             .quantile = quantile,
                             .to = dtype_of(to)},
                    .results = {}};
    for (const auto& [kind, a, b] : steps) {
      part.plan.steps.push_back({static_cast<NumberStepKind>(place_of(kNumberSteps, kind)), a, b});
    }
    if (by) {
      part.by = std::get<0>(*by);
      part.plan.by_dtype = dtype_of(std::get<1>(*by));
      part.plan.by_elements = std::get<2>(*by);
    }
    check(part.plan);
    for (const auto& [name, array, texts] : results) {
      const auto what = static_cast<What>(place_of(kWhats, name));
      if (what < What::kValue) throw std::invalid_argument("numbers have no " + name);
      part.results.push_back({what, array, count, size_of(part.plan.to), {}, {}});
    }
    numbers_.push_back(std::move(part));
  }

  // The number of an array with a NaN that nothing can be said about, or -1.
  [[nodiscard]] std::int64_t run(const nb::sequence& arrays, const nb::sequence& results) {
    open(arrays, from_, false);
    open(results, to_, true);
    std::int64_t missing = -1;
    for (ClassPart& part : classes_) {
      if (!run_classes(part)) missing = part.source;
    }
    for (const NumberPart& part : numbers_) {
      if (!run_numbers(part)) missing = part.source;
    }
    from_.clear();
    to_.clear();
    return missing;
  }

 private:
  [[nodiscard]] static Result class_result(const ClassPlan& plan, ResultTuple& tuple) {
    auto& [name, array, texts] = tuple;
    const auto what = static_cast<What>(place_of(kWhats, name));
    if (what >= What::kValue) throw std::invalid_argument("classes have no " + name);
    if (has_codes(what) != !texts.empty() || (has_codes(what) && texts.size() != plan.classes() + 1)) {
      throw std::invalid_argument("codes need a string for each class and one for none");
    }
    Result result{.what = what, .array = array, .elements = 1, .size = sizeof(PyObject*), .texts = {}, .codes = {}};
    for (nb::str& text : texts) result.texts.emplace_back(std::move(text));
    const bool wide = plan.dtype == DType::kFloat64;
    if (what == What::kProbabilities || what == What::kLabels) result.elements = plan.classes();
    if (what == What::kTopLabels || what == What::kTopScores) result.elements = plan.top;
    if (what == What::kSet) result.elements = plan.set_width;
    if (what == What::kConfidence || what == What::kProbabilities || what == What::kTopScores) {
      result.size = wide ? sizeof(double) : sizeof(float);
    }
    if (what == What::kSetSize || what == What::kCount) result.size = sizeof(std::int32_t);
    if (what == What::kAbstained) result.size = sizeof(std::uint8_t);
    return result;
  }

  static void open(const nb::sequence& arrays, std::vector<Memory>& memories, bool writable) {
    memories.clear();
    for (const nb::handle array : arrays) memories.emplace_back().open(array, writable);
  }

  [[nodiscard]] const Memory& source(std::uint32_t number, std::size_t elements, DType dtype) const {
    if (number >= from_.size()) throw std::invalid_argument("there are fewer arrays than sources");
    const Memory& memory = from_[number];
    if (memory.rows() != from_.front().rows() || !memory.holds(memory.rows() * elements, size_of(dtype))) {
      throw std::invalid_argument("source " + std::to_string(number) + " has rows of another size");
    }
    return memory;
  }

  // Where a result goes.
  [[nodiscard]] const Memory& target(const Result& result) const {
    if (result.array >= to_.size()) throw std::invalid_argument("there are fewer arrays than results");
    const Memory& memory = to_[result.array];
    if (!memory.holds(from_.front().rows() * result.elements, result.size) ||
        memory.of_objects() != has_codes(result.what)) {
      throw std::invalid_argument("result " + std::to_string(result.array) + " has rows of another size");
    }
    return memory;
  }

  [[nodiscard]] bool run_classes(ClassPart& part) {
    const ClassPlan& plan = part.answer.plan();
    const Memory& from = source(part.source, plan.elements, plan.dtype);
    const std::size_t rows = from.rows();
    ClassResults to;
    for (Result& result : part.results) {
      std::byte* const memory = target(result).data();
      if (has_codes(result.what)) result.codes.resize(rows * result.elements);
      place(result, memory, plan.dtype == DType::kFloat64, to);
    }
    if (!part.answer.run(lane_, from.data(), rows, to)) return false;
    for (const Result& result : part.results) {
      if (has_codes(result.what)) write_texts(result, reinterpret_cast<PyObject**>(to_[result.array].data()));
    }
    return true;
  }

  static void place(Result& result, std::byte* memory, bool wide, ClassResults& to) noexcept {
    const Reals reals{.to = memory, .wide = wide};
    std::int32_t* const codes = has_codes(result.what) ? result.codes.data() : reinterpret_cast<std::int32_t*>(memory);
    if (result.what == What::kLabel) to.label = codes;
    if (result.what == What::kConfidence) to.confidence = reals;
    if (result.what == What::kProbabilities) to.probabilities = reals;
    if (result.what == What::kTopLabels) to.top_labels = codes;
    if (result.what == What::kTopScores) to.top_scores = reals;
    if (result.what == What::kAbstained) to.abstained = reinterpret_cast<std::uint8_t*>(memory);
    if (result.what == What::kReason) to.reason = codes;
    if (result.what == What::kSet) to.set = codes;
    if (result.what == What::kSetSize) to.set_size = codes;
    if (result.what == What::kLabels) to.labels = codes;
    if (result.what == What::kCount) to.count = codes;
  }

  [[nodiscard]] bool run_numbers(const NumberPart& part) const {
    const Memory& from = source(part.source, part.plan.elements, part.plan.dtype);
    const std::byte* by = nullptr;
    if (part.plan.by_elements != 0) by = source(part.by, part.plan.by_elements, part.plan.by_dtype).data();
    NumberResults to;
    for (const Result& result : part.results) {
      std::byte* const memory = target(result).data();
      (result.what == What::kValue ? to.value : result.what == What::kLow ? to.low : to.high) = memory;
    }
    return answer_numbers(part.plan, from.data(), by, from.rows(), to);
  }

  Lane lane_;
  std::vector<ClassPart> classes_;
  std::vector<NumberPart> numbers_;
  // Kept, so that a batch allocates nothing of ours.
  std::vector<Memory> from_;
  std::vector<Memory> to_;
};

}  // namespace

void bind_answers(nb::module_& module) {
  nb::class_<PyAnswers>(module, "Answers",
                        "What people get of a model's outputs (kernels/answers.hpp). Used by one thread at a time.")
      .def(nb::init<std::string_view>(), "lane"_a = "")
      .def("add_classes", &PyAnswers::add_classes, "source"_a, "dtype"_a, "elements"_a, nb::kw_only(), "scores"_a,
           "exclusive"_a = true, "temperature"_a = 1.0, "lines"_a = std::vector<std::pair<double, double>>{},
           "curves"_a = std::vector<Points>{}, "confidence"_a = "maximum", "thresholds"_a = std::vector<double>{},
           "cuts"_a = std::vector<double>{}, "set"_a = "", "quantile"_a = 1.0, "set_width"_a = 0, "top"_a = 0,
           "results"_a,
           "Classify with the array of this number, so many elements a row. results: (what, number of the array, the "
           "strings of its codes, the last for none). ValueError for what makes no sense.")
      .def("add_numbers", &PyAnswers::add_numbers, "source"_a, "dtype"_a, "elements"_a, nb::kw_only(), "first"_a,
           "count"_a, "steps"_a = std::vector<StepTuple>{}, "bounds"_a = std::pair(-kInfinity, kInfinity),
           "decimals"_a = -1, "quantile"_a = 0.0, "by"_a = nb::none(), "to"_a, "results"_a,
           "Answer numbers: `count` elements from `first` on. steps: (kind, a, b); by: number, dtype and elements of "
           "the array that scales the interval. ValueError for what makes no sense.")
      .def("run", &PyAnswers::run, "arrays"_a, "results"_a,
           "Fill `results` from a batch of the model's arrays. Returns the number of an array with a NaN that nothing "
           "can be said about, or -1. ValueError when a size does not fit.");
}

}  // namespace penstock
