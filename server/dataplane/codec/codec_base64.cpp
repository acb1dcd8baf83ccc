#include "codec/codec_base64.hpp"

#include <array>
#include <cstddef>
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

// How long what stands at `at` is, which is one digit: JSON may have "\/" for a slash, and "\u002B" for a plus sign,
// as .NET writes it. `digit` is what it stands for.
std::size_t escape_at(std::string_view text, std::size_t at, char& digit) noexcept {
  const std::string_view rest = text.substr(at);
  if (rest.starts_with("\\/")) {
    digit = '/';
    return 2;
  }
  if (!rest.starts_with("\\u002") || rest.size() < 6) return 1;
  if (rest[5] == 'B' || rest[5] == 'b') digit = '+';
  if (rest[5] == 'F' || rest[5] == 'f') digit = '/';
  return digit == '\\' ? 1 : 6;
}

// Bytes that escapes are longer than their digits.
std::size_t bytes_of_escapes(std::string_view digits) noexcept {
  std::size_t bytes = 0;
  for (std::size_t at = digits.find('\\'); at != std::string_view::npos;) {
    char digit = '\\';
    const std::size_t length = escape_at(digits, at, digit);
    bytes += length - 1;
    at = digits.find('\\', at + length);
  }
  return bytes;
}

}  // namespace

std::optional<std::size_t> base64_bytes(std::string_view text) noexcept {
  const std::string_view digits = digits_of(text);
  const std::size_t escapes = bytes_of_escapes(digits);
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
    char character = digits[i];
    if (character == '\\') i += escape_at(digits, i, character) - 1;
    const std::uint8_t digit = kDigits[static_cast<unsigned char>(character)];
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
