// Strict HTTP/1.1 request heads (RFC 9110, RFC 9112) and chunked bodies. Nothing here allocates or does I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "http/problem.hpp"

namespace penstock::dataplane {

enum class Method : std::uint8_t { kGet, kHead, kPost, kPut, kPatch, kDelete, kOptions, kOther };

// Views point into the buffer that was parsed and live as long as it does.
struct RequestHead {
  Method method = Method::kOther;
  std::string_view method_name;
  std::string_view path;   // as sent, without the query; origin-form, or the path of an absolute-form target
  std::string_view query;  // without '?'
  std::string_view host;
  std::string_view content_type;  // as sent
  std::string_view accept;        // the first Accept field; negotiate() reads the others from `fields`
  std::string_view request_id;    // X-Request-Id
  std::string_view timeout_ms;    // X-Request-Timeout-Ms
  std::string_view priority;      // X-Request-Priority
  std::string_view reproducible;  // X-Penstock-Reproducible
  std::string_view receipt;       // X-Penstock-Receipt
  std::string_view traceparent;
  std::string_view authorization;
  std::string_view api_key;       // X-Api-Key
  std::string_view origin;        // of the web page that asks
  std::string_view asked_method;  // Access-Control-Request-Method
  std::string_view content_encoding;
  std::string_view accept_encoding;  // the first such field; negotiate_coding() reads the others from `fields`
  std::string_view fields;           // all field lines, CRLF each, for forwarding
  std::size_t head_bytes = 0;        // request line to the empty line, inclusive
  std::uint64_t content_length = 0;  // 0 when absent
  bool has_content_length = false;
  bool chunked = false;
  bool keep_alive = true;
  bool expect_continue = false;
  bool no_cache = false;            // Cache-Control: no-cache or max-age=0
  bool no_store = false;            // Cache-Control: no-store
  std::uint8_t version_minor = 1;   // HTTP/1.0 or 1.1
  std::uint32_t accept_fields = 0;  // how many Accept fields there are
  std::uint32_t accept_encoding_fields = 0;
};

enum class ParseStatus : std::uint8_t { kIncomplete, kComplete, kRefused };

struct HeadLimits {
  std::size_t head_bytes_max = 8192;
  std::size_t fields_max = 100;
};

// Parses one head from the start of `buffer`. `scanned` remembers how far an incomplete head was searched, so that a
// head that trickles in is not searched again from its start: 0 for a new request, and handed back unchanged with more
// bytes. kRefused: `problem` is set and the connection must be closed after the reply. A bare LF, obs-fold, any
// ambiguity of length, a missing or second Host (1.1), white space before a colon, and transfer codings other than one
// final "chunked" are refused.
[[nodiscard]] ParseStatus parse_head(std::string_view buffer, std::size_t& scanned, const HeadLimits& limits,
                                     RequestHead& head, Problem& problem);

// Decodes a chunked body piece by piece, in place: decoded bytes are moved to the front of what is given. How a body is
// split changes neither its bytes nor the verdict.
class ChunkedDecoder {
 public:
  struct Step {
    ParseStatus status;    // kComplete: last chunk and trailers were read
    std::size_t consumed;  // bytes of input used
    std::size_t produced;  // decoded bytes, at the front of `data`
  };
  // Extensions are skipped, trailers are checked and dropped; with leading zeros of sizes they are bounded by 4096
  // bytes over the whole body. kRefused: `problem` is set and the connection must be closed after the reply.
  [[nodiscard]] Step decode(char* data, std::size_t bytes, Problem& problem) noexcept;
  void reset() noexcept { *this = ChunkedDecoder{}; }
  // Bytes that the current chunk still owes: lets a chunk over the limit be refused before it arrives.
  [[nodiscard]] std::uint64_t announced() const noexcept { return state_ == State::kData ? remaining_ : 0; }

 private:
  // Named for what comes next. A size line is digits, blanks before an extension, an extension, LF.
  enum class State : std::uint8_t {
    kSize,
    kBlanks,
    kExtension,
    kSizeLf,
    kData,
    kDataCr,
    kDataLf,
    kTrailer,
    kTrailerName,
    kTrailerValue,
    kTrailerLf,
    kLastLf,
    kDone
  };

  [[nodiscard]] bool step(char c) noexcept;
  [[nodiscard]] bool step_size(char c) noexcept;
  [[nodiscard]] bool step_trailer(char c) noexcept;
  [[nodiscard]] bool move_to(State state, bool allowed = true) noexcept;

  State state_ = State::kSize;
  bool digits_ = false;          // this size line has one
  std::uint32_t overhead_ = 0;   // bytes that carry nothing
  std::uint64_t remaining_ = 0;  // of the size being read, then of the chunk
};

}  // namespace penstock::dataplane
