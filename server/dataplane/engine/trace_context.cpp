#include "engine/trace_context.hpp"

#include <algorithm>
#include <cstring>
#include <span>

namespace penstock::dataplane {
namespace {

constexpr std::uint8_t kSampledFlag = 1;

int digit_value(char c) noexcept {  // lower case only: anything else is no traceparent
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

bool read_hex(std::string_view digits, std::span<std::uint8_t> out) noexcept {
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int high = digit_value(digits[2 * i]);
    const int low = digit_value(digits[2 * i + 1]);
    if (high < 0 || low < 0) return false;
    out[i] = static_cast<std::uint8_t>(high << 4 | low);
  }
  return true;
}

bool is_zero(std::span<const std::uint8_t> id) noexcept {
  return std::ranges::all_of(id, [](std::uint8_t byte) { return byte == 0; });
}

}  // namespace

bool parse_traceparent(std::string_view text, TraceContext& context) noexcept {
  if (text.size() < kTraceparentBytes || text[2] != '-' || text[35] != '-' || text[52] != '-') return false;
  std::uint8_t version = 0;
  std::uint8_t flags = 0;
  if (!read_hex(text.substr(0, 2), {&version, 1}) || version == 0xff) return false;
  if (text.size() > kTraceparentBytes && (version == 0 || text[kTraceparentBytes] != '-')) return false;
  if (!read_hex(text.substr(3, 32), context.trace_id) || !read_hex(text.substr(36, 16), context.span_id) ||
      !read_hex(text.substr(53, 2), {&flags, 1})) {
    return false;
  }
  context.sampled = (flags & kSampledFlag) != 0;
  return !is_zero(context.trace_id) && !is_zero(context.span_id);
}

void write_traceparent(char* out, const TraceId& trace_id, const SpanId& span_id, bool sampled) noexcept {
  std::memcpy(out, "00-", 3);
  out = write_hex(out + 3, trace_id.data(), trace_id.size());
  *out++ = '-';
  out = write_hex(out, span_id.data(), span_id.size());
  std::memcpy(out, sampled ? "-01" : "-00", 3);
}

char* write_hex(char* out, const std::uint8_t* bytes, std::size_t count) noexcept {
  constexpr char kDigits[] = "0123456789abcdef";
  for (std::size_t i = 0; i < count; ++i) {
    *out++ = kDigits[bytes[i] >> 4];
    *out++ = kDigits[bytes[i] & 15];
  }
  return out;
}

}  // namespace penstock::dataplane
