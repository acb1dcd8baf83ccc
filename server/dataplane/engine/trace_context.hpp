// The W3C Trace Context of a request (https://www.w3.org/TR/trace-context/): read strictly, written anew.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock::dataplane {

using TraceId = std::array<std::uint8_t, 16>;
using SpanId = std::array<std::uint8_t, 8>;

struct TraceContext {
  TraceId trace_id{};
  SpanId span_id{};  // of whoever sent the request
  bool sampled = false;
};

inline constexpr std::size_t kTraceparentBytes = 55;  // of version 00

// False for whatever is no traceparent (section 3.2): then a trace of its own begins here. Of a later version the part
// is read that version 00 knows.
[[nodiscard]] bool parse_traceparent(std::string_view text, TraceContext& context) noexcept;

// Writes kTraceparentBytes bytes.
void write_traceparent(char* out, const TraceId& trace_id, const SpanId& span_id, bool sampled) noexcept;

// Two lower-case digits a byte; returns one past the last.
char* write_hex(char* out, const std::uint8_t* bytes, std::size_t count) noexcept;

}  // namespace penstock::dataplane
