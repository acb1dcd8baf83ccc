#include "http/response.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "http/content_coding.hpp"
#include "http/cors.hpp"
#include "http/field_faults.hpp"
#include "http/json_text.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::size_t kFieldBytesKept = 64;

struct StatusLine {
  unsigned status;
  std::string_view line;
};

// Most frequent first: the search is linear.
constexpr std::array kStatusLines = std::to_array<StatusLine>({
    {200, "HTTP/1.1 200 OK\r\n"},
    {422, "HTTP/1.1 422 Unprocessable Content\r\n"},
    {503, "HTTP/1.1 503 Service Unavailable\r\n"},
    {204, "HTTP/1.1 204 No Content\r\n"},
    {429, "HTTP/1.1 429 Too Many Requests\r\n"},
    {400, "HTTP/1.1 400 Bad Request\r\n"},
    {404, "HTTP/1.1 404 Not Found\r\n"},
    {401, "HTTP/1.1 401 Unauthorized\r\n"},
    {403, "HTTP/1.1 403 Forbidden\r\n"},
    {405, "HTTP/1.1 405 Method Not Allowed\r\n"},
    {406, "HTTP/1.1 406 Not Acceptable\r\n"},
    {408, "HTTP/1.1 408 Request Timeout\r\n"},
    {409, "HTTP/1.1 409 Conflict\r\n"},
    {411, "HTTP/1.1 411 Length Required\r\n"},
    {413, "HTTP/1.1 413 Content Too Large\r\n"},
    {414, "HTTP/1.1 414 URI Too Long\r\n"},
    {415, "HTTP/1.1 415 Unsupported Media Type\r\n"},
    {417, "HTTP/1.1 417 Expectation Failed\r\n"},
    {431, "HTTP/1.1 431 Request Header Fields Too Large\r\n"},
    {500, "HTTP/1.1 500 Internal Server Error\r\n"},
    {501, "HTTP/1.1 501 Not Implemented\r\n"},
    {502, "HTTP/1.1 502 Bad Gateway\r\n"},
    {504, "HTTP/1.1 504 Gateway Timeout\r\n"},
    {505, "HTTP/1.1 505 HTTP Version Not Supported\r\n"},
});

class Cursor {
 public:
  explicit Cursor(char* out) noexcept : begin_(out), at_(out) {}

  Cursor& text(std::string_view text) noexcept {
    if (!text.empty()) std::memcpy(at_, text.data(), text.size());  // an empty view's data may be null
    at_ += text.size();
    return *this;
  }
  Cursor& number(std::uint64_t value) noexcept {
    at_ = std::to_chars(at_, at_ + 20, value).ptr;
    return *this;
  }
  Cursor& json_string(std::string_view text) noexcept {
    at_ = write_json_string(at_, text);
    return *this;
  }
  void json_faults(const FieldFaults& faults) noexcept {
    constexpr std::string_view kName = R"(,"errors":)";
    at_ = faults.write_json(text(kName).at_, kFieldFaultsBytesMax - kName.size());
  }
  [[nodiscard]] std::size_t bytes() const noexcept { return static_cast<std::size_t>(at_ - begin_); }

 private:
  char* begin_;
  char* at_;
};

// A status without a standing line gets its number and no reason, which RFC 9112 4 allows.
void write_status_line(Cursor& out, unsigned status) noexcept {
  for (const StatusLine& known : kStatusLines) {
    if (known.status == status) {
      out.text(known.line);
      return;
    }
  }
  out.text("HTTP/1.1 ").number(std::clamp(status, 100U, 999U)).text(" \r\n");
}

// Thousandths: a share that is read by people and plotted by programs.
void write_share(Cursor& out, std::uint32_t part, std::uint32_t rest) noexcept {
  const std::uint64_t whole = std::uint64_t{part} + rest;
  const std::uint64_t thousandths = whole == 0 ? 0 : (std::uint64_t{part} * 1000 + whole / 2) / whole;
  const char digits[] = {static_cast<char>('0' + thousandths / 1000), '.',
                         static_cast<char>('0' + thousandths / 100 % 10),
                         static_cast<char>('0' + thousandths / 10 % 10), static_cast<char>('0' + thousandths % 10)};
  out.text({digits, sizeof digits});
}

// Milliseconds to the microsecond, as Server-Timing has them.
void write_duration(Cursor& out, std::string_view metric, std::uint64_t us) noexcept {
  const auto digit = [us](std::uint64_t unit) { return static_cast<char>('0' + us / unit % 10); };
  const char fraction[] = {digit(100), digit(10), digit(1)};
  out.text(metric).number(us / 1000).text(".").text({fraction, sizeof fraction});
}

// For browsers, which show it beside what the network took (W3C Server Timing).
void write_server_timing(Cursor& out, const Receipt& receipt) noexcept {
  write_duration(out, "Server-Timing: queue;dur=", receipt.queue_us);
  write_duration(out, ", batch;dur=", receipt.batch_us);
  write_duration(out, ", run;dur=", receipt.run_us);
  out.text("\r\n");
}

void write_version(Cursor& out, const Receipt& receipt) noexcept {
  if (!valid_request_id(receipt.version)) return;
  out.text("X-Penstock-Model-Version: ").text(receipt.version.substr(0, kFieldBytesKept)).text("\r\n");
}

void write_receipt(Cursor& out, const Receipt& receipt) noexcept {
  if (!receipt.cache.empty()) {
    out.text("X-Penstock-Cache: ").text(receipt.cache.substr(0, kFieldBytesKept)).text("\r\n");
    if (receipt.cache == "hit") return write_version(out, receipt);
  }
  out.text("X-Penstock-Queue-Us: ").number(receipt.queue_us);
  out.text("\r\nX-Penstock-Batch-Us: ").number(receipt.batch_us);
  out.text("\r\nX-Penstock-Run-Us: ").number(receipt.run_us);
  out.text("\r\nX-Penstock-Batch-Rows: ").number(receipt.batch_rows);
  out.text("\r\nX-Penstock-Padding: ");
  write_share(out, receipt.padding_rows, receipt.batch_rows);
  out.text("\r\nX-Penstock-Sealed: ").text(receipt.sealed.substr(0, kFieldBytesKept)).text("\r\n");
  write_version(out, receipt);
  out.text("X-Penstock-Instance: ").number(receipt.instance).text("\r\n");
  write_server_timing(out, receipt);
}

}  // namespace

std::size_t write_head(char* out, unsigned status, std::string_view content_type, std::size_t content_length,
                       const ResponseOptions& options) noexcept {
  Cursor head(out);
  write_status_line(head, status);
  if (!content_type.empty()) head.text("Content-Type: ").text(content_type.substr(0, kFieldBytesKept)).text("\r\n");
  if (status != 204) head.text("Content-Length: ").number(content_length).text("\r\n");
  if (!options.date.empty()) head.text("Date: ").text(options.date.substr(0, kFieldBytesKept)).text("\r\n");
  if (!options.request_id.empty()) {
    head.text("X-Request-Id: ").text(options.request_id.substr(0, kRequestIdBytesKept)).text("\r\n");
  }
  if (!options.keep_alive) {
    head.text("Connection: close\r\n");
  } else if (options.http_1_0) {
    head.text("Connection: keep-alive\r\n");
  }
  std::uint32_t retry_after_s = options.retry_after_s;
  if (retry_after_s == 0 && (status == 429 || status == 503)) retry_after_s = 1;
  if (retry_after_s != 0) head.text("Retry-After: ").number(retry_after_s).text("\r\n");
  if (status == 401) head.text("WWW-Authenticate: Bearer\r\n");
  if (!options.allow.empty()) head.text("Allow: ").text(options.allow.substr(0, kFieldBytesKept)).text("\r\n");
  if (options.age_s >= 0) head.text("Age: ").number(static_cast<std::uint64_t>(options.age_s)).text("\r\n");
  if (options.receipt != nullptr) write_receipt(head, *options.receipt);
  if (!options.fields.empty()) head.text(options.fields.substr(0, kFieldBytesKept));
  if (!options.cors.empty()) head.text(options.cors.substr(0, kCorsBytesMax));
  if (options.infer_header_bytes != 0)
    head.text("Inference-Header-Content-Length: ").number(options.infer_header_bytes).text("\r\n");
  head.text("\r\n");
  return head.bytes();
}

std::size_t write_problem(char* out, const Problem& problem, const ResponseOptions& given) noexcept {
  ResponseOptions options = given;
  char codings[kFieldBytesKept];
  if (problem.code() == ProblemCode::kUnsupportedContentEncoding) {  // RFC 9110 15.5.16
    Cursor field(codings);
    field.text("Accept-Encoding: ").text(codings_taken()).text("\r\n");
    options.fields = {codings, field.bytes()};
  }
  // A detail, which may stand there twice, or an id of control characters alone grows sixfold; the rest is names of the
  // catalogue.
  constexpr std::size_t kBodyBytesMax = 6 * (2 * Problem::kDetailBytes + kRequestIdBytesKept) + 512;
  static_assert(kHeadBytesMax + kBodyBytesMax <= kProblemBytesMax);
  char body[kBodyBytesMax + kFieldFaultsBytesMax];
  const ProblemInfo& info = info_of(problem.code());
  Cursor json(body);
  json.text(R"({"type":"/problems/)").text(info.code);
  json.text(R"(","title":")").text(info.title);
  json.text(R"(","status":)").number(info.status);
  json.text(R"(,"detail":)").json_string(problem.detail());
  json.text(R"(,"code":")").text(info.code);
  json.text(R"(","request_id":)").json_string(options.request_id.substr(0, kRequestIdBytesKept));
  if (problem.fields() != nullptr) [[unlikely]]
    json.json_faults(*problem.fields());
  if (options.oip_error) json.text(R"(,"error":)").json_string(problem.detail());
  json.text("}");

  const std::size_t head_bytes = write_head(out, info.status, "application/problem+json", json.bytes(), options);
  if (options.head_only) return head_bytes;
  std::memcpy(out + head_bytes, body, json.bytes());
  return head_bytes + json.bytes();
}

}  // namespace penstock::dataplane
