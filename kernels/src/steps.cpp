// Programs of steps: what they are checked for, where their columns lie, and how a batch goes through them.
#include "penstock/kernels/steps.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <string>
#include <utility>

#include "penstock/kernels/half.hpp"
#include "steps_block.hpp"

namespace penstock {
namespace {

constexpr std::uint64_t kColumnsMax = 1 << 20;
constexpr std::size_t kRowsMultiple = 8;  // the widest lane's

constexpr std::array<std::string_view, kStepKinds> kStepNames{
    "fill",   "is_missing", "standardize", "scale",  "clip", "log",      "yeo_johnson", "box_cox", "bin",   "place",
    "lookup", "date_part",  "sine",        "cosine", "add",  "subtract", "multiply",    "divide",  "modulo"};

[[noreturn]] void refuse(std::string_view what, std::size_t number, std::string_view why) {
  throw std::invalid_argument(std::string(what).append(" ").append(std::to_string(number)).append(": ").append(why));
}

void check_step(const Step& step, std::size_t number, std::size_t columns) {
  if (step.x >= columns || (takes_two(step.kind) && step.y >= columns)) refuse("step", number, "no such column yet");
  const bool ordered = step.kind == StepKind::kBin || step.kind == StepKind::kPlace;
  if (ordered && !std::ranges::is_sorted(step.table)) refuse("step", number, "its table must ascend");
  if (step.kind == StepKind::kLookup && step.table.size() < 2) refuse("step", number, "a table has two at least");
  if (step.kind == StepKind::kDatePart && !(step.a >= 0 && step.a < kDateParts)) {
    refuse("step", number, "no such part of a date");
  }
  if (step.kind == StepKind::kModulo && !(step.a >= 1)) refuse("step", number, "modulo needs a number of 1 or more");
  if (step.kind == StepKind::kClip && !(step.a <= step.b)) refuse("step", number, "the bounds must ascend");
  if (step.kind == StepKind::kStandardize && step.b == 0) refuse("step", number, "division by 0");
}

void check_matrix(const Matrix& matrix, std::size_t number, std::size_t columns) {
  const bool known = matrix.dtype == DType::kFloat32 || matrix.dtype == DType::kFloat64 ||
                     matrix.dtype == DType::kInt32 || matrix.dtype == DType::kInt64;
  if (!known) refuse("matrix", number, "float32, float64, int32 or int64 only");
  std::vector<bool> filled(matrix.columns);
  for (const Placement& placement : matrix.placements) {
    if (placement.x >= columns && placement.x != kReserved) refuse("matrix", number, "no such column");
    const std::uint64_t end = std::uint64_t{placement.at} + std::max(placement.width, 1U);
    if (end > matrix.columns) refuse("matrix", number, "it is not that wide");
    for (std::uint64_t at = placement.at; at < end; ++at) {
      if (filled[at]) refuse("matrix", number, "two fill column " + std::to_string(at));
      filled[at] = true;
    }
  }
  const auto gap = std::ranges::find(filled, false);
  if (gap != filled.end()) refuse("matrix", number, "nothing fills column " + std::to_string(gap - filled.begin()));
}

template <typename T>
void load_column(const std::byte* from, std::size_t rows, std::size_t columns, double* to) noexcept {
  for (std::size_t row = 0; row < rows; ++row) {
    T value;
    std::memcpy(&value, from + row * columns * sizeof(T), sizeof value);
    to[row] = static_cast<double>(value);
  }
}

void load_halves(const std::byte* from, std::size_t rows, std::size_t columns, double* to) noexcept {
  for (std::size_t row = 0; row < rows; ++row) {
    Half half;
    std::memcpy(&half, from + row * columns * sizeof half, sizeof half);
    to[row] = static_cast<double>(to_float(half));
  }
}

using Loader = void (*)(const std::byte*, std::size_t, std::size_t, double*) noexcept;

// By DType; null for strings.
constexpr std::array<Loader, kDTypes.size()> kLoaders{load_column<std::uint8_t>,
                                                      load_column<std::uint8_t>,
                                                      load_column<std::uint16_t>,
                                                      load_column<std::uint32_t>,
                                                      load_column<std::uint64_t>,
                                                      load_column<std::int8_t>,
                                                      load_column<std::int16_t>,
                                                      load_column<std::int32_t>,
                                                      load_column<std::int64_t>,
                                                      load_halves,
                                                      load_column<float>,
                                                      load_column<double>,
                                                      nullptr};

template <typename T>
void put(std::byte* to, T value) noexcept {
  std::memcpy(to, &value, sizeof value);
}

template <typename T>
constexpr auto kLowest = static_cast<double>(std::numeric_limits<T>::lowest());

// Whether an integer holds a number, without what is behind the point. Of others the conversion would be undefined.
template <typename T>
[[nodiscard]] bool fits(double value) noexcept {
  return value >= kLowest<T> && value < -kLowest<T>;
}

template <typename T>
[[nodiscard]] T element_of(double value) noexcept {
  if constexpr (std::is_integral_v<T>) {
    return fits<T>(value) ? static_cast<T>(value) : std::numeric_limits<T>::lowest();
  } else {
    return static_cast<T>(value);
  }
}

template <typename T>
void write_column(const double* x, std::size_t rows, std::size_t columns, std::byte* to) noexcept {
  for (std::size_t row = 0; row < rows; ++row) put(to + row * columns * sizeof(T), element_of<T>(x[row]));
}

template <typename T>
void write_places(const double* x, std::size_t rows, std::size_t columns, std::size_t width, std::byte* to) noexcept {
  for (std::size_t row = 0; row < rows; ++row, to += columns * sizeof(T)) {
    std::memset(to, 0, width * sizeof(T));
    if (x[row] >= 0 && x[row] < static_cast<double>(width)) {
      put(to + static_cast<std::size_t>(x[row]) * sizeof(T), T{1});
    }
  }
}

template <typename T>
void write(const Placement& placement, const double* x, std::size_t rows, std::size_t columns, std::byte* to) noexcept {
  to += placement.at * sizeof(T);
  if (placement.width == 0) {
    write_column<T>(x, rows, columns, to);
  } else {
    write_places<T>(x, rows, columns, placement.width, to);
  }
}

void write(const Matrix& matrix, const Placement& placement, const double* x, std::size_t rows,
           std::byte* to) noexcept {
  switch (matrix.dtype) {
    case DType::kFloat32:
      return write<float>(placement, x, rows, matrix.columns, to);
    case DType::kFloat64:
      return write<double>(placement, x, rows, matrix.columns, to);
    case DType::kInt32:
      return write<std::int32_t>(placement, x, rows, matrix.columns, to);
    default:
      return write<std::int64_t>(placement, x, rows, matrix.columns, to);
  }
}

// The first row whose number does not fit; `rows` when all do.
template <typename T>
[[nodiscard]] std::size_t first_unfit(const double* x, std::size_t rows) noexcept {
  bool all = true;  // without a way out of the loop it is one of vectors
  for (std::size_t row = 0; row < rows; ++row) all &= fits<T>(x[row]);
  if (all) [[likely]]
    return rows;
  return static_cast<std::size_t>(std::find_if_not(x, x + rows, fits<T>) - x);
}

[[nodiscard]] StepFunction function_of(Lane lane, StepKind kind) noexcept {
  const auto index = static_cast<std::size_t>(kind);
  StepFunction found = nullptr;
#if PENSTOCK_LANE_AVX512
  if (lane == Lane::kAvx512) found = avx512::kSteps[index];
#endif
#if PENSTOCK_LANE_AVX2
  if (lane == Lane::kAvx2) found = avx2::kSteps[index];
#endif
  static_cast<void>(lane);
  return found != nullptr ? found : scalar::kSteps[index];
}

}  // namespace

std::string_view name_of(StepKind kind) noexcept { return kStepNames[static_cast<std::size_t>(kind)]; }

std::optional<StepKind> step_from_name(std::string_view name) noexcept {
  const auto* const found = std::ranges::find(kStepNames, name);
  if (found == kStepNames.end()) return std::nullopt;
  return static_cast<StepKind>(found - kStepNames.begin());
}

Program::Program(std::vector<Source> sources, std::vector<Step> steps, std::vector<Matrix> matrices)
    : sources_(std::move(sources)), steps_(std::move(steps)), matrices_(std::move(matrices)) {
  std::uint64_t elements = 0;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    if (kLoaders[static_cast<std::size_t>(sources_[i].dtype)] == nullptr) refuse("source", i, "it has no numbers");
    elements += sources_[i].columns;
  }
  if (elements + steps_.size() > kColumnsMax) throw std::invalid_argument("more columns than a program can have");
  elements_ = static_cast<std::uint32_t>(elements);
  check();
  assign_registers();
}

void Program::check() const {
  for (std::size_t i = 0; i < steps_.size(); ++i) check_step(steps_[i], i, elements_ + i);
  for (std::size_t i = 0; i < matrices_.size(); ++i) check_matrix(matrices_[i], i, elements_ + steps_.size());
}

// A column lives from where it is made until its last reader, a step or the end of the block, where matrices read. A
// step may write where its last operand was.
void Program::assign_registers() {
  const std::size_t end = steps_.size();
  constexpr auto kNever = std::numeric_limits<std::size_t>::max();
  std::vector<std::size_t> last_read(elements_ + end, kNever);
  for (std::size_t i = 0; i < end; ++i) {
    last_read[steps_[i].x] = i;
    if (takes_two(steps_[i].kind)) last_read[steps_[i].y] = i;
  }
  for (const Matrix& matrix : matrices_) {
    for (const Placement& placement : matrix.placements) {
      if (placement.x != kReserved) last_read[placement.x] = end;
    }
  }

  places_.assign(elements_ + end, kNowhere);
  std::vector<std::uint32_t> free;
  std::uint32_t used = 0;
  const auto take = [&](std::size_t x) {
    if (free.empty()) {
      places_[x] = used++;
    } else {
      places_[x] = free.back();
      free.pop_back();
    }
  };
  const auto give_back = [&](std::uint32_t x, std::size_t reader) {
    if (last_read[x] != reader) return;
    free.push_back(places_[x]);
    last_read[x] = kNever;  // x and y of a step may be one column
  };
  for (std::uint32_t x = 0; x < elements_; ++x) {
    if (last_read[x] != kNever) take(x);
  }
  for (std::size_t i = 0; i < end; ++i) {
    give_back(steps_[i].x, i);
    if (takes_two(steps_[i].kind)) give_back(steps_[i].y, i);
    take(elements_ + i);
    // Of no use to anybody: it is computed all the same, and the next step may write over it.
    if (last_read[elements_ + i] == kNever) free.push_back(places_[elements_ + i]);
  }
  registers_.resize(used);
}

std::optional<Unfit> Program::run(Lane lane, std::span<const std::byte* const> arrays, std::size_t rows,
                                  std::span<std::byte* const> results) noexcept {
  std::optional<Unfit> found;
  for (std::size_t first = 0; first < rows; first += kBlockRows) {
    const std::size_t some = std::min(kBlockRows, rows - first);
    load(arrays, first, some);
    compute(lane, some);
    for (std::size_t i = 0; i < matrices_.size(); ++i) {
      const Matrix& matrix = matrices_[i];
      std::byte* const to = results[i] + first * matrix.columns * size_of(matrix.dtype);
      for (const Placement& placement : matrix.placements) {
        if (placement.x == kReserved) continue;
        write(matrix, placement, registers_[places_[placement.x]].rows, some, to);
      }
    }
    if (!found) find_unfit(first, some, found);
  }
  return found;
}

void Program::find_unfit(std::size_t first, std::size_t rows, std::optional<Unfit>& found) const noexcept {
  std::size_t fitting = rows;
  for (std::uint32_t i = 0; i < matrices_.size(); ++i) {
    const Matrix& matrix = matrices_[i];
    if (matrix.dtype != DType::kInt32 && matrix.dtype != DType::kInt64) continue;
    for (const Placement& placement : matrix.placements) {
      if (placement.x == kReserved || placement.width != 0) continue;
      const double* const x = registers_[places_[placement.x]].rows;
      const std::size_t unfit =
          matrix.dtype == DType::kInt32 ? first_unfit<std::int32_t>(x, rows) : first_unfit<std::int64_t>(x, rows);
      if (unfit >= fitting) continue;
      fitting = unfit;
      found = {.row = first + unfit, .matrix = i, .column = placement.at, .value = x[unfit]};
    }
  }
}

void Program::load(std::span<const std::byte* const> arrays, std::size_t first, std::size_t rows) noexcept {
  std::uint32_t x = 0;
  for (std::size_t i = 0; i < sources_.size(); ++i) {
    const auto [dtype, columns] = sources_[i];
    const std::byte* from = arrays[i] + first * columns * size_of(dtype);
    for (std::uint32_t column = 0; column < columns; ++column, ++x, from += size_of(dtype)) {
      if (places_[x] == kNowhere) continue;
      kLoaders[static_cast<std::size_t>(dtype)](from, rows, columns, registers_[places_[x]].rows);
    }
  }
}

void Program::compute(Lane lane, std::size_t rows) noexcept {
  const std::size_t padded = (rows + kRowsMultiple - 1) / kRowsMultiple * kRowsMultiple;
  for (std::size_t i = 0; i < steps_.size(); ++i) {
    const Step& step = steps_[i];
    function_of(lane, step.kind)({.rows = padded,
                                  .x = registers_[places_[step.x]].rows,
                                  .y = takes_two(step.kind) ? registers_[places_[step.y]].rows : nullptr,
                                  .to = registers_[places_[elements_ + i]].rows,
                                  .a = step.a,
                                  .b = step.b,
                                  .table = step.table.data(),
                                  .table_size = step.table.size()});
  }
}

}  // namespace penstock
