// Programs of steps: every lane against the scalar one, and what a program is refused for.
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <optional>
#include <random>
#include <stdexcept>
#include <utility>
#include <vector>

#include "check.hpp"
#include "penstock/kernels/steps.hpp"

namespace {

using namespace penstock;

constexpr std::uint32_t kElements = 6;
constexpr std::array kOdd{0.0,
                          -0.0,
                          1.0,
                          -1.0,
                          2.5,
                          1e300,
                          -1e300,
                          5e-324,
                          std::numeric_limits<double>::infinity(),
                          -std::numeric_limits<double>::infinity(),
                          std::numeric_limits<double>::quiet_NaN()};

Step random_step(std::mt19937_64& random, std::uint32_t columns) {
  std::uniform_int_distribution<std::uint32_t> column(0, columns - 1);
  std::uniform_real_distribution<double> number(-3, 3);
  Step step{.kind = static_cast<StepKind>(random() % kStepKinds),
            .x = column(random),
            .y = column(random),
            .a = number(random),
            .b = number(random),
            .table = {}};
  if (step.kind == StepKind::kDatePart) step.a = static_cast<double>(random() % kDateParts);
  if (step.kind == StepKind::kClip && step.a > step.b) std::swap(step.a, step.b);
  if (step.kind == StepKind::kModulo) step.a = static_cast<double>(1 + random() % 9);
  if (step.kind == StepKind::kBin || step.kind == StepKind::kPlace || step.kind == StepKind::kLookup) {
    const std::size_t least = step.kind == StepKind::kLookup ? 2 : 0;
    for (std::size_t i = random() % 12 + least; i > 0; --i) step.table.push_back(-static_cast<double>(i));
  }
  return step;
}

struct Case {
  std::vector<Step> steps;
  std::vector<Matrix> matrices;
};

// Every column goes somewhere: what lanes make different is seen.
Case random_case(std::mt19937_64& random) {
  Case made;
  std::uint32_t columns = kElements;
  for (std::size_t i = random() % 30; i > 0; --i) made.steps.push_back(random_step(random, columns++));
  constexpr std::array kTypes{DType::kFloat32, DType::kFloat64, DType::kInt32, DType::kInt64};
  for (const DType dtype : kTypes) {
    Matrix matrix{.dtype = dtype, .columns = 0, .placements = {}};
    for (std::uint32_t x = 0; x < columns; ++x) {
      const auto width = static_cast<std::uint32_t>(random() % 4);
      matrix.placements.push_back({.x = x, .at = matrix.columns, .width = width});
      matrix.columns += width == 0 ? 1 : width;
    }
    made.matrices.push_back(std::move(matrix));
  }
  return made;
}

std::vector<std::vector<std::byte>> run(const Case& made, Lane lane, const std::vector<double>& rows,
                                        std::optional<Unfit>* unfit = nullptr) {
  Program program({{DType::kFloat64, kElements}}, made.steps, made.matrices);
  const std::size_t count = rows.size() / kElements;
  std::vector<std::vector<std::byte>> results;
  std::vector<std::byte*> places;
  for (const Matrix& matrix : made.matrices) results.emplace_back(count * matrix.columns * size_of(matrix.dtype));
  for (std::vector<std::byte>& result : results) places.push_back(result.data());
  const std::array from{reinterpret_cast<const std::byte*>(rows.data())};
  const std::optional<Unfit> found = program.run(lane, from, count, places);
  if (unfit != nullptr) *unfit = found;
  return results;
}

// NaNs are equal whatever their bits: only those of floats may differ, in what a processor makes of one.
void check_equal(const Case& made, const std::vector<std::vector<std::byte>>& lane,
                 const std::vector<std::vector<std::byte>>& scalar) {
  for (std::size_t i = 0; i < lane.size(); ++i) {
    if (made.matrices[i].dtype != DType::kFloat64) continue;
    for (std::size_t at = 0; at < lane[i].size(); at += sizeof(double)) {
      double mine = 0;
      double other = 0;
      std::memcpy(&mine, lane[i].data() + at, sizeof mine);
      std::memcpy(&other, scalar[i].data() + at, sizeof other);
      const bool same = std::bit_cast<std::uint64_t>(mine) == std::bit_cast<std::uint64_t>(other);
      CHECK(same || (std::isnan(mine) && std::isnan(other)));
    }
  }
  CHECK(lane[2] == scalar[2] && lane[3] == scalar[3]);
}

void check_lanes() {
  std::mt19937_64 random(20);
  std::normal_distribution<double> number(0, 4);
  for (int round = 0; round < 300; ++round) {
    const Case made = random_case(random);
    std::vector<double> rows(random() % 200 * kElements);
    for (double& value : rows) value = random() % 3 == 0 ? kOdd[random() % kOdd.size()] : number(random);
    std::optional<Unfit> of_scalar;
    const auto scalar = run(made, Lane::kScalar, rows, &of_scalar);
    for (const Lane lane : available_lanes()) {
      std::optional<Unfit> unfit;
      check_equal(made, run(made, lane, rows, &unfit), scalar);
      CHECK(unfit.has_value() == of_scalar.has_value());
      CHECK(!unfit ||
            (unfit->row == of_scalar->row && unfit->matrix == of_scalar->matrix && unfit->column == of_scalar->column));
    }
  }
}

// A column of floats and one of integers: only the second has numbers that do not fit.
void check_unfit() {
  constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const auto unfit_of = [](DType dtype, const std::vector<double>& values) {
    const Case made{.steps = {},
                    .matrices = {{.dtype = DType::kFloat32, .columns = 1, .placements = {{0, 0, 0}}},
                                 {.dtype = dtype, .columns = 2, .placements = {{1, 0, 0}, {0, 1, 0}}}}};
    std::vector<double> rows;
    for (const double value : values) rows.insert(rows.end(), {value, 0, 0, 0, 0, 0});
    std::optional<Unfit> unfit;
    for (const Lane lane : available_lanes()) static_cast<void>(run(made, lane, rows, &unfit));
    CHECK(!unfit || (unfit->matrix == 1 && unfit->column == 1));
    return unfit;
  };
  constexpr double kTwo31 = 2147483648.0;
  constexpr double kTwo63 = 9223372036854775808.0;
  CHECK(!unfit_of(DType::kInt32, {-kTwo31, kTwo31 - 1, kTwo31 - 0.5, -0.5}));
  CHECK(!unfit_of(DType::kInt64, {-kTwo63, kTwo63 - 1024}));
  CHECK(!unfit_of(DType::kFloat64, {kNaN, kInfinity}));
  for (const double wrong : {kNaN, kInfinity, -kInfinity, kTwo31, -kTwo31 - 1}) {
    std::vector<double> values(200, 1);
    values[150] = wrong;
    values[170] = kNaN;
    const std::optional<Unfit> unfit = unfit_of(DType::kInt32, values);
    CHECK(unfit && unfit->row == 150 && (unfit->value == wrong || (std::isnan(unfit->value) && std::isnan(wrong))));
  }
  CHECK(unfit_of(DType::kInt64, {kTwo63}) && unfit_of(DType::kInt64, {-kTwo63 - 2048}));
}

// Columns share registers: a program in reverse order of its elements, each read late, shows when one is taken too
// soon.
void check_registers() {
  Case made;
  for (std::uint32_t i = 0; i < kElements; ++i) {
    made.steps.push_back({.kind = StepKind::kScale, .x = kElements - 1 - i, .y = 0, .a = 1, .b = 100, .table = {}});
  }
  made.steps.push_back({.kind = StepKind::kAdd, .x = 0, .y = kElements, .a = 0, .b = 0, .table = {}});
  Matrix matrix{.dtype = DType::kFloat64, .columns = kElements + 1, .placements = {}};
  for (std::uint32_t i = 0; i <= kElements; ++i) matrix.placements.push_back({.x = kElements + i, .at = i, .width = 0});
  made.matrices.push_back(matrix);
  const auto results = run(made, Lane::kScalar, {1, 2, 3, 4, 5, 6});
  const std::array<double, kElements + 1> expected{106, 105, 104, 103, 102, 101, 107};
  std::array<double, kElements + 1> found{};
  CHECK(results[0].size() == sizeof found);
  std::memcpy(found.data(), results[0].data(), sizeof found);
  CHECK(found == expected);
}

bool is_refused(std::vector<Source> sources, std::vector<Step> steps, std::vector<Matrix> matrices) {
  try {
    const Program program(std::move(sources), std::move(steps), std::move(matrices));
  } catch (const std::invalid_argument&) {
    return true;
  }
  return false;
}

void check_refusals() {
  const std::vector<Source> two{{DType::kFloat32, 2}};
  const auto step = [](StepKind kind, std::uint32_t x, std::uint32_t y, double a, std::vector<double> table) {
    return std::vector<Step>{{.kind = kind, .x = x, .y = y, .a = a, .b = 1, .table = std::move(table)}};
  };
  const Matrix good{.dtype = DType::kFloat32, .columns = 2, .placements = {{0, 0, 0}, {1, 1, 0}}};
  CHECK(!is_refused(two, {}, {good}));
  CHECK(is_refused({{DType::kBytes, 2}}, {}, {good}));
  CHECK(is_refused(two, step(StepKind::kScale, 2, 0, 0, {}), {}));
  CHECK(!is_refused(two, step(StepKind::kScale, 1, 9, 0, {}), {}));
  CHECK(is_refused(two, step(StepKind::kAdd, 0, 2, 0, {}), {}));
  CHECK(is_refused(two, step(StepKind::kBin, 0, 0, 0, {2, 1}), {}));
  CHECK(is_refused(two, step(StepKind::kPlace, 0, 0, 0, {2, 1}), {}));
  CHECK(is_refused(two, step(StepKind::kLookup, 0, 0, 0, {1}), {}));
  CHECK(is_refused(two, step(StepKind::kDatePart, 0, 0, 8, {}), {}));
  CHECK(is_refused(two, step(StepKind::kClip, 0, 0, 2, {}), {}));
  CHECK(is_refused(two, step(StepKind::kModulo, 0, 0, 0.5, {}), {}));
  CHECK(is_refused(two, {}, {{.dtype = DType::kUint8, .columns = 1, .placements = {{0, 0, 0}}}}));
  CHECK(is_refused(two, {}, {{.dtype = DType::kFloat32, .columns = 3, .placements = {{0, 0, 0}, {1, 1, 0}}}}));
  CHECK(is_refused(two, {}, {{.dtype = DType::kFloat32, .columns = 2, .placements = {{0, 0, 2}, {1, 1, 0}}}}));
  CHECK(is_refused(two, {}, {{.dtype = DType::kFloat32, .columns = 2, .placements = {{0, 0, 3}}}}));
  CHECK(is_refused(two, {}, {{.dtype = DType::kFloat32, .columns = 1, .placements = {{2, 0, 0}}}}));
}

}  // namespace

int main() {
  check_lanes();
  check_unfit();
  check_registers();
  check_refusals();
  return 0;
}
