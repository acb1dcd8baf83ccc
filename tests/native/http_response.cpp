// Reply heads, problem replies, dates and request ids.
#include <cstdio>
#include <cstring>
#include <ctime>
#include <limits>
#include <set>
#include <string>

#include "check.hpp"
#include "http/json_text.hpp"
#include "http/response.hpp"

namespace {

using namespace std::string_view_literals;
using namespace penstock::dataplane;

// What a writer wrote; it may not touch a byte past its bound.
template <std::size_t kBound, typename Writer>
std::string written(Writer writer) {
  std::string out(kBound + 64, '\x55');
  const std::size_t bytes = writer(out.data());
  CHECK(bytes <= kBound);
  CHECK(out.substr(bytes) == std::string(out.size() - bytes, '\x55'));
  return out.substr(0, bytes);
}

std::string head(unsigned status, std::string_view type, std::size_t length, const ResponseOptions& options = {}) {
  return written<kHeadBytesMax>([&](char* out) { return write_head(out, status, type, length, options); });
}

std::string problem_reply(const Problem& problem, const ResponseOptions& options = {}) {
  return written<kProblemBytesMax>([&](char* out) { return write_problem(out, problem, options); });
}

std::string quoted(std::string_view text) {
  std::string out(6 * text.size() + 2, '\0');
  out.resize(static_cast<std::size_t>(write_json_string(out.data(), text) - out.data()));
  return out;
}

void test_heads() {
  CHECK(head(200, "application/json", 12) ==
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n");
  CHECK(head(200, "", 0) == "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
  CHECK(head(299, "", 0).starts_with("HTTP/1.1 299 \r\n"));
  const std::string all =
      head(405, "a/b", 18446744073709551615U,
           {.request_id = "r", .date = "d", .keep_alive = false, .retry_after_s = 7, .allow = "GET, HEAD"});
  CHECK(all ==
        "HTTP/1.1 405 Method Not Allowed\r\nContent-Type: a/b\r\nContent-Length: 18446744073709551615\r\nDate: d\r\n"
        "X-Request-Id: r\r\nConnection: close\r\nRetry-After: 7\r\nAllow: GET, HEAD\r\n\r\n");
  CHECK(head(200, "", 0, {.http_1_0 = true}).find("Connection: keep-alive\r\n") != std::string::npos);
  CHECK(head(200, "", 0, {.keep_alive = false, .http_1_0 = true}).find("keep-alive") == std::string::npos);
  // 429 and 503 never go without.
  CHECK(head(503, "", 0).find("Retry-After: 1\r\n") != std::string::npos);
  CHECK(head(429, "", 0, {.retry_after_s = 5}).find("Retry-After: 5\r\n") != std::string::npos);
  const std::string longest(1000, 'x');
  CHECK(
      head(
          431, longest, 18446744073709551615U,
          {.request_id = longest, .date = longest, .keep_alive = false, .retry_after_s = 4294967295U, .allow = longest})
          .ends_with("\r\n\r\n"));
}

void test_receipts() {
  const Receipt receipt{.queue_us = 120,
                        .batch_us = 45,
                        .run_us = 40,
                        .batch_rows = 7,
                        .padding_rows = 1,
                        .instance = 3,
                        .sealed = "full",
                        .version = "2"};
  CHECK(head(200, "", 0, {.receipt = &receipt}) ==
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Penstock-Queue-Us: 120\r\nX-Penstock-Batch-Us: 45\r\n"
        "X-Penstock-Run-Us: 40\r\nX-Penstock-Batch-Rows: 7\r\nX-Penstock-Padding: 0.125\r\nX-Penstock-Sealed: full\r\n"
        "X-Penstock-Model-Version: 2\r\nX-Penstock-Instance: 3\r\n"
        "Server-Timing: queue;dur=0.120, batch;dur=0.045, run;dur=0.040\r\n\r\n");
  // What a worker may have written, and a version that would break the head.
  const std::string longest(1000, 'x');
  constexpr std::uint64_t kAll = ~std::uint64_t{0};
  constexpr std::uint32_t kMost = ~std::uint32_t{0};
  for (const std::string& version : {std::string(128, 'v'), std::string("a\r\nb")}) {
    const Receipt largest{kAll, kAll, kAll, kMost, kMost, kMost, longest, version, longest};
    const std::string text = head(431, longest, kAll,
                                  {.request_id = longest,
                                   .date = longest,
                                   .keep_alive = false,
                                   .retry_after_s = kMost,
                                   .allow = longest,
                                   .age_s = std::numeric_limits<std::int64_t>::max(),
                                   .receipt = &largest});
    CHECK(text.find("X-Penstock-Padding: 0.500\r\n") != std::string::npos);
    CHECK((text.find("Model-Version") != std::string::npos) == (version[0] == 'v'));
  }
  // From the result cache: no batch of its own, or another request's.
  const Receipt hit{.batch_rows = 7, .version = "2", .cache = "hit"};
  CHECK(head(200, "", 0, {.age_s = 0, .receipt = &hit}) ==
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nAge: 0\r\nX-Penstock-Cache: hit\r\n"
        "X-Penstock-Model-Version: 2\r\n\r\n");
  Receipt shared = receipt;
  shared.cache = "coalesced";
  CHECK(head(200, "", 0, {.receipt = &shared}).find("X-Penstock-Cache: coalesced\r\nX-Penstock-Queue-Us: 120\r\n") !=
        std::string::npos);
  CHECK(head(200, "", 0, {.age_s = 12}) == "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nAge: 12\r\n\r\n");
  const Receipt none;
  CHECK(head(200, "", 0, {.receipt = &none}).find("X-Penstock-Padding: 0.000\r\n") != std::string::npos);
}

void test_problems() {
  Problem problem;
  problem.set(ProblemCode::kInvalidInput, "field \"%s\" is\n%d \xc3\xa9 \xff", "x\\", 3);
  const std::string body =
      R"({"type":"/problems/invalid_input","title":"Invalid input","status":422,"detail":"field \"x\\\" is\n3 )"
      "\xc3\xa9 \xef\xbf\xbd"
      R"(","code":"invalid_input","request_id":"r-1"})";
  const std::string reply = problem_reply(problem, {.request_id = "r-1"});
  CHECK(reply == "HTTP/1.1 422 Unprocessable Content\r\nContent-Type: application/problem+json\r\nContent-Length: " +
                     std::to_string(body.size()) + "\r\nX-Request-Id: r-1\r\n\r\n" + body);
  CHECK(problem_reply(problem, {.request_id = "r-1", .head_only = true}) ==
        reply.substr(0, reply.size() - body.size()));

  // Clients of the Open Inference Protocol find the detail under a name of theirs, too.
  CHECK(problem_reply(problem, {.request_id = "r-1", .oip_error = true})
            .ends_with(R"(,"request_id":"r-1","error":"field \"x\\\" is\n3 )"
                       "\xc3\xa9 \xef\xbf\xbd\"}"));

  // The largest there can be: every byte of the detail escaped.
  char detail[400];
  std::memset(detail, 1, sizeof(detail));
  detail[399] = '\0';
  const std::string id(128, 'i');
  for (int code = 1; code <= static_cast<int>(ProblemCode::kVersionNotSupported); ++code) {
    problem.set(static_cast<ProblemCode>(code), "%s", detail);
    CHECK(problem.detail().size() == Problem::kDetailBytes - 1);
    const std::string largest = problem_reply(problem, {.request_id = id, .date = id, .allow = id, .oip_error = true});
    CHECK(largest.starts_with("HTTP/1.1 " + std::to_string(info_of(problem.code()).status) + ' '));
    // A reason phrase too: each status of the catalogue has its line.
    CHECK(largest[13] != '\r');
  }
  problem.clear();
  CHECK(!problem && problem.detail().empty());
}

void test_json_text() {
  CHECK(quoted("") == "\"\"");
  CHECK(quoted("a\"b\\c/d") == R"("a\"b\\c/d")");
  CHECK(quoted("\b\t\n\f\r\0\x1f\x7f"sv) == R"("\b\t\n\f\r\u0000\u001f\u007f")");
  for (const std::string_view valid : {"\xc2\x80"sv, "\xdf\xbf"sv, "\xe0\xa0\x80"sv, "\xed\x9f\xbf"sv, "\xee\x80\x80"sv,
                                       "\xef\xbf\xbf"sv, "\xf0\x90\x80\x80"sv, "\xf4\x8f\xbf\xbf"sv}) {
    CHECK(quoted(valid) == '"' + std::string(valid) + '"');
  }
  const std::string replaced = "\xef\xbf\xbd";
  // Overlong, surrogate, too large, cut short, a continuation alone: one replacement for each byte.
  for (const std::string_view invalid :
       {"\xc0\x80"sv, "\xe0\x9f\xbf"sv, "\xed\xa0\x80"sv, "\xf0\x8f\xbf\xbf"sv, "\xf4\x90\x80\x80"sv,
        "\xf5\x80\x80\x80"sv, "\xc3"sv, "\xe2\x82"sv, "\xf0\x9f\x98"sv, "\x80"sv, "\xff"sv}) {
    std::string expected;
    for (std::size_t i = 0; i < invalid.size(); ++i) expected += replaced;
    CHECK(quoted(invalid) == '"' + expected + '"');
  }
  CHECK(quoted("\xc3\x28") == "\"" + replaced + "(\"");
}

void test_dates() {
  DateCache cache;
  for (const std::time_t when : {0L, 784111777L, 951782400L, 1709164800L, 4102444799L, 253402300799L}) {
    std::tm broken{};
    ::gmtime_r(&when, &broken);
    char expected[64];
    std::strftime(expected, sizeof(expected), "%a, %d %b %Y %H:%M:%S GMT", &broken);
    cache.refresh_date(when);
    CHECK(cache.view() == expected);
    cache.refresh_date(when);
    CHECK(cache.view() == expected);
  }
  cache.refresh_date(784111777);
  CHECK(cache.view() == "Sun, 06 Nov 1994 08:49:37 GMT");
}

void test_request_ids() {
  CHECK(valid_request_id("a") && valid_request_id("!#~[]{}:/,") && valid_request_id(std::string(128, 'x')));
  for (const std::string_view bad :
       {""sv, "a b"sv, "a\"b"sv, "a\\b"sv, "a\tb"sv, "a\r\nb"sv, "a\0b"sv, "\x7f"sv, "\xc3\xa9"sv}) {
    CHECK(!valid_request_id(bad));
  }
  CHECK(!valid_request_id(std::string(129, 'x')));

  RequestIdSource one;
  RequestIdSource other;
  std::set<std::string> seen;
  std::string id(RequestIdSource::kBytes, '\0');
  for (int i = 0; i < 10'000; ++i) {
    CHECK((i % 2 == 0 ? one : other).write(id.data()) == 32);
    CHECK(valid_request_id(id) && id.find_first_not_of("0123456789abcdef") == std::string::npos);
    CHECK(seen.insert(id).second);
  }
}

}  // namespace

int main() {
  test_heads();
  test_receipts();
  test_problems();
  test_json_text();
  test_dates();
  test_request_ids();
  return 0;
}
