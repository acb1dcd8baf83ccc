// Character classes of RFC 9110 and RFC 3986, and comparisons that ignore the case of ASCII letters.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock::dataplane {

enum CharClass : std::uint8_t {
  kTokenChar = 1,    // tchar: methods, field names, tokens
  kFieldChar = 2,    // HTAB, SP, VCHAR, obs-text: what may stand in a field value
  kUriChar = 4,      // pchar, '/', '?' of a request target; '%' only before two hexadecimal digits
  kRegNameChar = 8,  // reg-name of an authority; '%' as above
  kDigit = 16,
  kHexDigit = 32,
};

[[nodiscard]] consteval std::array<std::uint8_t, 256> char_classes() {
  std::array<std::uint8_t, 256> classes{};
  const auto add = [&classes](std::string_view chars, int flags) {
    for (const char c : chars) classes[static_cast<unsigned char>(c)] |= static_cast<std::uint8_t>(flags);
  };
  for (std::size_t c = 0x20; c < 256; ++c) classes[c] |= (c == 0x7f) ? 0 : kFieldChar;
  add("\t", kFieldChar);
  add("0123456789", kTokenChar | kUriChar | kRegNameChar | kDigit | kHexDigit);
  add("abcdefABCDEF", kHexDigit);
  add("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ", kTokenChar | kUriChar | kRegNameChar);
  add("!#$%&'*+-.^_`|~", kTokenChar);
  add("-._~!$&'()*+,;=%", kUriChar | kRegNameChar);
  add(":@/?", kUriChar);
  return classes;
}

inline constexpr std::array<std::uint8_t, 256> kCharClasses = char_classes();

[[nodiscard]] constexpr bool is_in(char c, CharClass wanted) noexcept {
  return (kCharClasses[static_cast<unsigned char>(c)] & wanted) != 0;
}

[[nodiscard]] constexpr bool all_in(std::string_view text, CharClass wanted) noexcept {
  for (const char c : text) {
    if (!is_in(c, wanted)) return false;
  }
  return true;
}

[[nodiscard]] constexpr bool is_blank(char c) noexcept { return c == ' ' || c == '\t'; }

// The value of a hexadecimal digit; `c` must be one.
[[nodiscard]] constexpr unsigned hex_value(char c) noexcept {
  return static_cast<unsigned>(c <= '9' ? c - '0' : (c | 0x20) - 'a' + 10);
}

[[nodiscard]] constexpr std::string_view trim_blanks(std::string_view text) noexcept {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

[[nodiscard]] constexpr char to_lower(char c) noexcept {
  return (c >= 'A' && c <= 'Z') ? static_cast<char>(c | 0x20) : c;
}

// `lower` must be in lower case.
[[nodiscard]] constexpr bool equals_ignoring_case(std::string_view text, std::string_view lower) noexcept {
  if (text.size() != lower.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (to_lower(text[i]) != lower[i]) return false;
  }
  return true;
}

// Takes the next element off a comma-separated list (RFC 9110 5.6.1), trimmed; elements may be empty. Not for lists
// whose elements hold quoted strings.
[[nodiscard]] constexpr std::string_view take_element(std::string_view& list) noexcept {
  const std::size_t comma = list.find(',');
  const std::string_view element = trim_blanks(list.substr(0, comma));
  list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
  return element;
}

}  // namespace penstock::dataplane
