#include "codec/codec_text.hpp"

#include <cstdio>
#include <cstring>

#include "codec/codec_utf8.hpp"

namespace penstock::dataplane {

void refuse_text(Problem& problem, const TensorPlace& place, std::size_t depth) noexcept {
  char expected[128];
  const int bytes = std::snprintf(expected, sizeof expected,
                                  "strings of %u bytes together (the model's setting string_bytes_max has more)",
                                  static_cast<unsigned>(place.spec.heap_bytes));
  refuse_tensor(problem, place, depth, {expected, static_cast<std::size_t>(bytes)}, "more");
}

char* write_json_text(std::string_view text, char* out) noexcept {
  constexpr std::string_view kHex = "0123456789abcdef";
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  const char* p = text.data();
  const char* const end = p + text.size();
  *out++ = '"';
  while (p != end) {
    const char c = *p;
    const auto byte = static_cast<unsigned char>(c);
    if (byte >= 0x80) {
      const std::size_t length = utf8_length(p, end);
      const std::string_view bytes = length == 0 ? kReplacement : std::string_view(p, length);
      std::memcpy(out, bytes.data(), bytes.size());
      out += bytes.size();
      p += length == 0 ? 1 : length;
      continue;
    }
    ++p;
    if (c == '"' || c == '\\') {
      *out++ = '\\';
      *out++ = c;
    } else if (byte < 0x20) {
      std::memcpy(out, "\\u00", 4);
      out[4] = kHex[byte >> 4];
      out[5] = kHex[byte & 0xFU];
      out += 6;
    } else {
      *out++ = c;
    }
  }
  *out++ = '"';
  return out;
}

}  // namespace penstock::dataplane
