// Steps: the AVX2 lane, four rows at a time. Compiled with -mavx2 and entered only after lane.cpp has asked.
#include "steps_block.hpp"

namespace penstock::avx2 {
namespace {

constexpr unsigned kWidth = 4;

#include "steps_vector.inl"

}  // namespace

const StepFunction kSteps[] = PENSTOCK_VECTOR_STEPS;

}  // namespace penstock::avx2
