// IEEE 754 binary16: one value, and the conversions every lane is compared with.
#pragma once

#include <bit>
#include <cstdint>

namespace penstock {

// A float16 in storage. Arithmetic happens in float32 or float64.
struct Half {
  std::uint16_t bits = 0;
};

inline constexpr float kHalfMax = 65504.0F;

// Exact: every float16 is a float32.
[[nodiscard]] constexpr float to_float(Half half) noexcept {
  const std::uint32_t sign = static_cast<std::uint32_t>(half.bits & 0x8000U) << 16;
  const std::uint32_t exponent = (half.bits >> 10) & 0x1FU;
  const std::uint32_t fraction = half.bits & 0x3FFU;
  if (exponent == 0) {  // zero or subnormal: fraction * 2^-24, a normal float32
    const float magnitude = static_cast<float>(fraction) * 0x1p-24F;
    return std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign);
  }
  if (exponent == 0x1F) {  // infinity, or a NaN made quiet as the hardware does
    const std::uint32_t quiet = fraction == 0 ? 0U : 0x400000U;
    return std::bit_cast<float>(sign | 0x7F800000U | quiet | (fraction << 13));
  }
  return std::bit_cast<float>(sign | ((exponent + 112U) << 23) | (fraction << 13));
}

// To the nearest float16, ties to even; beyond kHalfMax by half a step or more gives infinity.
[[nodiscard]] constexpr Half to_half(double value) noexcept {
  const auto bits = std::bit_cast<std::uint64_t>(value);
  const auto sign = static_cast<std::uint16_t>((bits >> 48) & 0x8000U);
  const auto exponent = static_cast<int>((bits >> 52) & 0x7FFU) - 1023;
  std::uint64_t fraction = bits & 0xFFFFFFFFFFFFFULL;
  const auto signed_half = [sign](std::uint64_t magnitude) {
    return Half{static_cast<std::uint16_t>(sign | magnitude)};
  };

  if (exponent == 1024 && fraction != 0) return signed_half(0x7E00U | (fraction >> 42));
  if (exponent > 15) return signed_half(0x7C00U);
  if (exponent < -25) return signed_half(0);
  // A subnormal result keeps fewer bits of the significand, which then has its leading one written out.
  int dropped_bits = 42;
  std::uint64_t magnitude = static_cast<std::uint64_t>(exponent + 15) << 10;
  if (exponent < -14) {
    dropped_bits = 42 + (-14 - exponent);
    fraction |= 1ULL << 52;
    magnitude = 0;
  }
  magnitude += fraction >> dropped_bits;
  const std::uint64_t dropped = fraction & ((1ULL << dropped_bits) - 1);
  const std::uint64_t tie = 1ULL << (dropped_bits - 1);
  // A carry out of the fraction moves to the next exponent, and from the largest value to infinity, as it must.
  if (dropped > tie || (dropped == tie && (magnitude & 1U) != 0)) ++magnitude;
  return signed_half(magnitude);
}

}  // namespace penstock
