// Feature steps: from records to the matrices that models take, for a whole batch at once.
//
// A row comes as elements of one array or several: the fields of a record, numbers of a tensor. Each is a column, a
// float64 from here on, NaN where it is missing. A program computes more columns with steps and writes some into
// matrices. It runs block by block, so that all columns of a block stay in the first cache: memory is read once and
// written once, however many steps there are.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "penstock/kernels/dtype.hpp"
#include "penstock/kernels/lane.hpp"

namespace penstock {

// What a step makes of x (and y) with its numbers a and b and its table. NaN in is NaN out unless it says otherwise.
enum class StepKind : std::uint8_t {
  kFill,         // x, or a where it is missing
  kIsMissing,    // 1 where x is missing, else 0
  kStandardize,  // (x - a) / b
  kScale,        // x * a + b
  kClip,         // x, but at least a and at most b
  kLog,          // ln(x + a); below -a missing
  kYeoJohnson,   // with lambda a
  kBoxCox,       // with lambda a, of x > 0; else missing
  kBin,          // how many numbers of the table, ascending, are at most x
  kPlace,        // where x is in the table, ascending; -1: nowhere
  kLookup,       // table[x]; behind the last code what stands for missing, then for every other code
  kDatePart,     // of seconds since 1970, UTC: DatePart(a)
  kSine,         // sin(x * a)
  kCosine,       // cos(x * a)
  kAdd,          // x + y
  kSubtract,     // x - y
  kMultiply,     // x * y
  kDivide,       // x / y; by 0 missing
  kModulo,       // the remainder of floor division by a, of x >= 0 (a hash that becomes a bucket)
};
inline constexpr std::size_t kStepKinds = 19;

enum class DatePart : std::uint8_t { kYear, kMonth, kDay, kWeekday, kDayOfYear, kHour, kMinute, kSecond };
inline constexpr std::size_t kDateParts = 8;

[[nodiscard]] constexpr bool takes_two(StepKind kind) noexcept {
  return kind >= StepKind::kAdd && kind <= StepKind::kDivide;
}

[[nodiscard]] std::string_view name_of(StepKind kind) noexcept;
[[nodiscard]] std::optional<StepKind> step_from_name(std::string_view name) noexcept;

// An array that rows come in: any dtype of numbers, `columns` elements a row. Its elements are the next columns.
struct Source {
  DType dtype = DType::kFloat64;
  std::uint32_t columns = 0;
};

// Column x is an element of a row or the result of an earlier step: those count on behind the last source's elements.
struct Step {
  StepKind kind = StepKind::kFill;
  std::uint32_t x = 0;
  std::uint32_t y = 0;  // of the kinds that take two
  double a = 0.0;
  double b = 0.0;
  std::vector<double> table;
};

// Where a column goes in a matrix. `width` 0: into column `at` as it is. Else it is a place in a list of so many: 1 in
// column `at` plus that place, 0 in the other ones, and 0 in all of them for a place that is not in the list.
//
// kReserved in place of a column: somebody else fills these, `width` of them.
inline constexpr std::uint32_t kReserved = ~std::uint32_t{0};

struct Placement {
  std::uint32_t x = 0;
  std::uint32_t at = 0;
  std::uint32_t width = 0;
};

// One input of the model: float32, float64, int32 or int64, `columns` wide, each column filled by one placement.
struct Matrix {
  DType dtype = DType::kFloat32;
  std::uint32_t columns = 0;
  std::vector<Placement> placements;
};

// A number that the integers of a matrix do not hold: missing, infinite or out of their range.
struct Unfit {
  std::size_t row = 0;
  std::uint32_t matrix = 0;
  std::uint32_t column = 0;  // of the matrix
  double value = 0.0;
};

// Steps that were checked and given room. Used by one thread at a time.
class Program {
 public:
  // Throws std::invalid_argument for a column that does not exist yet, a table that is missing or not ascending, a
  // matrix with a column that nothing or two placements fill, and a dtype that no source or matrix has.
  Program(std::vector<Source> sources, std::vector<Step> steps, std::vector<Matrix> matrices);

  [[nodiscard]] const std::vector<Source>& sources() const noexcept { return sources_; }
  [[nodiscard]] const std::vector<Matrix>& matrices() const noexcept { return matrices_; }
  [[nodiscard]] const std::vector<Step>& steps() const noexcept { return steps_; }

  // For other ways to run it: how many registers it needs, and which one a column has while it lives; kNowhere for an
  // element that nobody reads.
  static constexpr std::uint32_t kNowhere = ~std::uint32_t{0};
  [[nodiscard]] std::size_t registers() const noexcept { return registers_.size(); }
  [[nodiscard]] std::uint32_t elements() const noexcept { return elements_; }
  [[nodiscard]] std::uint32_t register_of(std::uint32_t column) const noexcept { return places_[column]; }

  // `arrays[i]` holds source i, rows * columns elements; `results[i]` has room for matrix i. Nothing needs to be
  // aligned. Integers are rounded towards zero; what does not fit is their lowest value, and the first row with such a
  // number is returned.
  std::optional<Unfit> run(Lane lane, std::span<const std::byte* const> arrays, std::size_t rows,
                           std::span<std::byte* const> results) noexcept;

 private:
  // The values of one column in a block.
  struct alignas(64) Register {
    double rows[64];
  };

  void check() const;
  void assign_registers();
  void load(std::span<const std::byte* const> arrays, std::size_t first, std::size_t rows) noexcept;
  void compute(Lane lane, std::size_t rows) noexcept;
  void find_unfit(std::size_t first, std::size_t rows, std::optional<Unfit>& found) const noexcept;

  std::vector<Source> sources_;
  std::uint32_t elements_ = 0;  // of all sources
  std::vector<Step> steps_;
  std::vector<Matrix> matrices_;
  // The register of each column: what nobody reads any more makes room for others. Elements that nobody reads at all
  // have none.
  std::vector<std::uint32_t> places_;
  std::vector<Register> registers_;
};

}  // namespace penstock
