#include "codec/codec_base64.hpp"

#include <algorithm>
#include <array>
#include <cstdint>

namespace penstock::dataplane {
namespace {

constexpr std::uint8_t kNoDigit = 0xFF;

consteval std::array<std::uint8_t, 256> make_digits() {
  std::array<std::uint8_t, 256> digits{};
  digits.fill(kNoDigit);
  constexpr std::string_view kAlphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::uint8_t value = 0;
  for (const char character : kAlphabet) digits[static_cast<unsigned char>(character)] = value++;
  return digits;
}

constexpr std::array<std::uint8_t, 256> kDigits = make_digits();

// Without padding: it says nothing that the length does not.
std::string_view digits_of(std::string_view text) noexcept {
  for (int padding = 0; padding < 2 && text.ends_with('='); ++padding) text.remove_suffix(1);
  return text;
}

}  // namespace

std::optional<std::size_t> base64_bytes(std::string_view text) noexcept {
  const std::string_view digits = digits_of(text);
  const auto escapes = static_cast<std::size_t>(std::ranges::count(digits, '\\'));
  const std::size_t count = digits.size() - escapes;
  if (count % 4 == 1) return std::nullopt;
  if (digits.size() != text.size() && (text.size() - escapes) % 4 != 0) return std::nullopt;
  return count / 4 * 3 + (count % 4 == 0 ? 0 : count % 4 - 1);
}

bool decode_base64(std::string_view text, char* out) noexcept {
  const std::string_view digits = digits_of(text);
  std::uint32_t group = 0;
  std::uint32_t count = 0;
  for (std::size_t i = 0; i < digits.size(); ++i) {
    if (digits[i] == '\\' && i + 1 < digits.size() && digits[i + 1] == '/') ++i;
    const std::uint8_t digit = kDigits[static_cast<unsigned char>(digits[i])];
    if (digit == kNoDigit) return false;
    group = group << 6 | digit;
    if (++count < 4) continue;
    for (const int shift : {16, 8, 0}) *out++ = static_cast<char>(group >> shift);
    group = count = 0;
  }
  // What is left over of the last digit must be zero, or two texts would stand for the same bytes.
  if (count == 2) *out++ = static_cast<char>(group >> 4);
  if (count == 3) {
    *out++ = static_cast<char>(group >> 10);
    *out++ = static_cast<char>(group >> 2);
  }
  const std::uint32_t left = count == 2 ? group & 15 : count == 3 ? group & 3 : 0;
  return left == 0;
}

}  // namespace penstock::dataplane
