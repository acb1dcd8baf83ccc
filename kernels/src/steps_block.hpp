// What each lane provides for steps. It includes nothing with inline functions: see avx2.cpp.
#pragma once

#include <cstddef>

namespace penstock {

// Rows that go through all steps before the next ones do.
inline constexpr std::size_t kBlockRows = 64;

// One step over the rows of a block. Columns are 64-byte aligned and have kBlockRows places; `to` may be `x` or `y`.
struct StepBlock {
  std::size_t rows;  // a multiple of 8: those behind a batch's last are computed of whatever is there
  const double* x;
  const double* y;
  double* to;
  double a;
  double b;
  const double* table;
  std::size_t table_size;
};

using StepFunction = void (*)(const StepBlock&) noexcept;

}  // namespace penstock

// By StepKind; a lane that has no function of its own for a step has null. Lanes give the same bits: nothing is
// contracted to fused operations.
namespace penstock::scalar {
extern const StepFunction kSteps[];
}
namespace penstock::avx2 {
extern const StepFunction kSteps[];
}
namespace penstock::avx512 {
extern const StepFunction kSteps[];
}
