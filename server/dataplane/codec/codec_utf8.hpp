// UTF-8, as RFC 3629 and Unicode's table 3-7 define it: no overlong forms, no surrogates, nothing beyond U+10FFFF.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>

namespace penstock::dataplane {

// Length of the sequence at `p`, or 0 when it is none. Reads nothing at or beyond `end`; p != end.
[[nodiscard]] inline std::size_t utf8_length(const char* p, const char* end) noexcept {
  const auto byte = [p](std::ptrdiff_t i) { return static_cast<unsigned char>(p[i]); };
  const auto follows = [&](std::ptrdiff_t i) { return (byte(i) & 0xC0U) == 0x80U; };
  const unsigned char lead = byte(0);
  const std::ptrdiff_t left = end - p;
  if (lead < 0x80) return 1;
  if (lead >= 0xC2 && lead <= 0xDF) return left >= 2 && follows(1) ? 2 : 0;
  if (lead >= 0xE0 && lead <= 0xEF) {
    if (left < 3 || !follows(1) || !follows(2)) return 0;
    if (lead == 0xE0 && byte(1) < 0xA0) return 0;  // overlong
    if (lead == 0xED && byte(1) > 0x9F) return 0;  // a surrogate
    return 3;
  }
  if (lead >= 0xF0 && lead <= 0xF4) {
    if (left < 4 || !follows(1) || !follows(2) || !follows(3)) return 0;
    if (lead == 0xF0 && byte(1) < 0x90) return 0;  // overlong
    if (lead == 0xF4 && byte(1) > 0x8F) return 0;  // beyond U+10FFFF
    return 4;
  }
  return 0;
}

[[nodiscard]] inline bool is_utf8(std::string_view text) noexcept {
  const char* p = text.data();
  const char* const end = p + text.size();
  while (p != end) {
    const std::size_t length = utf8_length(p, end);
    if (length == 0) return false;
    p += length;
  }
  return true;
}

// As much of `text` from its beginning as is UTF-8 and has at most `bytes_max` bytes: no character is cut.
[[nodiscard]] inline std::string_view utf8_begin(std::string_view text, std::size_t bytes_max) noexcept {
  const char* p = text.data();
  const char* const end = p + std::min(text.size(), bytes_max);
  while (p != end) {
    const std::size_t length = utf8_length(p, end);
    if (length == 0) break;
    p += length;
  }
  return {text.data(), static_cast<std::size_t>(p - text.data())};
}

// `text`, or where it is no UTF-8 `memory` with U+FFFD for what is none: strings of protobuf are refused otherwise.
[[nodiscard]] inline std::string_view utf8_of(std::string_view text, std::string& memory) {
  if (is_utf8(text)) return text;
  memory.clear();
  const char* const end = text.data() + text.size();
  for (const char* at = text.data(); at != end;) {
    const std::size_t length = utf8_length(at, end);
    memory.append(length == 0 ? std::string_view("\xef\xbf\xbd") : std::string_view(at, length));
    at += std::max<std::size_t>(length, 1);
  }
  return memory;
}

}  // namespace penstock::dataplane
