// Steps: the AVX-512 lane, eight rows at a time. Compiled with -mavx512f -mavx512dq and entered only after lane.cpp has
// asked.
#include "steps_block.hpp"

namespace penstock::avx512 {
namespace {

constexpr unsigned kWidth = 8;

#include "steps_vector.inl"

}  // namespace

const StepFunction kSteps[] = PENSTOCK_VECTOR_STEPS;

}  // namespace penstock::avx512
