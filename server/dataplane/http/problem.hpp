// Why a request was refused: a code of the catalogue and a sentence for the person who reads it.
#pragma once

#include <cstdarg>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace penstock::dataplane {

class FieldFaults;  // field_faults.hpp

// One entry per line of sdk/contract/problems.json, in its order; tests/contract compares the two.
enum class ProblemCode : std::uint8_t {
  kNone = 0,
  kMalformedRequest,            // 400 malformed_request: HTTP that RFC 9112 refuses
  kMalformedBody,               // 400 malformed_body: JSON, msgpack or raw bytes that do not parse
  kContradiction,               // 400 contradiction: query and body name different models or versions
  kUnauthorized,                // 401 unauthorized
  kForbidden,                   // 403 forbidden
  kNotFound,                    // 404 not_found: no such route
  kModelNotFound,               // 404 model_not_found
  kVersionNotFound,             // 404 version_not_found
  kMethodNotAllowed,            // 405 method_not_allowed
  kNotAcceptable,               // 406 not_acceptable
  kRequestTimeout,              // 408 request_timeout: the request did not arrive in time
  kConflict,                    // 409 conflict: with what there is
  kLengthRequired,              // 411 length_required
  kBodyTooLarge,                // 413 body_too_large
  kUriTooLong,                  // 414 uri_too_long
  kUnsupportedMediaType,        // 415 unsupported_media_type
  kUnsupportedContentEncoding,  // 415 unsupported_content_encoding
  kExpectationFailed,           // 417 expectation_failed
  kInvalidInput,                // 422 invalid_input: does not fit the model's schema
  kLoadFailed,                  // 422 load_failed: the model version cannot be served
  kTooManyRequests,             // 429 too_many_requests
  kHeadTooLarge,                // 431 head_too_large
  kModelError,                  // 500 model_error: the model raised for this row
  kInternalError,               // 500 internal_error
  kNotImplemented,              // 501 not_implemented: a transfer coding or method we do not know
  kControlPlaneUnavailable,     // 502 control_plane_unavailable
  kQueueFull,                   // 503 queue_full
  kDeadlineUnreachable,         // 503 deadline_unreachable: the row would be late, so it was not run
  kConnectionsExhausted,        // 503 connections_exhausted
  kMemoryExhausted,             // 503 memory_exhausted: body pool
  kModelUnavailable,            // 503 model_unavailable: loading, restarting or failed
  kModelLoading,                // 503 model_loading: registered, and on its way into memory
  kRegistryUnavailable,         // 503 registry_unavailable
  kWorkerDied,                  // 503 worker_died: the row may have run
  kDraining,                    // 503 draining
  kDeadlineExceeded,            // 504 deadline_exceeded
  kVersionNotSupported,         // 505 http_version_not_supported
};

struct ProblemInfo {
  std::string_view code;
  std::uint16_t status;
  std::string_view title;
  bool retryable;
};

[[nodiscard]] const ProblemInfo& info_of(ProblemCode code) noexcept;
// The one that is called so; kNone: none is.
[[nodiscard]] ProblemCode problem_named(std::string_view code) noexcept;

// A refusal in the making. Fixed size, so that refusing allocates nothing.
class Problem {
 public:
  static constexpr std::size_t kDetailBytes = 240;

  // printf-like; truncated to kDetailBytes. The detail names no path, stack or secret. Bytes that came from a client
  // are escaped by whoever writes the reply, not here.
  [[gnu::format(printf, 3, 4)]] void set(ProblemCode code, const char* format, ...) noexcept;
  void clear() noexcept {
    code_ = ProblemCode::kNone;
    detail_bytes_ = 0;
    retry_after_s_ = 0;
    fields_ = nullptr;
  }
  // What is wrong with each field of a record, which somebody else keeps: a problem is made for every request.
  void set_fields(const FieldFaults* fields) noexcept { fields_ = fields; }
  [[nodiscard]] const FieldFaults* fields() const noexcept { return fields_; }
  // When the same request is worth another try; 0: the reply says what it always says.
  void set_retry_after(std::uint32_t seconds) noexcept { retry_after_s_ = seconds; }

  [[nodiscard]] ProblemCode code() const noexcept { return code_; }
  [[nodiscard]] std::string_view detail() const noexcept { return {detail_, detail_bytes_}; }
  [[nodiscard]] std::uint32_t retry_after_s() const noexcept { return retry_after_s_; }
  [[nodiscard]] explicit operator bool() const noexcept { return code_ != ProblemCode::kNone; }

 private:
  ProblemCode code_ = ProblemCode::kNone;
  std::uint16_t detail_bytes_ = 0;
  std::uint32_t retry_after_s_ = 0;
  char detail_[kDetailBytes] = {};
  const FieldFaults* fields_ = nullptr;  // but for a record that does not fit
};

}  // namespace penstock::dataplane
