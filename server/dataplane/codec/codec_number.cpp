#include "codec/codec_number.hpp"

#include <charconv>
#include <string_view>
#include <system_error>

namespace penstock::dataplane {
namespace number_detail {
namespace {

// Digits that count, and the power of ten of the first of them; both tokens and exact expansions are compared this way.
class DigitReader {
 public:
  DigitReader(const char* begin, const char* end) noexcept : at_(begin), end_(begin) {
    while (end_ != end && *end_ != 'e' && *end_ != 'E') ++end_;
    std::int32_t exponent = 0;
    if (end_ != end) static_cast<void>(add_exponent(end_ + 1, end, exponent));
    if (at_ != end_ && *at_ == '-') ++at_;
    const char* point = at_;
    while (point != end_ && *point != '.') ++point;
    while (at_ != end_ && (*at_ == '0' || *at_ == '.')) ++at_;
    is_zero_ = at_ == end_;
    power_ = exponent + (at_ < point ? point - at_ - 1 : point - at_);
  }

  [[nodiscard]] bool is_zero() const noexcept { return is_zero_; }
  // value = d.ddd * 10^power
  [[nodiscard]] std::int64_t power() const noexcept { return power_; }
  [[nodiscard]] bool at_end() const noexcept { return at_ == end_; }
  // The next digit; zeros without end behind the last.
  [[nodiscard]] char next() noexcept {
    if (at_ != end_ && *at_ == '.') ++at_;
    return at_ == end_ ? '0' : *at_++;
  }

 private:
  const char* at_;
  const char* end_;
  std::int64_t power_ = 0;
  bool is_zero_ = false;
};

// Sign of |token| - |value|, exactly. `value` has at most 40 significant decimal digits and is not zero.
int compare_magnitudes(const char* begin, const char* end, double value) noexcept {
  char exact[64];
  const auto written = std::to_chars(exact, exact + sizeof(exact), std::abs(value), std::chars_format::scientific, 40);
  DigitReader token(begin, end);
  DigitReader expansion(exact, written.ptr);
  if (token.is_zero()) return -1;
  if (token.power() != expansion.power()) return token.power() < expansion.power() ? -1 : 1;
  while (!token.at_end() || !expansion.at_end()) {
    const char left = token.next();
    const char right = expansion.next();
    if (left != right) return left < right ? -1 : 1;
  }
  return 0;
}

template <typename T>
NumberFault round_with_from_chars(const char* begin, const char* end, T& value) noexcept {
  const auto [unused, error] = std::from_chars(begin, end, value);
  static_cast<void>(unused);
  if (error == std::errc::result_out_of_range) {
    // Both a number too large and one too small end here; the second is zero to the nearest.
    if (DigitReader(begin, end).power() >= 0) return NumberFault::kOutOfRange;
    value = *begin == '-' ? -T{0} : T{0};
    return NumberFault::kNone;
  }
  return std::isinf(value) ? NumberFault::kOutOfRange : NumberFault::kNone;
}

}  // namespace

const char* add_exponent(const char* p, const char* end, std::int32_t& exponent) noexcept {
  const bool negative = p != end && *p == '-';
  if (p != end && (*p == '-' || *p == '+')) ++p;
  if (p == end || !is_digit(*p)) return nullptr;
  std::int32_t value = 0;
  for (; p != end && is_digit(*p); ++p) {
    if (value < 100000000) value = value * 10 + (*p - '0');
  }
  exponent += negative ? -value : value;
  return p;
}

NumberFault round_slowly(const char* begin, const char* end, float& value) noexcept {
  return round_with_from_chars(begin, end, value);
}

NumberFault round_slowly(const char* begin, const char* end, double& value) noexcept {
  return round_with_from_chars(begin, end, value);
}

NumberFault round_slowly(const char* begin, const char* end, Half& value) noexcept {
  double nearest = 0;
  if (round_with_from_chars(begin, end, nearest) != NumberFault::kNone) return NumberFault::kOutOfRange;
  // A second rounding errs only when the first one landed on the midpoint of two float16: step back to the side it came
  // from. Midpoints have 12 significant bits or fewer, so nearly all numbers skip this.
  if ((std::bit_cast<std::uint64_t>(nearest) & ((1ULL << 41) - 1)) == 0 && nearest != 0) {
    const double above = std::nextafter(nearest, nearest * 2);
    const double below = std::nextafter(nearest, 0.0);
    if (to_half(above).bits != to_half(below).bits) {
      const int side = compare_magnitudes(begin, end, nearest);
      if (side != 0) nearest = side > 0 ? above : below;
    }
  }
  value = to_half(nearest);
  return (value.bits & 0x7FFFU) == 0x7C00U ? NumberFault::kOutOfRange : NumberFault::kNone;
}

}  // namespace number_detail

NumberFault explain_number(const char* p, const char* end, bool wants_integer) noexcept {
  Decimal decimal;
  const char* const next = scan_number(p, end, decimal);
  if (next == nullptr) return NumberFault::kMalformed;
  if (wants_integer) {
    for (const char* at = p; at != next; ++at) {
      if (*at == '.' || *at == 'e' || *at == 'E') return NumberFault::kNotInteger;
    }
  }
  return NumberFault::kOutOfRange;
}

const char* read_special(const char* p, const char* end, double& value) noexcept {
  const std::string_view rest(p, static_cast<std::size_t>(end - p));
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  if (rest.starts_with("\"NaN\"")) {
    value = std::numeric_limits<double>::quiet_NaN();
    return p + 5;
  }
  if (rest.starts_with("\"Infinity\"")) {
    value = kInfinity;
    return p + 10;
  }
  if (rest.starts_with("\"-Infinity\"")) {
    value = -kInfinity;
    return p + 11;
  }
  return nullptr;
}

}  // namespace penstock::dataplane
