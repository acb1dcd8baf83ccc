// Number parsing against std::from_chars, against exact midpoints, and against the grammar.
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <limits>
#include <random>
#include <string>
#include <string_view>
#include <type_traits>

#include "check.hpp"
#include "codec/codec_number.hpp"
#include "codec/codec_number_text.hpp"

namespace {

using penstock::Half;
using namespace penstock::dataplane;

std::uint64_t random_bits() {
  static std::mt19937_64 engine(20240611);
  return engine();
}

std::uint64_t below(std::uint64_t bound) { return random_bits() % bound; }

std::string digits(std::size_t count) {
  std::string text;
  for (std::size_t i = 0; i < count; ++i) text += static_cast<char>('0' + below(10));
  return text;
}

// A number of JSON's grammar, of a shape that readers find hard in one way or another.
std::string random_number() {
  std::string text;
  if (below(2) == 0) text.append("-");
  if (below(3) == 0) {
    text.append("0");
  } else {
    text.append(1, static_cast<char>('1' + below(9))).append(digits(below(below(8) == 0 ? 30 : 6)));
  }
  if (below(4) != 0) {
    text.append(".").append(below(4) == 0 ? below(12) : 0, '0').append(digits(1 + below(below(4) == 0 ? 40 : 9)));
  }
  if (below(3) == 0) {
    text.append(below(2) == 0 ? "e" : "E");
    text.append(below(3) == 0 ? "+" : below(2) == 0 ? "-" : "");
    text.append(std::to_string(below(below(4) == 0 ? 330 : 40)));
  }
  return text;
}

template <typename T>
std::string exactly(T value) {
  char buffer[1500];
  return {buffer, std::to_chars(buffer, buffer + sizeof(buffer), value, std::chars_format::fixed, 1074).ptr};
}

template <typename T>
std::string shortest(T value) {
  char buffer[64];
  return {buffer, std::to_chars(buffer, buffer + sizeof(buffer), value).ptr};
}

template <typename T>
bool same_bits(T left, T right) {
  using Bits = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;
  return std::bit_cast<Bits>(left) == std::bit_cast<Bits>(right);
}

template <typename T>
void compare_with_from_chars(const std::string& text) {
  T expected = 0;
  const auto answer = std::from_chars(text.data(), text.data() + text.size(), expected);
  T value = 0;
  const char* const end = read_number(text.data(), text.data() + text.size(), value);
  const bool too_large = std::isinf(expected) || (answer.ec == std::errc::result_out_of_range && end == nullptr);
  if (too_large) {
    CHECK(end == nullptr);
    CHECK(explain_number(text.data(), text.data() + text.size(), false) == NumberFault::kOutOfRange);
    return;
  }
  CHECK(end == text.data() + text.size());
  CHECK(answer.ec == std::errc{} || value == 0);  // too small for any but zero
  if (answer.ec == std::errc{} && !same_bits(value, expected)) {
    std::fprintf(stderr, "%s: %s instead of %s\n", text.c_str(), shortest(value).c_str(), shortest(expected).c_str());
    CHECK(false);
  }
}

template <typename T>
T must_read(std::string_view text) {
  T value{};
  CHECK(read_number(text.data(), text.data() + text.size(), value) == text.data() + text.size());
  return value;
}

// 2.5000 becomes 2.49999.
std::string just_below(std::string text) {
  const std::size_t last = text.find_last_not_of("0.");
  text[last] = static_cast<char>(text[last] - 1);
  for (std::size_t i = last + 1; i < text.size(); ++i) {
    if (text[i] != '.') text[i] = '9';
  }
  return text + "9";
}

// The decimals of the midpoint of two neighbours, and of a hair above and below it.
template <typename T>
void check_midpoint(T low, T high) {
  const std::string middle = exactly(static_cast<double>(low) / 2 + static_cast<double>(high) / 2);
  const auto bits = [](T value) { return std::bit_cast<std::uint32_t>(value); };
  CHECK(must_read<T>(middle) == ((bits(low) & 1U) == 0 ? low : high));
  CHECK(must_read<T>(middle + "1") == high);
  CHECK(must_read<T>(just_below(middle)) == low);
}

void check_half_midpoint(std::uint16_t bits) {
  const double low = static_cast<double>(penstock::to_float(Half{bits}));
  const double high =
      bits == 0x7BFF ? 65536.0 : static_cast<double>(penstock::to_float(Half{static_cast<std::uint16_t>(bits + 1)}));
  const std::string middle = exactly((low + high) / 2);
  for (const std::string sign : {"", "-"}) {
    const auto signed_bits = static_cast<std::uint16_t>(bits | (sign.empty() ? 0U : 0x8000U));
    CHECK(must_read<Half>(sign + just_below(middle)).bits == signed_bits);
    if (bits == 0x7BFF) {
      Half unused;
      CHECK(read_number(middle.data(), middle.data() + middle.size(), unused) == nullptr);
      continue;
    }
    CHECK(must_read<Half>(sign + middle).bits == static_cast<std::uint16_t>(signed_bits + (bits & 1U)));
    CHECK(must_read<Half>(sign + middle + "1").bits == static_cast<std::uint16_t>(signed_bits + 1));
    CHECK(must_read<Half>(sign + exactly(low)).bits == signed_bits);
  }
}

void check_floats() {
  for (int i = 0; i < 1500000; ++i) {
    const std::string text = random_number();
    compare_with_from_chars<float>(text);
    compare_with_from_chars<double>(text);
  }
  for (int i = 0; i < 500000; ++i) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random_bits()));
    const auto wide = std::bit_cast<double>(random_bits());
    if (std::isfinite(value)) {
      compare_with_from_chars<float>(shortest(value));
      compare_with_from_chars<float>(shortest(static_cast<double>(value)));  // what Python's float(x) prints
    }
    if (std::isfinite(wide)) compare_with_from_chars<double>(shortest(wide));
  }
  for (int i = 0; i < 3000; ++i) {
    const auto low = std::bit_cast<float>(static_cast<std::uint32_t>(below(0x7F000000)));
    check_midpoint(low, std::nextafter(low, std::numeric_limits<float>::max()));
  }
  // Decimals of few digits that are midpoints exactly: where the fast path must step aside.
  for (std::uint32_t odd = 16777217; odd < 16787217; odd += 2) {
    compare_with_from_chars<float>(std::to_string(odd));
    compare_with_from_chars<float>(std::to_string(odd) + "e1");
    compare_with_from_chars<float>(std::to_string(odd * 5ULL) + "e-1");
  }
  for (std::uint32_t bits = 0; bits < 0x7C00; ++bits) check_half_midpoint(static_cast<std::uint16_t>(bits));
}

template <typename T>
void check_integers() {
  __extension__ using Wide = __int128;
  constexpr int kBits = 8 * sizeof(T);
  constexpr Wide kMin = std::is_signed_v<T> ? -(Wide{1} << (kBits - 1)) : 0;
  constexpr Wide kMax = (Wide{1} << (std::is_signed_v<T> ? kBits - 1 : kBits)) - 1;
  const auto text_of = [](Wide value) {
    std::string text;
    Wide rest = value < 0 ? -value : value;
    do {
      text.insert(text.begin(), static_cast<char>('0' + static_cast<int>(rest % 10)));
      rest /= 10;
    } while (rest != 0);
    if (value < 0) text.insert(text.begin(), '-');
    return text;
  };
  const auto check = [&](Wide number) {
    const std::string text = text_of(number);
    T value = 0;
    const char* const end = read_number(text.data(), text.data() + text.size(), value);
    CHECK((end != nullptr) == (number >= kMin && number <= kMax));
    if (end == nullptr) {
      CHECK(explain_number(text.data(), text.data() + text.size(), true) == NumberFault::kOutOfRange);
      return;
    }
    CHECK(end == text.data() + text.size() && value == static_cast<T>(number));
    char written[32];
    CHECK(std::string(written, write_element(value, written)) == text);
  };
  for (Wide offset = -300; offset <= 300; ++offset) {
    check(offset);
    check(kMin + offset);
    check(kMax + offset);
    check(kMax * 10 + offset);
  }
  for (int i = 0; i < 20000; ++i) check(static_cast<T>(random_bits() >> below(64)));
  T value = 1;
  const std::string_view minus_zero = "-0";
  CHECK(read_number(minus_zero.data(), minus_zero.data() + 2, value) != nullptr && value == 0);
  for (const std::string_view text : {"3.0", "1e2", "0.5", "-0.0", "0e0"}) {
    CHECK(read_number(text.data(), text.data() + text.size(), value) == nullptr);
    CHECK(explain_number(text.data(), text.data() + text.size(), true) == NumberFault::kNotInteger);
  }
}

void check_grammar() {
  // What no reader may take as a number.
  for (const std::string_view text : {"", "-", "+1", ".5", "-.5", "1.", "1.e5", "1e", "1e+", "1e-", "NaN", "Infinity",
                                      "-Infinity", "inf", "nan", "x", "\"1\"", " 1"}) {
    double value = 0;
    CHECK(read_number(text.data(), text.data() + text.size(), value) == nullptr);
  }
  // Numbers that end early: what stands behind them is refused where it stands.
  for (const auto& [text, length] : {std::pair<std::string_view, std::size_t>{"01", 1},
                                     {"-00", 2},
                                     {"0x10", 1},
                                     {"1.5f", 3},
                                     {"1_000", 1},
                                     {"1e5.5", 3},
                                     {"12345678x", 8},
                                     {"0.12345678x", 10}}) {
    double value = 0;
    CHECK(read_number(text.data(), text.data() + text.size(), value) == text.data() + length);
  }
  CHECK(std::signbit(must_read<float>("-0")) && std::signbit(must_read<double>("-0.0e7")));
  CHECK(must_read<double>("0e999999999999999999999") == 0.0);
  CHECK(must_read<float>("1e-999999999999999999999") == 0.0F);
  CHECK(std::signbit(must_read<float>("-1e-400")));
  CHECK(must_read<double>("0." + std::string(400, '0') + "1e401") == 1.0);
  CHECK(must_read<double>("1" + std::string(400, '0') + "e-400") == 1.0);
  CHECK(must_read<Half>("1e-9").bits == 0 && must_read<Half>("-1e-9").bits == 0x8000);
  for (const std::string text : {"1e999999999999999999999", "3.5e38", "-1e39", "1e309"}) {
    float value = 0;
    CHECK(read_number(text.data(), text.data() + text.size(), value) == nullptr);
  }
}

void check_text() {
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const Half half{static_cast<std::uint16_t>(bits)};
    if (!std::isfinite(penstock::to_float(half))) continue;
    char out[32];
    char* const end = write_element(half, out);
    CHECK(static_cast<std::size_t>(end - out) <= json_bytes_max(penstock::DType::kFloat16));
    CHECK(must_read<Half>(std::string_view(out, static_cast<std::size_t>(end - out))).bits == half.bits);
  }
  for (int i = 0; i < 500000; ++i) {
    const auto value = std::bit_cast<float>(static_cast<std::uint32_t>(random_bits()));
    const auto wide = std::bit_cast<double>(random_bits());
    char out[32];
    char* end = write_element(value, out);
    CHECK(static_cast<std::size_t>(end - out) <= json_bytes_max(penstock::DType::kFloat32));
    if (std::isfinite(value))
      CHECK(same_bits(must_read<float>(std::string_view(out, static_cast<std::size_t>(end - out))), value));
    end = write_element(wide, out);
    CHECK(static_cast<std::size_t>(end - out) <= json_bytes_max(penstock::DType::kFloat64));
    if (std::isfinite(wide))
      CHECK(same_bits(must_read<double>(std::string_view(out, static_cast<std::size_t>(end - out))), wide));
  }
  const auto text = [](auto value) {
    char out[32];
    return std::string(out, write_element(value, out));
  };
  CHECK(text(3.0F) == "3.0" && text(-0.0) == "-0.0" && text(0.1F) == "0.1" && text(1e10F) == "1e+10");
  CHECK(text(std::numeric_limits<double>::quiet_NaN()) == "\"NaN\"" && text(-HUGE_VALF) == "\"-Infinity\"");
}

}  // namespace

int main() {
  check_grammar();
  check_floats();
  check_integers<std::uint8_t>();
  check_integers<std::uint16_t>();
  check_integers<std::uint32_t>();
  check_integers<std::uint64_t>();
  check_integers<std::int8_t>();
  check_integers<std::int16_t>();
  check_integers<std::int32_t>();
  check_integers<std::int64_t>();
  check_text();
  return 0;
}
