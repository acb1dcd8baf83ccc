#include "http/json_text.hpp"

#include <cstddef>
#include <cstring>

namespace penstock::dataplane {
namespace {

// Length of the UTF-8 sequence at the start of `text` (Unicode 15, table 3-7), 0 when there is none.
std::size_t utf8_length(std::string_view text) noexcept {
  const auto byte = [text](std::size_t i) { return static_cast<unsigned>(static_cast<unsigned char>(text[i])); };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  const std::size_t length = lead >= 0xf0 ? 4 : (lead >= 0xe0 ? 3 : 2);
  if (lead < 0xc2 || lead > 0xf4 || text.size() < length) return 0;
  // The second byte excludes overlong forms, surrogates and what lies past U+10FFFF.
  const unsigned low = lead == 0xe0 ? 0xa0 : (lead == 0xf0 ? 0x90 : 0x80);
  const unsigned high = lead == 0xed ? 0x9f : (lead == 0xf4 ? 0x8f : 0xbf);
  if (byte(1) < low || byte(1) > high) return 0;
  for (std::size_t i = 2; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  return length;
}

char* write_escape(char* out, unsigned char c) noexcept {
  constexpr std::string_view kDigits = "0123456789abcdef";
  *out++ = '\\';
  switch (c) {
    case '"':
    case '\\':
      *out++ = static_cast<char>(c);
      return out;
    case '\b':
      *out++ = 'b';
      return out;
    case '\t':
      *out++ = 't';
      return out;
    case '\n':
      *out++ = 'n';
      return out;
    case '\f':
      *out++ = 'f';
      return out;
    case '\r':
      *out++ = 'r';
      return out;
    default:
      break;
  }
  std::memcpy(out, "u00", 3);
  out[3] = kDigits[c >> 4];
  out[4] = kDigits[c & 15];
  return out + 5;
}

}  // namespace

char* write_json_string(char* out, std::string_view text) noexcept {
  *out++ = '"';
  while (!text.empty()) {
    const auto c = static_cast<unsigned char>(text.front());
    std::size_t length = utf8_length(text);
    if (length == 0) {
      std::memcpy(out, "\xef\xbf\xbd", 3);
      out += 3;
      length = 1;
    } else if (c < 0x20 || c == '"' || c == '\\' || c == 0x7f) {
      out = write_escape(out, c);
    } else {
      std::memcpy(out, text.data(), length);
      out += length;
    }
    text.remove_prefix(length);
  }
  *out++ = '"';
  return out;
}

}  // namespace penstock::dataplane
