#include "http/problem.hpp"

#include <algorithm>
#include <array>
#include <cstdio>

namespace penstock::dataplane {
namespace {

// In the order of ProblemCode. kNone stands first so that the code is the index; it is never sent.
constexpr std::array kCatalogue = std::to_array<ProblemInfo>({
    {"none", 500, "No problem", false},
    {"malformed_request", 400, "Malformed request", false},
    {"malformed_body", 400, "Malformed body", false},
    {"contradiction", 400, "Contradictory request", false},
    {"unauthorized", 401, "Unauthorized", false},
    {"forbidden", 403, "Forbidden", false},
    {"not_found", 404, "Not found", false},
    {"model_not_found", 404, "Model not found", false},
    {"version_not_found", 404, "Version not found", false},
    {"method_not_allowed", 405, "Method not allowed", false},
    {"not_acceptable", 406, "Not acceptable", false},
    {"request_timeout", 408, "Request timeout", true},
    {"conflict", 409, "Conflict", false},
    {"length_required", 411, "Length required", false},
    {"body_too_large", 413, "Body too large", false},
    {"uri_too_long", 414, "URI too long", false},
    {"unsupported_media_type", 415, "Unsupported media type", false},
    {"unsupported_content_encoding", 415, "Unsupported content encoding", false},
    {"expectation_failed", 417, "Expectation failed", false},
    {"invalid_input", 422, "Invalid input", false},
    {"load_failed", 422, "Model cannot be served", false},
    {"too_many_requests", 429, "Too many requests", true},
    {"head_too_large", 431, "Request head too large", false},
    {"model_error", 500, "Model error", false},
    {"internal_error", 500, "Internal error", false},
    {"not_implemented", 501, "Not implemented", false},
    {"control_plane_unavailable", 502, "Control plane unavailable", true},
    {"queue_full", 503, "Queue full", true},
    {"deadline_unreachable", 503, "Deadline unreachable", true},
    {"connections_exhausted", 503, "Connections exhausted", true},
    {"memory_exhausted", 503, "Memory exhausted", true},
    {"model_unavailable", 503, "Model unavailable", true},
    {"model_loading", 503, "Model is loading", true},
    {"registry_unavailable", 503, "Registry unavailable", true},
    {"worker_died", 503, "Worker died", false},
    {"draining", 503, "Draining", true},
    {"deadline_exceeded", 504, "Deadline exceeded", false},
    {"http_version_not_supported", 505, "HTTP version not supported", false},
});

static_assert(kCatalogue.size() == static_cast<std::size_t>(ProblemCode::kVersionNotSupported) + 1);

}  // namespace

const ProblemInfo& info_of(ProblemCode code) noexcept { return kCatalogue[static_cast<std::size_t>(code)]; }

ProblemCode problem_named(std::string_view code) noexcept {
  for (unsigned each = 1; each <= static_cast<unsigned>(ProblemCode::kVersionNotSupported); ++each) {
    if (info_of(static_cast<ProblemCode>(each)).code == code) return static_cast<ProblemCode>(each);
  }
  return ProblemCode::kNone;
}

void Problem::set(ProblemCode code, const char* format, ...) noexcept {
  code_ = code;
  retry_after_s_ = 0;
  fields_ = nullptr;
  std::va_list arguments;
  va_start(arguments, format);
  const int wanted = std::vsnprintf(detail_, kDetailBytes, format, arguments);
  va_end(arguments);
  detail_bytes_ = static_cast<std::uint16_t>(std::clamp<int>(wanted, 0, kDetailBytes - 1));
}

}  // namespace penstock::dataplane
