// Tensor elements to JSON: the shortest text that reads back as the same value of the same type.
#pragma once

#include <charconv>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string_view>
#include <type_traits>

#include "penstock/kernels/dtype.hpp"
#include "penstock/kernels/half.hpp"

namespace penstock::dataplane {

// The longest text of one element. Floats: sign, digits, point and exponent, and ".0" behind whole numbers.
[[nodiscard]] constexpr std::size_t json_bytes_max(DType dtype) noexcept {
  switch (dtype) {
    case DType::kBool:
      return 5;
    case DType::kUint8:
      return 3;
    case DType::kInt8:
      return 4;
    case DType::kUint16:
      return 5;
    case DType::kInt16:
      return 6;
    case DType::kUint32:
      return 10;
    case DType::kInt32:
      return 11;
    case DType::kUint64:
    case DType::kInt64:
      return 20;
    case DType::kFloat16:
    case DType::kFloat32:
      return 18;
    case DType::kFloat64:
      return 27;
    case DType::kBytes:
      return 2;  // its quotes
  }
  return 0;
}

namespace number_detail {

[[nodiscard]] inline char* write_text(std::string_view text, char* out) noexcept {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

template <std::floating_point T>
[[nodiscard]] char* write_float(T value, char* out) noexcept {
  if (!std::isfinite(value)) [[unlikely]] {
    return write_text(std::isnan(value) ? "\"NaN\"" : value > 0 ? "\"Infinity\"" : "\"-Infinity\"", out);
  }
  constexpr std::size_t kBytesMax = json_bytes_max(sizeof(T) == 4 ? DType::kFloat32 : DType::kFloat64);
  char* const end = std::to_chars(out, out + kBytesMax, value).ptr;
  // A whole number keeps a fraction: "3" would read back as an integer in most languages, and "-0" lose its sign.
  if (value != std::trunc(value) || std::memchr(out, 'e', static_cast<std::size_t>(end - out)) != nullptr) return end;
  return write_text(".0", end);
}

}  // namespace number_detail

// Writes at most json_bytes_max() bytes; the end of what was written.
template <typename T>
[[nodiscard]] inline char* write_element(T value, char* out) noexcept {
  if constexpr (std::is_same_v<T, bool>) {
    return number_detail::write_text(value ? "true" : "false", out);
  } else if constexpr (std::is_same_v<T, Half>) {
    return number_detail::write_float(to_float(value), out);
  } else if constexpr (std::is_floating_point_v<T>) {
    return number_detail::write_float(value, out);
  } else {
    return std::to_chars(out, out + std::numeric_limits<T>::digits10 + 2, value).ptr;
  }
}

}  // namespace penstock::dataplane
