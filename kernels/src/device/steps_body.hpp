// Feature steps: a tile of rows through all steps, its registers in shared memory.
//
// Loads and stores go along a row, neighbouring threads at neighbouring elements, so that a sector of PCIe or HBM is
// moved once. Between them a thread takes a row through every step. Registers of a row are one double more than the
// tile apart: threads of a warp then meet no bank twice.
#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "../power.hpp"
#include "both.hpp"
#include "dates_body.hpp"
#include "penstock/kernels/device_work.hpp"
#include "penstock/kernels/dtype.hpp"
#include "penstock/kernels/half.hpp"
#include "penstock/kernels/steps.hpp"

namespace penstock::device {

template <typename T>
PENSTOCK_BOTH inline double load_as(const std::byte* from) {
  T value;
  // Rows in the ring lie at multiples of their own size, and a tensor's elements at multiples of theirs.
  value = *reinterpret_cast<const T*>(from);
  return static_cast<double>(value);
}

PENSTOCK_BOTH inline double load_element(std::uint32_t dtype, const std::byte* from) {
  switch (static_cast<DType>(dtype)) {
    case DType::kBool:
    case DType::kUint8:
      return load_as<std::uint8_t>(from);
    case DType::kUint16:
      return load_as<std::uint16_t>(from);
    case DType::kUint32:
      return load_as<std::uint32_t>(from);
    case DType::kUint64:
      return load_as<std::uint64_t>(from);
    case DType::kInt8:
      return load_as<std::int8_t>(from);
    case DType::kInt16:
      return load_as<std::int16_t>(from);
    case DType::kInt32:
      return load_as<std::int32_t>(from);
    case DType::kInt64:
      return load_as<std::int64_t>(from);
    case DType::kFloat16:
      return static_cast<double>(to_float(Half{*reinterpret_cast<const std::uint16_t*>(from)}));
    case DType::kFloat32:
      return load_as<float>(from);
    default:
      return load_as<double>(from);
  }
}

PENSTOCK_BOTH inline double power_of(double x, double lambda) {
  return is_logarithm(lambda) ? log1p(x) : expm1(lambda * log1p(x)) / lambda;
}

PENSTOCK_BOTH inline double yeo_johnson(double x, double lambda) {
  if (x >= 0) return power_of(x, lambda);
  return lambda == 2 ? -log1p(-x) : -expm1((2 - lambda) * log1p(-x)) / (2 - lambda);
}

PENSTOCK_BOTH inline double box_cox(double x, double lambda, double missing) {
  if (!(x > 0)) return missing;
  return is_logarithm(lambda) ? log(x) : expm1(lambda * log(x)) / lambda;
}

PENSTOCK_BOTH inline double below_of(const double* table, std::uint32_t size, double x) {
  std::uint32_t first = 0;
  for (std::uint32_t left = size; left > 0;) {  // upper bound
    const std::uint32_t half = left / 2;
    if (table[first + half] <= x) {
      first += half + 1;
      left -= half + 1;
    } else {
      left = half;
    }
  }
  return static_cast<double>(first);
}

PENSTOCK_BOTH inline double place_of(const double* table, std::uint32_t size, double x) {
  std::uint32_t first = 0;
  for (std::uint32_t left = size; left > 0;) {  // lower bound
    const std::uint32_t half = left / 2;
    if (table[first + half] < x) {
      first += half + 1;
      left -= half + 1;
    } else {
      left = half;
    }
  }
  return first < size && table[first] == x ? static_cast<double>(first) : -1.0;
}

PENSTOCK_BOTH inline double looked_up(const double* table, std::uint32_t size, double x) {
  const std::uint32_t codes = size - 2;
  if (x != x) return table[codes];
  return x >= 0 && x < static_cast<double>(codes) ? table[static_cast<std::uint32_t>(x)] : table[codes + 1];
}

PENSTOCK_BOTH inline double step_of(const StepOp& step, const double* tables, double x, double y) {
  const double missing = std::numeric_limits<double>::quiet_NaN();
  const double* const table = tables + step.table;
  const bool is_missing = x != x;
  switch (static_cast<StepKind>(step.kind)) {
    case StepKind::kFill:
      return is_missing ? step.a : x;
    case StepKind::kIsMissing:
      return is_missing ? 1.0 : 0.0;
    case StepKind::kStandardize:
      return (x - step.a) / step.b;
    case StepKind::kScale:
      return x * step.a + step.b;
    case StepKind::kClip:
      if (x < step.a) return step.a;
      return x > step.b ? step.b : x;
    case StepKind::kLog:
      return log(x + step.a);
    case StepKind::kYeoJohnson:
      return yeo_johnson(x, step.a);
    case StepKind::kBoxCox:
      return box_cox(x, step.a, missing);
    case StepKind::kBin:
      return is_missing ? x : below_of(table, step.table_size, x);
    case StepKind::kPlace:
      return is_missing ? x : place_of(table, step.table_size, x);
    case StepKind::kLookup:
      return looked_up(table, step.table_size, x);
    case StepKind::kDatePart:
      return part_of(static_cast<DatePart>(step.a), x, missing);
    case StepKind::kSine:
      return sin(x * step.a);
    case StepKind::kCosine:
      return cos(x * step.a);
    case StepKind::kAdd:
      return x + y;
    case StepKind::kSubtract:
      return x - y;
    case StepKind::kMultiply:
      return x * y;
    case StepKind::kDivide:
      return y == 0 ? missing : x / y;
    case StepKind::kModulo:
      return x - floor(x / step.a) * step.a;
  }
  return missing;
}

// Whether it fits. Of what does not the conversion would be undefined: it is the lowest integer.
template <typename T>
PENSTOCK_BOTH inline bool store_integer(std::byte* to, double value) {
  constexpr T lowest = std::numeric_limits<T>::lowest();
  constexpr auto bound = static_cast<double>(lowest);
  const bool fits = value >= bound && value < -bound;
  *reinterpret_cast<T*>(to) = fits ? static_cast<T>(value) : lowest;
  return fits;
}

// A place is compared as the other lanes do: without what is behind the point.
PENSTOCK_BOTH inline double cell_of(const CellOp& cell, double x) {
  if (cell.place == CellOp::kAsItIs) return x;
  const auto place = static_cast<double>(cell.place);
  return x >= place && x < place + 1 ? 1.0 : 0.0;
}

PENSTOCK_BOTH inline bool store_element(std::uint32_t dtype, std::byte* to, double value) {
  switch (static_cast<DType>(dtype)) {
    case DType::kFloat32:
      *reinterpret_cast<float*>(to) = static_cast<float>(value);
      return true;
    case DType::kInt32:
      return store_integer<std::int32_t>(to, value);
    case DType::kInt64:
      return store_integer<std::int64_t>(to, value);
    default:
      *reinterpret_cast<double*>(to) = value;
      return true;
  }
}

// `registers` has room for work.registers columns of tile_rows + 1 numbers.
template <typename Team>
PENSTOCK_BOTH inline void steps_body(const StepsWork& work, std::uint32_t tile, double* registers, const Team& team) {
  const std::uint32_t all = work.head->rows < work.rows_max ? work.head->rows : work.rows_max;
  const std::uint32_t first = tile * work.tile_rows;
  if (first >= all) return;
  const std::uint32_t rows = all - first < work.tile_rows ? all - first : work.tile_rows;
  const std::uint32_t pitch = work.tile_rows + 1;

  team.each(rows * work.load_count, [&](std::uint32_t i) {
    const std::uint32_t row = i / work.load_count;
    const LoadOp& load = work.loads[i % work.load_count];
    const RowSource& source = work.sources[load.source];
    const std::byte* const from = source.base + source.offsets[first + row] + load.at;
    registers[load.to * pitch + row] = load_element(load.dtype, from);
  });
  team.meet();
  team.each(rows, [&](std::uint32_t row) {
    for (std::uint32_t i = 0; i < work.step_count; ++i) {
      const StepOp& step = work.steps[i];
      registers[step.to * pitch + row] =
          step_of(step, work.tables, registers[step.x * pitch + row], registers[step.y * pitch + row]);
    }
  });
  team.meet();
  for (std::uint32_t m = 0; m < work.matrix_count; ++m) {
    const MatrixOp& matrix = work.matrices[m];
    std::byte* const to = matrix.to + std::uint64_t{first} * matrix.columns * matrix.element_bytes;
    team.each(rows * matrix.columns, [&](std::uint32_t i) {
      const CellOp cell = work.cells[matrix.first_cell + i % matrix.columns];
      if (cell.from == CellOp::kUntouched) return;
      const double x = registers[cell.from * pitch + i / matrix.columns];
      // Whichever thread finds one writes the same; it is read when the batch is done.
      if (!store_element(matrix.dtype, to + std::uint64_t{i} * matrix.element_bytes, cell_of(cell, x))) {
        work.head->unfit = 1;
      }
    });
  }
}

}  // namespace penstock::device
