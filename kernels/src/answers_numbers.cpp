// Answers that are numbers. A row has few, and most of the time goes into the C library: there is one lane.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <stdexcept>
#include <type_traits>

#include "penstock/kernels/answers.hpp"
#include "penstock/kernels/half.hpp"
#include "power.hpp"

namespace penstock {
namespace {

// Calls f with a value of the dtype's type.
template <typename F>
void with_type(DType dtype, F f) {
  switch (dtype) {
    case DType::kBool:
    case DType::kUint8:
      return f(std::uint8_t{});
    case DType::kUint16:
      return f(std::uint16_t{});
    case DType::kUint32:
      return f(std::uint32_t{});
    case DType::kUint64:
      return f(std::uint64_t{});
    case DType::kInt8:
      return f(std::int8_t{});
    case DType::kInt16:
      return f(std::int16_t{});
    case DType::kInt32:
      return f(std::int32_t{});
    case DType::kInt64:
      return f(std::int64_t{});
    case DType::kFloat16:
      return f(Half{});
    case DType::kFloat32:
      return f(float{});
    case DType::kFloat64:
    case DType::kBytes:
      return f(double{});
  }
}

[[nodiscard]] double element(DType dtype, const std::byte* from, std::size_t at) noexcept {
  double result = 0;
  with_type(dtype, [&](auto value) {
    std::memcpy(&value, from + at * sizeof value, sizeof value);
    if constexpr (std::is_same_v<decltype(value), Half>) {
      result = static_cast<double>(to_float(value));
    } else {
      result = static_cast<double>(value);
    }
  });
  return result;
}

// The nearest value of a type; of whole numbers the nearest that fits.
template <typename T>
[[nodiscard]] T as(double value) noexcept {
  if constexpr (std::is_same_v<T, Half>) {
    return to_half(value);
  } else if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(value);
  } else {
    const double whole = std::nearbyint(value);
    constexpr auto kLeast = std::numeric_limits<T>::lowest();
    constexpr auto kMost = std::numeric_limits<T>::max();
    // 2^63 and 2^64 are the float64 next to the greatest whole numbers: what reaches them does not fit.
    if (whole <= static_cast<double>(kLeast)) return kLeast;
    return whole >= static_cast<double>(kMost) ? kMost : static_cast<T>(whole);
  }
}

void put(DType dtype, std::byte* to, std::size_t at, double value) noexcept {
  if (to == nullptr) return;
  with_type(dtype, [&](auto type) {
    const auto result = as<decltype(type)>(value);
    std::memcpy(to + at * sizeof result, &result, sizeof result);
  });
}

[[nodiscard]] double yeo_johnson_undone(double y, double lambda) noexcept {
  if (y >= 0) return is_logarithm(lambda) ? std::expm1(y) : std::expm1(std::log1p(lambda * y) / lambda);
  const double other = 2 - lambda;
  return other == 0 ? -std::expm1(-y) : -std::expm1(std::log1p(-other * y) / other);
}

[[nodiscard]] double stepped(const NumberStep& step, double x) noexcept {
  switch (step.kind) {
    case NumberStepKind::kAffine:
      return x * step.a + step.b;
    case NumberStepKind::kExp:
      // Digits near 0 are kept for the offset that is usual.
      return step.a == 1 ? std::expm1(x) : std::exp(x) - step.a;
    case NumberStepKind::kYeoJohnson:
      return yeo_johnson_undone(x, step.a);
    case NumberStepKind::kBoxCox:
      return is_logarithm(step.a) ? std::exp(x) : std::exp(std::log1p(step.a * x) / step.a);
  }
  return x;
}

[[nodiscard]] double within(double least, double most, double x) noexcept {
  if (x < least) return least;
  return x > most ? most : x;
}

template <typename Round>
[[nodiscard]] double rounded(double value, double power, Round round) noexcept {
  const double scaled = value * power;
  return std::isfinite(scaled) ? round(scaled) / power : value;
}

[[nodiscard]] bool is_float(DType dtype) noexcept {
  return dtype == DType::kFloat16 || dtype == DType::kFloat32 || dtype == DType::kFloat64;
}

}  // namespace

void check(const NumberPlan& plan) {
  if (plan.count == 0 || plan.first + std::uint64_t{plan.count} > plan.elements) {
    throw std::invalid_argument("a row has not that many elements");
  }
  const bool texts = plan.dtype == DType::kBytes || plan.by_dtype == DType::kBytes || plan.to == DType::kBytes;
  if (texts || plan.to == DType::kBool) throw std::invalid_argument("no dtype of a number");
  if (plan.by_elements > 1 && plan.by_elements != plan.count) {
    throw std::invalid_argument("what an interval is scaled by has one element, or as many");
  }
  if (!(plan.least <= plan.most)) throw std::invalid_argument("the bounds must ascend");
  if (plan.decimals > 15) throw std::invalid_argument("a float64 has no more than 15 decimals");
}

bool answer_numbers(const NumberPlan& plan, const std::byte* from, const std::byte* by, std::size_t rows,
                    const NumberResults& to) noexcept {
  const bool whole = !is_float(plan.to);
  const double power = std::pow(10.0, plan.decimals);
  const bool rounds = plan.decimals >= 0;
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t i = 0; i < plan.count; ++i) {
      double value = element(plan.dtype, from, row * plan.elements + plan.first + i);
      for (const NumberStep& step : plan.steps) value = stepped(step, value);
      double away = plan.quantile;
      if (plan.by_elements != 0) {
        away *= element(plan.by_dtype, by, row * plan.by_elements + (plan.by_elements > 1 ? i : 0));
      }
      double low = within(plan.least, plan.most, value - away);
      double high = within(plan.least, plan.most, value + away);
      value = within(plan.least, plan.most, value);
      if (rounds) {
        low = rounded(low, power, [](double x) { return std::floor(x); });
        high = rounded(high, power, [](double x) { return std::ceil(x); });
        value = rounded(value, power, [](double x) { return std::nearbyint(x); });
      }
      if (whole && (std::isnan(value) || std::isnan(low) || std::isnan(high))) return false;
      const std::size_t at = row * plan.count + i;
      put(plan.to, to.value, at, value);
      put(plan.to, to.low, at, low);
      put(plan.to, to.high, at, high);
    }
  }
  return true;
}

}  // namespace penstock
