// Content-Type, Accept and the query string.
#include <cstdio>
#include <string>

#include "check.hpp"
#include "http/media_type.hpp"
#include "http/query.hpp"

namespace {

using namespace std::string_view_literals;
using namespace penstock::dataplane;

void test_content_types() {
  const auto is = [](std::string_view value, MediaType type) {
    if (parse_content_type(value) != type) std::fprintf(stderr, "Content-Type: %s\n", value.data());
    CHECK(parse_content_type(value) == type);
  };
  is("", MediaType::kAbsent);
  is("application/json", MediaType::kJson);
  is("Application/JSON", MediaType::kJson);
  is("application/json; charset=utf-8", MediaType::kJson);
  is("application/json;charset=\"UTF-8\"", MediaType::kJson);
  is("application/json \t; Charset=Utf-8 ; a=\"b;c=d\\\"\" ;", MediaType::kJson);
  is("application/json; charset=latin1", MediaType::kOther);
  is("application/json; charset=utf-8x", MediaType::kOther);
  is("application/json; charset", MediaType::kOther);
  is("application/json; charset=", MediaType::kOther);
  is("application/json; =a", MediaType::kOther);
  is("application/json; a b=c", MediaType::kOther);
  is("application/json; a=b c", MediaType::kOther);
  is("application/json; a=\"b", MediaType::kOther);
  is("application/json, application/json", MediaType::kOther);
  is("application/jsonp", MediaType::kOther);
  is("application/problem+json", MediaType::kOther);
  is("text/json", MediaType::kOther);
  is("json", MediaType::kOther);
  is("application/msgpack", MediaType::kMsgpack);
  is("application/vnd.msgpack", MediaType::kMsgpack);
  is("APPLICATION/x-msgpack; a=b", MediaType::kMsgpack);
  is("application/octet-stream", MediaType::kRaw);
  is("application/octet-stream;charset=latin1", MediaType::kRaw);
  is("text/plain", MediaType::kOther);
  is("*/*", MediaType::kOther);
}

RequestHead with_accept(std::string_view value) {
  RequestHead head;
  head.accept = value;
  head.accept_fields = 1;
  return head;
}

// The content type of the reply, which must name the encoding of the reply.
std::string_view chosen(const RequestHead& head) {
  const auto format = negotiate(head);
  if (!format) return "none";
  CHECK(parse_content_type(format->content_type) == static_cast<MediaType>(format->encoding));
  return format->content_type;
}

void test_accept() {
  const auto gives = [](std::string_view value, std::string_view type) {
    const std::string_view got = chosen(with_accept(value));
    if (got != type) std::fprintf(stderr, "Accept: %s gives %s\n", value.data(), got.data());
    CHECK(got == type);
  };
  const std::string_view json = "application/json";
  const std::string_view msgpack = "application/msgpack";
  const std::string_view raw = "application/octet-stream";
  gives("", json);
  gives("*/*", json);
  gives("*", json);
  gives("application/*", json);
  gives("application/json", json);
  gives("APPLICATION/JSON;charset=utf-8", json);
  gives("application/msgpack", msgpack);
  gives("application/x-msgpack", "application/x-msgpack");
  gives("application/vnd.msgpack;q=0.5, application/json;q=0.4", "application/vnd.msgpack");
  gives("application/octet-stream", raw);
  gives("application/octet-stream, application/msgpack", msgpack);
  gives("application/octet-stream, application/msgpack;q=0.999", raw);
  gives("application/json;q=0.5, application/msgpack;q=0.501", msgpack);
  gives("application/json;q=0.5, application/msgpack;q=0.5", json);
  gives("application/msgpack, */*", msgpack);
  gives("application/msgpack, application/*;q=0.9", msgpack);
  gives("application/msgpack;q=0.1, */*;q=0.2", json);
  gives("application/json, text/plain, */*", json);
  gives("application/json;q=0, */*", msgpack);
  gives("application/*;q=0, */*", "none");
  gives("application/json;q=0, application/*", msgpack);
  gives("text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2", json);
  gives("text/html;q=0.9, application/json;q=0.1", json);
  gives("text/html", "none");
  gives("application/json;q=0", "none");
  gives("application/json;q=0.000", "none");
  gives("application/json;q=2", "none");
  gives("application/json;q=1.001", "none");
  gives("application/json;q=0.0001", "none");
  gives("application/json;q=", "none");
  gives("application/json;q=x", "none");
  gives("application/json;q=-1", "none");
  gives("application/json;q=x, application/msgpack;q=0.1", msgpack);
  gives("application/json;q=1.000", json);
  gives("application/json;Q=1.", json);
  gives("text/html;a=\"application/json,\", application/msgpack", msgpack);
  gives("application/msgpack, text/html;a=\"", msgpack);
  gives(",, application/msgpack ,", msgpack);
  gives("application /json", "none");
  CHECK(chosen(RequestHead{}) == json);
}

void test_accept_fields() {
  const std::string bytes =
      "GET / HTTP/1.1\r\nHost: a\r\nAccept: text/html\r\nX-Accept: */*\r\nACCEPT:application/msgpack;q=0.5 "
      "\r\nAccept:\r\n\r\n";
  RequestHead head;
  Problem problem;
  std::size_t scanned = 0;
  CHECK(parse_head(bytes, scanned, {}, head, problem) == ParseStatus::kComplete);
  CHECK(head.accept == "text/html" && head.accept_fields == 3);
  CHECK(chosen(head) == "application/msgpack");
}

void test_queries() {
  const auto reads = [](std::string_view query, std::string_view model, std::string_view version,
                        std::string_view output) {
    std::string scratch(query.size(), '\0');
    QueryParams params;
    Problem problem;
    CHECK(parse_query(query, scratch, params, problem));
    CHECK(params.model == model && params.version == version && params.output == output);
  };
  const auto fails = [](std::string_view query, ProblemCode code, std::string_view detail) {
    std::string scratch(query.size(), '\0');
    QueryParams params;
    Problem problem;
    CHECK(!parse_query(query, scratch, params, problem));
    CHECK(problem.code() == code && problem.detail().find(detail) != std::string_view::npos);
  };
  reads("", "", "", "");
  reads("&&", "", "", "");
  reads("model=digits", "digits", "", "");
  reads("version=1&output=a&model=m", "m", "1", "a");
  reads("model=&version", "", "", "");
  reads("model=a=b", "a=b", "", "");
  reads("model=a%20b+c%2B%2f&%76ersion=%31", "a b c+/", "1", "");
  reads("model=%26version%3D2", "&version=2", "", "");
  reads("model=%00%ff", "\0\xff"sv, "", "");
  fails("model=a&model=a", ProblemCode::kMalformedRequest, "'model' is given more than once");
  fails("version=&%76ersion=1", ProblemCode::kMalformedRequest, "'version' is given more than once");
  fails("modal=a", ProblemCode::kMalformedRequest, "'modal'");
  fails("Model=a", ProblemCode::kMalformedRequest, "'Model'");
  fails("=a", ProblemCode::kMalformedRequest, "''");
  fails("model=%", ProblemCode::kMalformedRequest, "hexadecimal");
  fails("model=%4", ProblemCode::kMalformedRequest, "hexadecimal");
  fails("model=%4g", ProblemCode::kMalformedRequest, "hexadecimal");
  fails("model=a;version=1&x", ProblemCode::kMalformedRequest, "'x'");
  fails(std::string(500, 'n'), ProblemCode::kMalformedRequest, "unknown query parameter");

  QueryParams params;
  Problem problem;
  char scratch[4];
  CHECK(parse_query("model=%61%62%63&version=%64", scratch, params, problem));
  CHECK(params.model == "abc" && params.version == "d");
  CHECK(!parse_query("model=%61%62%63&version=%64%65", scratch, params, problem));
  CHECK(problem.code() == ProblemCode::kUriTooLong);
}

}  // namespace

int main() {
  test_content_types();
  test_accept();
  test_accept_fields();
  test_queries();
  return 0;
}
