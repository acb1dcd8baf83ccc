// When a power transform is the logarithm.
#pragma once

namespace penstock {

// A smaller lambda changes no digit of the transform, and the quotient by it would lose them all.
[[nodiscard]] constexpr bool is_logarithm(double lambda) noexcept {
  constexpr double kLambdaMin = 1e-19;
  return lambda > -kLambdaMin && lambda < kLambdaMin;
}

}  // namespace penstock
