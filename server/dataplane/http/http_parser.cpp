#include "http/http_parser.hpp"

#include <array>
#include <boost/beast/http/basic_parser.hpp>
#include <charconv>
#include <cstdint>

#include "http/ascii.hpp"
#include "http/head_scan.hpp"
#include "http/request_target.hpp"

namespace penstock::dataplane {
namespace {

namespace http = boost::beast::http;
using ErrorCode = boost::beast::error_code;
using BeastView = boost::beast::string_view;

constexpr std::size_t kVersionBytes = 8;  // HTTP/1.1

Method method_of(http::verb verb) noexcept {
  switch (verb) {
    case http::verb::get:
      return Method::kGet;
    case http::verb::head:
      return Method::kHead;
    case http::verb::post:
      return Method::kPost;
    case http::verb::put:
      return Method::kPut;
    case http::verb::patch:
      return Method::kPatch;
    case http::verb::delete_:
      return Method::kDelete;
    case http::verb::options:
      return Method::kOptions;
    default:
      return Method::kOther;
  }
}

// Fields that Beast has no number for. Their lengths differ, but for two: mostly one comparison of bytes a field.
struct OwnField {
  std::string_view lower;
  const char* name;
  std::string_view RequestHead::* member;
};
constexpr std::array kOwnFields = std::to_array<OwnField>({
    {"x-request-id", "X-Request-Id", &RequestHead::request_id},
    {"x-api-key", "X-Api-Key", &RequestHead::api_key},
    {"x-request-timeout-ms", "X-Request-Timeout-Ms", &RequestHead::timeout_ms},
    {"x-request-priority", "X-Request-Priority", &RequestHead::priority},
    {"x-penstock-reproducible", "X-Penstock-Reproducible", &RequestHead::reproducible},
    {"x-penstock-receipt", "X-Penstock-Receipt", &RequestHead::receipt},
});

// Beast reads the grammar and calls back for each field; what it lets through is refused here. An error set in a
// callback ends the parse; `problem_` then says why.
class HeadReader final : public http::basic_parser<true> {
 public:
  HeadReader(const HeadLimits& limits, RequestHead& head, Problem& problem)
      : head_(head), problem_(problem), fields_left_(limits.fields_max) {
    header_limit(static_cast<std::uint32_t>(limits.head_bytes_max));
    body_limit(boost::none);  // the limit on bodies depends on the model
  }

  [[nodiscard]] bool read(std::string_view bytes) {
    ErrorCode error;
    put(boost::asio::const_buffer(bytes.data(), bytes.size()), error);
    if (!problem_ && error) explain(error, bytes);
    return !problem_ && finish();
  }

 private:
  void on_request_impl(http::verb verb, BeastView method, BeastView target, int version, ErrorCode& error) override {
    head_.method = method_of(verb);
    head_.method_name = method;
    head_.version_minor = version == 11 ? 1 : 0;
    if (!dataplane::parse_target(target, head_, problem_)) error = http::error::bad_target;
  }

  void on_field_impl(http::field field, BeastView name, BeastView value, ErrorCode& error) override {
    if (fields_left_ == 0) {
      problem_.set(ProblemCode::kHeadTooLarge, "too many header fields");
    } else {
      --fields_left_;
      read_field(field, name, value);
    }
    if (problem_) error = http::error::bad_value;
  }

  void read_field(http::field field, std::string_view name, std::string_view value) noexcept {
    switch (field) {
      case http::field::host:
        return read_host(value);
      case http::field::content_length:
        return read_content_length(value);
      case http::field::transfer_encoding:
        return read_transfer_encoding(value);
      case http::field::connection:
        return read_connection(value);
      case http::field::expect:
        return read_expect(value);
      case http::field::accept:
        return read_accept(value);
      case http::field::content_type:
        return keep_single(head_.content_type, value, "Content-Type");
      case http::field::cache_control:
        return read_cache_control(value);
      case http::field::authorization:
        return keep_single(head_.authorization, value, "Authorization");
      case http::field::origin:
        return keep_single(head_.origin, value, "Origin");
      case http::field::access_control_request_method:
        return keep_single(head_.asked_method, value, "Access-Control-Request-Method");
      case http::field::content_encoding:
        return keep_single(head_.content_encoding, value, "Content-Encoding");
      case http::field::accept_encoding:
        return read_accept_encoding(value);
      case http::field::unknown:
        return read_own_field(name, value);
      default:
        return;
    }
  }

  void read_own_field(std::string_view name, std::string_view value) noexcept {
    for (const OwnField& own : kOwnFields) {
      if (equals_ignoring_case(name, own.lower)) return keep_single(head_.*own.member, value, own.name);
    }
    // A broken trace context restarts the trace and never fails the request (W3C Trace Context 4.3).
    if (equals_ignoring_case(name, "traceparent")) {
      head_.traceparent = traceparents_++ == 0 ? value : std::string_view{};
    }
  }

  // Of two values, the one that another server on the way looked at may have been the other.
  void keep_single(std::string_view& kept, std::string_view value, const char* name) noexcept {
    if (kept.data() != nullptr) return refuse_twice(name);
    kept = value;
  }

  void read_host(std::string_view value) noexcept {
    if (hosts_++ != 0) return refuse_twice("Host");
    if (!is_authority(value)) return refuse("Host is not a host name with an optional port");
    // The authority of an absolute-form target outranks the field (RFC 9112 3.2.2).
    if (head_.host.empty()) head_.host = value;
  }

  void read_content_length(std::string_view value) noexcept {
    if (head_.has_content_length) return refuse_twice("Content-Length");
    const char* end = value.data() + value.size();
    const auto [stop, error] = std::from_chars(value.data(), end, head_.content_length);
    if (error != std::errc{} || stop != end || !all_in(value, kDigit)) return refuse(kBadContentLength);
    head_.has_content_length = true;
  }

  // chunked alone is understood. A list that does not end in chunked leaves the length unknown, so it is malformed, not
  // merely unsupported (RFC 9112 6.3).
  void read_transfer_encoding(std::string_view value) noexcept {
    if (transfer_encodings_++ != 0) return refuse_twice("Transfer-Encoding");
    if (equals_ignoring_case(value, "chunked")) {
      head_.chunked = true;
      return;
    }
    const std::size_t comma = value.rfind(',');
    if (comma == std::string_view::npos || !equals_ignoring_case(trim_blanks(value.substr(comma + 1)), "chunked")) {
      return refuse("Transfer-Encoding does not end in chunked");
    }
    std::string_view others = value.substr(0, comma);
    while (!others.empty()) {
      if (equals_ignoring_case(take_element(others), "chunked")) return refuse("chunked is applied more than once");
    }
    problem_.set(ProblemCode::kNotImplemented, "the only transfer coding that is understood is chunked");
  }

  void read_connection(std::string_view value) noexcept {
    while (!value.empty()) {
      const std::string_view option = take_element(value);
      closes_ |= equals_ignoring_case(option, "close");
      keeps_alive_ |= equals_ignoring_case(option, "keep-alive");
    }
  }

  void read_expect(std::string_view value) noexcept {
    expects_continue_ = equals_ignoring_case(value, "100-continue");
    if (!expects_continue_ && head_.version_minor != 0) {
      problem_.set(ProblemCode::kExpectationFailed, "the only expectation that is understood is 100-continue");
    }
  }

  void read_accept(std::string_view value) noexcept {
    if (head_.accept_fields++ == 0) head_.accept = value;
  }

  void read_accept_encoding(std::string_view value) noexcept {
    if (head_.accept_encoding_fields++ == 0) head_.accept_encoding = value;
  }

  // Other directives do not concern a server's own answers (RFC 9111 5.2.1), and unknown ones are to be ignored.
  void read_cache_control(std::string_view value) noexcept {
    while (!value.empty()) {
      const std::string_view directive = take_element(value);
      head_.no_cache |= equals_ignoring_case(directive, "no-cache") || equals_ignoring_case(directive, "max-age=0");
      head_.no_store |= equals_ignoring_case(directive, "no-store");
    }
  }

  // What only the whole head can tell.
  [[nodiscard]] bool finish() noexcept {
    if (head_.version_minor != 0 && hosts_ == 0) refuse("Host is missing");
    if (head_.chunked && head_.version_minor == 0) refuse("Transfer-Encoding in an HTTP/1.0 request");
    if (head_.chunked && head_.has_content_length) refuse("both Content-Length and Transfer-Encoding");
    head_.keep_alive = !closes_ && (head_.version_minor != 0 || keeps_alive_);
    // HTTP/1.0 has no 100 (RFC 9110 10.1.1), and without a body there is nothing to wait for.
    head_.expect_continue =
        expects_continue_ && head_.version_minor != 0 && (head_.chunked || head_.content_length != 0);
    return !problem_;
  }

  void explain(const ErrorCode& error, std::string_view bytes) noexcept {
    if (error == http::error::bad_version) return explain_version(bytes);
    if (error == http::error::bad_method) return refuse("the request line does not begin with a method and a space");
    if (error == http::error::bad_target) return refuse("the request line does not hold a target between two spaces");
    if (error == http::error::bad_field) return refuse("a field name is not a token followed by a colon");
    if (error == http::error::bad_value) return refuse("Connection is not a list of tokens");
    if (error == http::error::bad_transfer_encoding)
      return refuse("Transfer-Encoding beside another statement of the length");
    if (error == http::error::bad_content_length) return refuse(kBadContentLength);
    if (error == http::error::multiple_content_length) return refuse_twice("Content-Length");
    refuse("the request head is not HTTP/1.1");
  }

  // A version of the right form that we do not speak is a 505, anything else after the target is a 400.
  void explain_version(std::string_view bytes) noexcept {
    const std::string_view line = bytes.substr(0, bytes.find('\r'));
    const std::size_t target = line.find(' ') + 1;
    const std::string_view version = line.substr(line.find(' ', target) + 1);
    if (version.size() != kVersionBytes || !version.starts_with("HTTP/") || !is_in(version[5], kDigit) ||
        version[6] != '.' || !is_in(version[7], kDigit)) {
      return refuse("the request line does not end in an HTTP version");
    }
    problem_.set(ProblemCode::kVersionNotSupported, "this server speaks HTTP/1.1 and HTTP/1.0");
  }

  void refuse(const char* detail) noexcept { problem_.set(ProblemCode::kMalformedRequest, "%s", detail); }
  void refuse_twice(const char* name) noexcept {
    problem_.set(ProblemCode::kMalformedRequest, "%s is given more than once", name);
  }

  void on_response_impl(int, BeastView, int, ErrorCode&) override {}
  void on_trailer_field_impl(http::field, BeastView, BeastView, ErrorCode&) override {}
  void on_header_impl(ErrorCode&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>&, ErrorCode&) override {}
  std::size_t on_body_impl(BeastView, ErrorCode&) override { return 0; }
  void on_chunk_header_impl(std::uint64_t, BeastView, ErrorCode&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, BeastView, ErrorCode&) override { return 0; }
  void on_finish_impl(ErrorCode&) override {}

  static constexpr const char* kBadContentLength = "Content-Length is not a decimal number that 64 bits hold";

  RequestHead& head_;
  Problem& problem_;
  std::size_t fields_left_;
  std::size_t hosts_ = 0;
  std::size_t transfer_encodings_ = 0;
  std::size_t traceparents_ = 0;
  bool closes_ = false;
  bool keeps_alive_ = false;
  bool expects_continue_ = false;
};

}  // namespace

ParseStatus parse_head(std::string_view buffer, std::size_t& scanned, const HeadLimits& limits, RequestHead& head,
                       Problem& problem) {
  HeadEnd found;
  const ParseStatus status = find_head_end(buffer, scanned, limits.head_bytes_max, found, problem);
  if (status != ParseStatus::kComplete) return status;

  head = RequestHead{};
  const std::string_view bytes = buffer.substr(found.start, found.end - found.start);
  HeadReader reader(limits, head, problem);
  if (!reader.read(bytes)) return ParseStatus::kRefused;
  const std::size_t fields = bytes.find('\n') + 1;
  head.fields = bytes.substr(fields, bytes.size() - fields - 2);
  head.head_bytes = found.end;
  return ParseStatus::kComplete;
}

}  // namespace penstock::dataplane
