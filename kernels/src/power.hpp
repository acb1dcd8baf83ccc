// When a power transform is the logarithm.
#pragma once

#include <cmath>

namespace penstock {

// A smaller lambda changes no digit of the transform, and the quotient by it would lose them all.
[[nodiscard]] inline bool is_logarithm(double lambda) noexcept {
  constexpr double kLambdaMin = 1e-19;
  return std::abs(lambda) < kLambdaMin;
}

}  // namespace penstock
