// JSON number tokens to tensor elements, correctly rounded to the element's own type.
//
// The functions in this header are the fast path: they return the end of the token, or nullptr for anything they do not
// accept, and codec_number.cpp says afterwards why. None reads at or beyond `end`: bodies are not padded.
#pragma once

#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "penstock/kernels/half.hpp"

namespace penstock::dataplane {

static_assert(std::endian::native == std::endian::little, "tensors and eight-digit loads are little-endian");

// value = digits * 10^exponent, exactly when `significant` <= 19; with more digits `digits` has wrapped.
struct Decimal {
  std::uint64_t digits = 0;
  std::int32_t exponent = 0;
  std::uint32_t significant = 0;  // digits counted from the first that is not zero, or a few more
  bool negative = false;
};

enum class NumberFault : std::uint8_t { kNone, kMalformed, kNotInteger, kOutOfRange };

inline constexpr std::array<double, 23> kPowersOfTen{1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                     1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                     1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};

namespace number_detail {

inline constexpr std::array<std::uint64_t, 16> kSmallPowersOfTen{1ULL,
                                                                 10ULL,
                                                                 100ULL,
                                                                 1000ULL,
                                                                 10000ULL,
                                                                 100000ULL,
                                                                 1000000ULL,
                                                                 10000000ULL,
                                                                 100000000ULL,
                                                                 1000000000ULL,
                                                                 10000000000ULL,
                                                                 100000000000ULL,
                                                                 1000000000000ULL,
                                                                 10000000000000ULL,
                                                                 100000000000000ULL,
                                                                 1000000000000000ULL};

[[nodiscard]] inline bool is_digit(char c) noexcept { return static_cast<unsigned char>(c - '0') <= 9; }

// The value of eight digits (0 to 9 each), the first in the lowest byte.
[[nodiscard]] inline std::uint64_t eight_digits(std::uint64_t bytes) noexcept {
  bytes = bytes * 10 + (bytes >> 8);
  return (((bytes & 0x000000FF000000FFULL) * 0x000F424000000064ULL) +
          (((bytes >> 16) & 0x000000FF000000FFULL) * 0x0000271000000001ULL)) >>
         32;
}

// Of eight characters, each less '0', the high bit of each that is no digit. A carry out of one spoils later ones only,
// and the first one counts.
[[nodiscard]] inline std::uint64_t others_among(std::uint64_t bytes) noexcept {
  return ((bytes + 0x7676767676767676ULL) | bytes) & 0x8080808080808080ULL;
}

// Appends the digits at `p`, eight at a time while the body lasts: a loop by digits mispredicts where each number ends.
[[nodiscard]] inline const char* append_digits(const char* p, const char* end, std::uint64_t& digits) noexcept {
  while (end - p >= 8) {
    std::uint64_t bytes = 0;
    std::memcpy(&bytes, p, sizeof(bytes));
    bytes ^= 0x3030303030303030ULL;
    const std::uint64_t others = others_among(bytes);
    if (others == 0) {
      digits = digits * 100000000 + eight_digits(bytes);
      p += 8;
      continue;
    }
    const auto count = static_cast<unsigned>(std::countr_zero(others)) / 8;
    if (count != 0) digits = digits * kSmallPowersOfTen[count] + eight_digits(bytes << (64 - 8 * count));
    return p + count;
  }
  while (p != end && is_digit(*p)) digits = digits * 10 + static_cast<std::uint64_t>(*p++ - '0');
  return p;
}

// Reads an exponent behind its 'e' and adds it, saturated far beyond any finite number.
[[nodiscard]] const char* add_exponent(const char* p, const char* end, std::int32_t& exponent) noexcept;

// Bytes that scan_short() looks at.
inline constexpr std::ptrdiff_t kShortBytes = 18;

// A digit, a point and up to 15 digits: how nearly all numbers of tensors are written. Their values and lengths are as
// good as random, so no branch depends on them: in a body of many numbers each would be mispredicted at every third.
// nullptr: it is something else.
[[nodiscard, gnu::always_inline]] inline const char* scan_short(const char* p, Decimal& out) noexcept {
  constexpr std::uint64_t kZeros = 0x3030303030303030ULL;
  const auto whole = static_cast<unsigned char>(p[0] - '0');
  std::uint64_t first = 0;
  std::uint64_t second = 0;
  std::memcpy(&first, p + 2, sizeof(first));
  std::memcpy(&second, p + 10, sizeof(second));
  first ^= kZeros;
  second ^= kZeros;
  const auto in_first = static_cast<unsigned>(std::countr_zero(others_among(first))) / 8;
  // Those of the second eight count if all of the first are digits.
  const unsigned in_second = static_cast<unsigned>(std::countr_zero(others_among(second))) / 8 & (0U - (in_first >> 3));
  const unsigned count = in_first + in_second;
  if (whole > 9 || p[1] != '.' || count - 1 > 14 || (p[2 + count] | 0x20) == 'e') return nullptr;
  out.digits = whole * kSmallPowersOfTen[count] +
               eight_digits(first << (64 - 8 * in_first)) * kSmallPowersOfTen[in_second] +
               eight_digits(second << 1 << (63 - 8 * in_second));
  out.exponent = -static_cast<std::int32_t>(count);
  out.significant = count + 1;
  return p + 2 + count;
}

// Any number without its sign.
[[nodiscard, gnu::noinline]] inline const char* scan_magnitude(const char* p, const char* end, Decimal& out) noexcept {
  if (p == end || !is_digit(*p)) return nullptr;
  std::uint64_t digits = static_cast<std::uint64_t>(*p++ - '0');
  const char* first_significant = p - 1;
  if (digits != 0) {
    while (p != end && is_digit(*p)) digits = digits * 10 + static_cast<std::uint64_t>(*p++ - '0');
  } else {
    first_significant = p;
  }
  std::int64_t significant = p - first_significant;
  std::int64_t exponent = 0;
  if (p != end && *p == '.') {
    const char* const fraction = ++p;
    if (p == end || !is_digit(*p)) return nullptr;
    if (digits == 0) {
      while (p != end && *p == '0') ++p;
    }
    first_significant = p;
    p = append_digits(p, end, digits);
    significant += p - first_significant;
    exponent = fraction - p;
  }
  out.digits = digits;
  // Both are bounded by the length of a body; a saturated one sends the number to the slow path, where it is read anew.
  out.significant = static_cast<std::uint32_t>(significant > 1000000 ? 1000000 : significant);
  out.exponent = static_cast<std::int32_t>(exponent < -1000000 ? -1000000 : exponent);
  if (p != end && (*p == 'e' || *p == 'E')) p = add_exponent(p + 1, end, out.exponent);
  return p;
}

}  // namespace number_detail

// Reads one number of RFC 8259's grammar. What follows it is the caller's to judge ("01" ends behind its zero).
// Inlined, so that what it finds stays in registers.
[[nodiscard, gnu::always_inline]] inline const char* scan_number(const char* p, const char* end,
                                                                 Decimal& out) noexcept {
  out.negative = p != end && *p == '-';
  p += out.negative ? 1 : 0;
  if (end - p >= number_detail::kShortBytes) {
    const char* const next = number_detail::scan_short(p, out);
    if (next != nullptr) [[likely]]
      return next;
  }
  return number_detail::scan_magnitude(p, end, out);
}

namespace number_detail {

// The token [begin, end) is a number of JSON's grammar. kOutOfRange: it rounds to infinity.
[[nodiscard]] NumberFault round_slowly(const char* begin, const char* end, float& value) noexcept;
[[nodiscard]] NumberFault round_slowly(const char* begin, const char* end, double& value) noexcept;
[[nodiscard]] NumberFault round_slowly(const char* begin, const char* end, Half& value) noexcept;

// True: `value` is the double nearest to the decimal. Clinger's case: both operands and so the one rounding are exact.
[[nodiscard]] inline bool round_quickly(const Decimal& decimal, double& value) noexcept {
  if (decimal.significant > 19 || decimal.digits > (1ULL << 53) || decimal.exponent < -22 || decimal.exponent > 22) {
    return false;
  }
  const auto digits = static_cast<double>(static_cast<std::int64_t>(decimal.digits));
  const double magnitude = decimal.exponent < 0 ? digits / kPowersOfTen[static_cast<std::size_t>(-decimal.exponent)]
                                                : digits * kPowersOfTen[static_cast<std::size_t>(decimal.exponent)];
  value = std::bit_cast<double>(std::bit_cast<std::uint64_t>(magnitude) | std::uint64_t{decimal.negative} << 63);
  return true;
}

// True: `value` is the float32 nearest to the decimal, by way of a double d with two roundings (of digits and of the
// quotient or product), so |d - x| < 3 units in the last place of d. Rounding d again is right unless a midpoint of two
// neighbouring float32 lies between d and x; midpoints end in 1 and 28 zeros here, and 4 units of distance exclude
// that. The bounds keep d within float32's normal range, where this holds: 1e-22 <= |d| < 1e37, or zero.
[[nodiscard]] inline bool round_quickly(const Decimal& decimal, float& value) noexcept {
  if (decimal.significant > 18 || decimal.exponent < -22 || decimal.exponent > 19) return false;
  const auto digits = static_cast<double>(static_cast<std::int64_t>(decimal.digits));
  const double magnitude = decimal.exponent < 0 ? digits / kPowersOfTen[static_cast<std::size_t>(-decimal.exponent)]
                                                : digits * kPowersOfTen[static_cast<std::size_t>(decimal.exponent)];
  const std::uint64_t tail = std::bit_cast<std::uint64_t>(magnitude) & 0x1FFFFFFFULL;
  if (tail - (0x10000000ULL - 4) <= 8) return false;
  // Signs are random, too: no branch.
  value = std::bit_cast<float>(std::bit_cast<std::uint32_t>(static_cast<float>(magnitude)) |
                               std::uint32_t{decimal.negative} << 31);
  return true;
}

}  // namespace number_detail

template <typename T>
concept FloatElement = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, Half>;

// Reads a number as T. nullptr: not a number, or out of T's range.
template <FloatElement T>
[[nodiscard]] inline const char* read_number(const char* p, const char* end, T& value) noexcept {
  Decimal decimal;
  const char* const next = scan_number(p, end, decimal);
  if (next == nullptr) return nullptr;
  if constexpr (!std::same_as<T, Half>) {
    if (number_detail::round_quickly(decimal, value)) return next;
  }
  return number_detail::round_slowly(p, next, value) == NumberFault::kNone ? next : nullptr;
}

// Reads an integer token ("3", not "3.0" nor "3e0") as T. nullptr: not an integer token, or out of T's range.
template <std::integral T>
[[nodiscard]] inline const char* read_number(const char* p, const char* end, T& value) noexcept {
  const bool negative = p != end && *p == '-';
  p += negative ? 1 : 0;
  if (p == end || !number_detail::is_digit(*p)) return nullptr;
  std::uint64_t magnitude = static_cast<std::uint64_t>(*p++ - '0');
  if (magnitude != 0) {
    while (p != end && number_detail::is_digit(*p)) {
      if (__builtin_mul_overflow(magnitude, 10ULL, &magnitude)) return nullptr;
      if (__builtin_add_overflow(magnitude, static_cast<std::uint64_t>(*p - '0'), &magnitude)) return nullptr;
      ++p;
    }
  }
  if (p != end && (*p == '.' || *p == 'e' || *p == 'E')) return nullptr;
  constexpr auto kMax = static_cast<std::uint64_t>(std::numeric_limits<T>::max());
  const std::uint64_t largest = !negative ? kMax : std::signed_integral<T> ? kMax + 1 : 0;
  if (magnitude > largest) return nullptr;
  // Wraps as two's complement does, and so is right for the smallest value of T too.
  value = static_cast<T>(negative ? 0 - magnitude : magnitude);
  return p;
}

// Why read_number<T> refused the token at `p`: T is an integer type or not.
[[nodiscard]] NumberFault explain_number(const char* p, const char* end, bool wants_integer) noexcept;

// The three values that JSON's numbers lack, as strings: "NaN", "Infinity", "-Infinity", spelled so and without
// escapes.
[[nodiscard]] const char* read_special(const char* p, const char* end, double& value) noexcept;

}  // namespace penstock::dataplane
