// Response heads and problem replies, written into memory that the caller has. Nothing here allocates or does I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "http/date_cache.hpp"
#include "http/problem.hpp"
#include "http/request_id.hpp"

namespace penstock::dataplane {

// Bounds on what the writers below write, whatever they are given.
inline constexpr std::size_t kHeadBytesMax = 1536;
inline constexpr std::size_t kProblemBytesMax = 6144;
// On top of it, what a problem says of the fields of a record.
inline constexpr std::size_t kFieldFaultsBytesMax = 6144;

// To a request with "Expect: 100-continue" whose body is wanted.
inline constexpr std::string_view kContinueResponse = "HTTP/1.1 100 Continue\r\n\r\n";

// How a row fared, for the reply's X-Penstock- fields. Of a request of many rows: the batch that was last.
struct Receipt {
  std::uint64_t queue_us = 0;  // arrival to batch taken
  std::uint64_t batch_us = 0;  // batch taken to done
  std::uint64_t run_us = 0;    // of that, the model's own
  std::uint32_t batch_rows = 0;
  std::uint32_t padding_rows = 0;  // that the batch was padded with
  std::uint32_t instance = 0;
  std::string_view sealed = {};   // why the batch was sealed when it was
  std::string_view version = {};  // of the model; left out when it holds anything but visible ASCII
  std::string_view cache = {};    // "hit": no batch ran; "coalesced": another request's row; empty: its own row
};

struct ResponseOptions {
  std::string_view request_id = {};    // must pass valid_request_id(), or be empty: then there is no such field
  std::string_view date = {};          // DateCache::view(); empty: no Date
  bool keep_alive = true;              // false: Connection: close
  bool head_only = false;              // to HEAD: a problem is written without its body
  bool http_1_0 = false;               // the request was HTTP/1.0, which takes a kept connection only when told so
  std::uint32_t retry_after_s = 0;     // 0: no Retry-After, but for 429 and 503, which never go without
  std::string_view allow = {};         // of a 405, such as "GET, HEAD"
  std::int64_t age_s = -1;             // of an answer from the cache; below 0: it is new
  const Receipt* receipt = nullptr;    // null: none was asked for
  std::string_view cors = {};          // CorsGrant::fields
  bool oip_error = false;              // a problem has its detail in a member "error", too: see is_oip()
  std::size_t infer_header_bytes = 0;  // Inference-Header-Content-Length; 0: none
  std::string_view fields = {};        // further field lines, CRLF each, at most 64 bytes
};

// Whether a path is the Open Inference Protocol's, whose clients look for an error's text in a member "error".
[[nodiscard]] constexpr bool is_oip(std::string_view path) noexcept {
  return path.starts_with("/v2") && (path.size() == 3 || path[3] == '/');
}

// Writes status line, fields and empty line into `out` (kHeadBytesMax bytes) and returns their length. No Content-Type
// when `content_type` is empty; content type, allow and a receipt's texts are cut at 64 bytes,
// the request id at 128. A 204 has no Content-Length (RFC 9110 8.6).
[[nodiscard]] std::size_t write_head(char* out, unsigned status, std::string_view content_type,
                                     std::size_t content_length, const ResponseOptions& options) noexcept;

// How much write_problem() needs.
[[nodiscard]] inline std::size_t problem_bytes_max(const Problem& problem) noexcept {
  return kProblemBytesMax + (problem.fields() == nullptr ? 0 : kFieldFaultsBytesMax);
}

// Writes a whole application/problem+json reply (RFC 9457) into `out` (problem_bytes_max()) and returns its length.
// The detail is escaped, and bytes of it that are not UTF-8 are replaced.
[[nodiscard]] std::size_t write_problem(char* out, const Problem& problem, const ResponseOptions& options) noexcept;

}  // namespace penstock::dataplane
