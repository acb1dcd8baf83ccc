#include "codec/codec_json_text.hpp"

#include <bit>
#include <cstdint>
#include <cstring>

#include "codec/codec_number.hpp"
#include "codec/codec_utf8.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace penstock::dataplane {
namespace {

// The first quote, bracket or brace at or behind `p`, or `end`.
const char* find_structure(const char* p, const char* end) noexcept {
#if defined(__SSE2__)
  const __m128i quote = _mm_set1_epi8('"');
  const __m128i open = _mm_set1_epi8('{');
  const __m128i close = _mm_set1_epi8('}');
  const __m128i fold = _mm_set1_epi8(0x20);  // maps brackets to braces
  for (; end - p >= 16; p += 16) {
    const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
    const __m128i folded = _mm_or_si128(bytes, fold);
    const __m128i found = _mm_or_si128(_mm_cmpeq_epi8(bytes, quote),
                                       _mm_or_si128(_mm_cmpeq_epi8(folded, open), _mm_cmpeq_epi8(folded, close)));
    const auto mask = static_cast<unsigned>(_mm_movemask_epi8(found));
    if (mask != 0) return p + std::countr_zero(mask);
  }
#endif
  while (p != end && *p != '"' && *p != '[' && *p != ']' && *p != '{' && *p != '}') ++p;
  return p;
}

// Behind the quote that ends the string whose first byte is `p`, or nullptr.
const char* find_string_end(const char* p, const char* end) noexcept {
  const char* const first = p;
  while (p != end) {
    const auto* const quote = static_cast<const char*>(std::memchr(p, '"', static_cast<std::size_t>(end - p)));
    if (quote == nullptr) return nullptr;
    const char* backslash = quote;
    while (backslash != first && backslash[-1] == '\\') --backslash;
    if ((quote - backslash) % 2 == 0) return quote + 1;
    p = quote + 1;
  }
  return nullptr;
}

std::int32_t hex_value(char c) noexcept {
  if (c >= '0' && c <= '9') return c - '0';
  const char lower = static_cast<char>(c | 0x20);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// The four hexadecimal digits at `p`, or -1.
std::int32_t read_hex4(const char* p, const char* end) noexcept {
  if (end - p < 4) return -1;
  std::int32_t value = 0;
  for (int i = 0; i < 4; ++i) {
    const std::int32_t digit = hex_value(p[i]);
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

// The character behind "\u" at `p`, a surrogate pair included; moves `p` behind it. Negative: not one.
std::int32_t read_unicode_escape(const char*& p, const char* end) noexcept {
  const std::int32_t first = read_hex4(p, end);
  if (first < 0 || (first >= 0xDC00 && first <= 0xDFFF)) return -1;
  p += 4;
  if (first < 0xD800 || first > 0xDBFF) return first;
  if (end - p < 2 || p[0] != '\\' || p[1] != 'u') return -1;
  const std::int32_t second = read_hex4(p + 2, end);
  if (second < 0xDC00 || second > 0xDFFF) return -1;
  p += 6;
  return 0x10000 + (first - 0xD800) * 0x400 + (second - 0xDC00);
}

std::size_t encode_utf8(std::int32_t character, char* out) noexcept {
  const auto c = static_cast<std::uint32_t>(character);
  const auto follow = [c](unsigned shift) { return static_cast<char>(0x80U | ((c >> shift) & 0x3FU)); };
  if (c < 0x80) {
    out[0] = static_cast<char>(c);
    return 1;
  }
  if (c < 0x800) {
    out[0] = static_cast<char>(0xC0U | (c >> 6));
    out[1] = follow(0);
    return 2;
  }
  if (c < 0x10000) {
    out[0] = static_cast<char>(0xE0U | (c >> 12));
    out[1] = follow(6);
    out[2] = follow(0);
    return 3;
  }
  out[0] = static_cast<char>(0xF0U | (c >> 18));
  out[1] = follow(12);
  out[2] = follow(6);
  out[3] = follow(0);
  return 4;
}

// What a backslash and the byte at `p` stand for; moves `p` behind it. Negative: no escape.
std::int32_t read_escape(const char*& p, const char* end) noexcept {
  if (p == end) return -1;
  switch (*p++) {
    case '"':
      return '"';
    case '\\':
      return '\\';
    case '/':
      return '/';
    case 'b':
      return '\b';
    case 'f':
      return '\f';
    case 'n':
      return '\n';
    case 'r':
      return '\r';
    case 't':
      return '\t';
    case 'u':
      return read_unicode_escape(p, end);
    default:
      return -1;
  }
}

// A byte of a string that stands for itself, whatever is around it.
bool is_plain(char c) noexcept {
  const auto byte = static_cast<unsigned char>(c);
  return byte >= 0x20 && byte < 0x80 && c != '"' && c != '\\';
}

}  // namespace

bool JsonText::refuse_at(const char* where, const char* expected) noexcept {
  const std::size_t offset = static_cast<std::size_t>(where - begin);
  if (where == end) {
    problem.set(ProblemCode::kMalformedBody, "JSON ends at byte %zu: expected %s", offset, expected);
  } else {
    problem.set(ProblemCode::kMalformedBody, "JSON byte %zu: expected %s", offset, expected);
  }
  return false;
}

bool JsonText::read_string(NameScratch& scratch, std::string_view& out) noexcept {
  if (!expect('"', "a string")) return false;
  const char* const first = at;
  const char* copied = first;  // text in front of this is in the scratch, if there were escapes
  std::size_t used = 0;
  bool escaped = false;
  const auto append = [&](const char* from, std::size_t count) {
    if (count > scratch.size() - used) {
      problem.set(ProblemCode::kInvalidInput, "JSON byte %zu: a name with escapes is longer than %zu bytes",
                  static_cast<std::size_t>(first - begin), scratch.size());
      return false;
    }
    if (count != 0) std::memcpy(scratch.data() + used, from, count);
    used += count;
    return true;
  };
  for (;;) {
    if (at == end) return refuse_at(at, "the end of a string");
    if (*at == '"') break;
    if (*at == '\\') {
      const char* const backslash = at++;
      const std::int32_t character = read_escape(at, end);
      if (character < 0) return refuse_at(backslash, "an escape of JSON");
      char utf8[4];
      const std::size_t bytes = encode_utf8(character, utf8);
      if (!append(copied, static_cast<std::size_t>(backslash - copied)) || !append(utf8, bytes)) return false;
      copied = at;
      escaped = true;
      continue;
    }
    if (static_cast<unsigned char>(*at) < 0x20) return refuse_at(at, "no control character in a string");
    const std::size_t length = utf8_length(at, end);
    if (length == 0) return refuse_at(at, "UTF-8");
    at += length;
  }
  if (escaped && !append(copied, static_cast<std::size_t>(at - copied))) return false;
  out =
      escaped ? std::string_view(scratch.data(), used) : std::string_view(first, static_cast<std::size_t>(at - first));
  ++at;
  return true;
}

std::optional<std::uint32_t> JsonText::read_text(char* out, std::uint32_t room, bool& full) noexcept {
  full = false;
  if (!expect('"', "a string")) return std::nullopt;
  std::uint32_t used = 0;
  const auto append = [&](const char* from, std::size_t count) {
    full = count > room - used;
    if (full) return false;
    if (count != 0) std::memcpy(out + used, from, count);
    used += static_cast<std::uint32_t>(count);
    return true;
  };
  const auto refuse = [this](const char* where, const char* expected) {
    static_cast<void>(refuse_at(where, expected));
    return std::nullopt;
  };
  for (;;) {
    const char* const first = at;
    while (at != end && is_plain(*at)) ++at;
    if (!append(first, static_cast<std::size_t>(at - first))) return std::nullopt;
    if (at == end) return refuse(at, "the end of a string");
    if (*at == '"') break;
    if (*at == '\\') {
      const char* const backslash = at++;
      const std::int32_t character = read_escape(at, end);
      if (character < 0) return refuse(backslash, "an escape of JSON");
      char utf8[4];
      if (!append(utf8, encode_utf8(character, utf8))) return std::nullopt;
      continue;
    }
    if (static_cast<unsigned char>(*at) < 0x20) return refuse(at, "no control character in a string");
    const std::size_t length = utf8_length(at, end);
    if (length == 0) return refuse(at, "UTF-8");
    if (!append(at, length)) return std::nullopt;
    at += length;
  }
  ++at;
  return used;
}

bool JsonText::skip_value() noexcept {
  skip_space();
  const char* const value = at;
  std::size_t depth = 0;
  const char* p = at;
  if (p != end && *p != '"' && *p != '[' && *p != '{') {
    // A number or a literal: at least one byte, up to what can only stand behind a value.
    while (p != end && *p != ',' && *p != ']' && *p != '}' && static_cast<unsigned char>(*p) > ' ') ++p;
    at = p;
    return p != value || refuse_at(p, "a value");
  }
  for (;;) {
    p = find_structure(p, end);
    if (p == end) return refuse_at(end, "the end of a value");
    const char c = *p++;
    if (c == '"') {
      p = find_string_end(p, end);
      if (p == nullptr) return refuse_at(end, "the end of a string");
    } else if (c == '[' || c == '{') {
      if (++depth > kNestingMax) return refuse_at(p - 1, "no deeper nesting than 64");
    } else {
      --depth;
    }
    if (depth == 0) break;
  }
  at = p;
  return true;
}

bool JsonText::read_raw_string(std::string_view& raw, bool& escaped) noexcept {
  if (!expect('"', "a string")) return false;
  const char* const first = at;
  escaped = false;
  for (;;) {
    while (at != end && is_plain(*at)) ++at;
    if (at == end) return refuse_at(at, "the end of a string");
    if (*at == '"') break;
    if (*at == '\\') {
      escaped = true;
      const char* const backslash = at++;
      if (read_escape(at, end) < 0) return refuse_at(backslash, "an escape of JSON");
      continue;
    }
    if (static_cast<unsigned char>(*at) < 0x20) return refuse_at(at, "no control character in a string");
    const std::size_t length = utf8_length(at, end);
    if (length == 0) return refuse_at(at, "UTF-8");
    at += length;
  }
  raw = {first, static_cast<std::size_t>(at - first)};
  ++at;
  return true;
}

bool JsonText::check_value(std::size_t depth) noexcept {
  skip_space();
  const char c = at == end ? '\0' : *at;
  std::string_view raw;
  bool escaped = false;
  if (c == '"') return read_raw_string(raw, escaped);
  if (c != '[' && c != '{') {
    const std::string_view rest(at, static_cast<std::size_t>(end - at));
    Decimal unused;
    const char* const number = scan_number(at, end, unused);
    if (number != nullptr) {
      at = number;
    } else if (rest.starts_with("true") || rest.starts_with("null")) {
      at += 4;
    } else if (rest.starts_with("false")) {
      at += 5;
    } else {
      return refuse_at(at, "a value");
    }
    return true;
  }
  if (depth == kNestingMax) return refuse_at(at, "no deeper nesting than 64");
  const char close = c == '[' ? ']' : '}';
  ++at;
  if (consume(close)) return true;
  do {
    if (c == '{' && (!read_raw_string(raw, escaped) || !expect(':', "':' behind a name"))) return false;
    if (!check_value(depth + 1)) return false;
  } while (consume(','));
  return expect(close, c == '[' ? "',' or ']' behind an element" : "',' or '}' behind a member");
}

const char* JsonText::describe_value() noexcept {
  const std::string_view rest(at, static_cast<std::size_t>(end - at));
  if (rest.starts_with('[')) return "an array";
  if (rest.starts_with('{')) return "an object";
  if (rest.starts_with('"')) return "a string";
  if (rest.starts_with("true")) return "true";
  if (rest.starts_with("false")) return "false";
  if (rest.starts_with("null")) return "null";
  Decimal unused;
  if (scan_number(at, end, unused) != nullptr) return "a number";
  if (rest.starts_with("NaN") || rest.starts_with("Infinity") || rest.starts_with("-Infinity")) {
    static_cast<void>(refuse_at(at, "a value; NaN and infinity are written as strings: \"NaN\", \"-Infinity\""));
  } else {
    static_cast<void>(refuse_at(at, "a value"));
  }
  return nullptr;
}

}  // namespace penstock::dataplane
