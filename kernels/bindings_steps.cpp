#include "bindings_steps.hpp"

#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "penstock/kernels/steps.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace penstock {
namespace {

using Arrays = std::vector<nb::ndarray<nb::ro, nb::c_contig, nb::device::cpu>>;
using Results = std::vector<nb::ndarray<nb::c_contig, nb::device::cpu>>;
using UnfitTuple = std::tuple<std::size_t, std::uint32_t, std::uint32_t, double>;

[[nodiscard]] DType dtype_of(std::string_view name) {
  const std::optional<DType> dtype = dtype_from_name(name);
  if (!dtype) throw std::invalid_argument(std::string("unknown dtype ").append(name));
  return *dtype;
}

[[nodiscard]] Step step_of(StepTuple& tuple) {
  auto& [name, x, y, a, b, table] = tuple;
  const std::optional<StepKind> kind = step_from_name(name);
  if (!kind) throw std::invalid_argument("unknown step " + name);
  return {.kind = *kind, .x = x, .y = y, .a = a, .b = b, .table = std::move(table)};
}

[[nodiscard]] Matrix matrix_of(const MatrixTuple& tuple) {
  const auto& [dtype, columns, placements] = tuple;
  Matrix matrix{.dtype = dtype_of(dtype), .columns = columns, .placements = {}};
  for (const auto& [x, at, width] : placements) matrix.placements.push_back({.x = x, .at = at, .width = width});
  return matrix;
}

template <typename Array>
[[nodiscard]] std::size_t rows_of(const Array& array) {
  return array.ndim() == 0 ? 0 : array.shape(0);
}

// Bytes of a row of an array that has so many, whatever its shape.
template <typename Array>
[[nodiscard]] std::size_t row_bytes(const Array& array, std::size_t rows) {
  if (array.ndim() == 0 || array.shape(0) != rows) throw std::invalid_argument("arrays differ in their number of rows");
  return rows == 0 ? 0 : array.nbytes() / rows;
}

class PyProgram {
 public:
  PyProgram(const std::vector<SourceTuple>& sources, std::vector<StepTuple> steps,
            const std::vector<MatrixTuple>& matrices, std::string_view lane)
      : lane_(lane.empty() ? active_lane() : choose_lane(lane)), program_(program_of(sources, steps, matrices)) {}

  std::optional<UnfitTuple> run(const Arrays& arrays, const Results& results) {
    if (arrays.size() != program_.sources().size() || results.size() != program_.matrices().size()) {
      throw std::invalid_argument("one array is needed for each source, and one for each matrix");
    }
    const std::size_t rows = !arrays.empty() ? rows_of(arrays.front()) : results.empty() ? 0 : rows_of(results.front());
    from_.clear();
    to_.clear();
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      const auto [dtype, columns] = program_.sources()[i];
      if (row_bytes(arrays[i], rows) != (rows == 0 ? 0 : columns * size_of(dtype))) refuse_rows("source", i);
      from_.push_back(static_cast<const std::byte*>(arrays[i].data()));
    }
    for (std::size_t i = 0; i < results.size(); ++i) {
      const Matrix& matrix = program_.matrices()[i];
      if (row_bytes(results[i], rows) != (rows == 0 ? 0 : matrix.columns * size_of(matrix.dtype))) {
        refuse_rows("matrix", i);
      }
      to_.push_back(static_cast<std::byte*>(results[i].data()));
    }
    const std::optional<Unfit> unfit = program_.run(lane_, from_, rows, to_);
    if (!unfit) return std::nullopt;
    return UnfitTuple{unfit->row, unfit->matrix, unfit->column, unfit->value};
  }

 private:
  [[noreturn]] static void refuse_rows(const char* what, std::size_t number) {
    throw std::invalid_argument(std::string(what) + " " + std::to_string(number) + " has rows of another size");
  }

  Lane lane_;
  Program program_;
  // Kept, so that a batch allocates nothing.
  std::vector<const std::byte*> from_;
  std::vector<std::byte*> to_;
};

}  // namespace

Program program_of(const std::vector<SourceTuple>& sources, std::vector<StepTuple>& steps,
                   const std::vector<MatrixTuple>& matrices) {
  std::vector<Source> checked_sources;
  for (const auto& [dtype, columns] : sources) checked_sources.push_back({dtype_of(dtype), columns});
  std::vector<Step> checked_steps;
  for (StepTuple& step : steps) checked_steps.push_back(step_of(step));
  std::vector<Matrix> checked_matrices;
  for (const MatrixTuple& matrix : matrices) checked_matrices.push_back(matrix_of(matrix));
  return {std::move(checked_sources), std::move(checked_steps), std::move(checked_matrices)};
}

void bind_steps(nb::module_& module) {
  nb::class_<PyProgram>(module, "Program",
                        "Feature steps over the rows of a batch (kernels/steps.hpp). Used by one thread at a time.")
      .def(nb::init<const std::vector<SourceTuple>&, std::vector<StepTuple>, const std::vector<MatrixTuple>&,
                    std::string_view>(),
           "sources"_a, "steps"_a, "matrices"_a, "lane"_a = "",
           "sources: (dtype, columns); steps: (kind, x, y, a, b, table); matrices: (dtype, columns, [(x, at, width)]). "
           "ValueError when they do not fit each other.")
      .def("run", &PyProgram::run, "arrays"_a, "results"_a,
           "Compute the matrices of a batch: one array of shape (rows, ...) for each source, one to fill for each "
           "matrix. Returns the first row with a number that the integers of a matrix do not hold, as (row, matrix, "
           "column, number), if there is one. ValueError when a size does not fit.");
}

}  // namespace penstock
