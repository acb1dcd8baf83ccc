// Strict HTTP/1.1 request heads (RFC 9110, RFC 9112) and chunked bodies. Nothing here allocates or does I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "problem.hpp"

namespace penstock::dataplane {

enum class Method : std::uint8_t { kGet, kHead, kPost, kPut, kPatch, kDelete, kOptions, kOther };

// Views point into the buffer that was parsed and live as long as it does.
struct RequestHead {
  Method method = Method::kOther;
  std::string_view method_name;
  std::string_view path;   // as sent, without the query; origin-form, or the path of an absolute-form target
  std::string_view query;  // without '?'
  std::string_view host;
  std::string_view content_type;    // as sent
  std::string_view accept;          // all Accept fields would be one list; the first is kept, more than one is joined by the caller
  std::string_view request_id;      // X-Request-Id
  std::string_view timeout_ms;      // X-Request-Timeout-Ms
  std::string_view traceparent;
  std::string_view authorization;
  std::string_view api_key;         // X-Api-Key
  std::string_view fields;          // all field lines, CRLF each, for forwarding
  std::size_t head_bytes = 0;       // request line to the empty line, inclusive
  std::uint64_t content_length = 0; // 0 when absent
  bool has_content_length = false;
  bool chunked = false;
  bool keep_alive = true;
  bool expect_continue = false;
  std::uint8_t version_minor = 1;  // HTTP/1.0 or 1.1
};

enum class ParseStatus : std::uint8_t { kIncomplete, kComplete, kRefused };

struct HeadLimits {
  std::size_t head_bytes_max = 8192;
  std::size_t fields_max = 100;
};

// Parses one head from the start of `buffer`. `scanned` remembers how far an incomplete head was searched, so that a head that
// trickles in is not searched again from its start: 0 for a new request, and handed back unchanged with more bytes.
// kRefused: `problem` is set and the connection must be closed after the reply. A bare LF, obs-fold, any ambiguity of length,
// a missing or second Host (1.1), white space before a colon, and transfer codings other than one final "chunked" are refused.
[[nodiscard]] ParseStatus parse_head(std::string_view buffer, std::size_t& scanned, const HeadLimits& limits, RequestHead& head,
                                     Problem& problem);

// Decodes a chunked body piece by piece, in place: decoded bytes are moved to the front of what is given.
class ChunkedDecoder {
 public:
  struct Step {
    ParseStatus status;      // kComplete: last chunk and trailers were read
    std::size_t consumed;    // bytes of input used
    std::size_t produced;    // decoded bytes, at the front of `data`
  };
  // Trailers are checked and dropped. Size lines, extensions and trailers are bounded by 4096 bytes together.
  [[nodiscard]] Step decode(char* data, std::size_t bytes, Problem& problem);
  void reset() noexcept { *this = ChunkedDecoder{}; }

 private:
  enum class State : std::uint8_t { kSize, kExtension, kSizeLf, kData, kDataCr, kDataLf, kTrailer, kDone };
  State state_ = State::kSize;
  std::uint64_t remaining_ = 0;
  std::uint32_t overhead_ = 0;
  std::uint32_t line_bytes_ = 0;
  bool digits_ = false;
};

}  // namespace penstock::dataplane
