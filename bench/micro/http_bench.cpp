// Nanoseconds per call of what every request passes through: head, reply head, request id, query.
//
// The budget is 180 ns a request for parsing, routing and writing the reply's head together.
#include <cstdlib>
#include <string>

#include "http/media_type.hpp"
#include "http/query.hpp"
#include "http/response.hpp"
#include "report.hpp"

namespace {

using namespace penstock;
using namespace penstock::dataplane;

using bench::keep;
using bench::Limit;
using bench::Report;

constexpr Limit kBudget{.value = 180, .source = "budget of all HTTP work"};

void measure_head(Report& report, const char* name, const std::string& bytes) {
  report.measure(name, kBudget, [&bytes] {
    RequestHead head;
    Problem problem;
    std::size_t scanned = 0;
    keep(bytes);
    const ParseStatus status = parse_head(bytes, scanned, HeadLimits{}, head, problem);
    if (status != ParseStatus::kComplete) std::abort();
    keep(head);
  });
}

}  // namespace

int main(int argc, char** argv) {
  Report report("http", argc, argv);
  measure_head(report, "parse_head, wrk",
               "POST /predict HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\nContent-Length: "
               "118\r\n\r\n");
  measure_head(
      report, "parse_head, curl",
      "POST /predict?model=digits HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n"
      "Content-Type: application/json\r\nContent-Length: 118\r\n\r\n");
  measure_head(
      report, "parse_head, python client",
      "POST /predict HTTP/1.1\r\nHost: inference.example.com\r\nUser-Agent: python-requests/2.31.0\r\n"
      "Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nX-Request-Id: 4bf92f3577b34da6\r\n"
      "Authorization: Bearer abcdefghijklmnop\r\nContent-Type: application/json\r\nContent-Length: 118\r\n\r\n");
  DateCache date;
  RequestIdSource ids;
  char id[RequestIdSource::kBytes];
  char out[kHeadBytesMax];
  report.measure("request id", {}, [&] { keep(ids.write(id)); });
  const ResponseOptions options{.request_id = {id, sizeof(id)}, .date = date.view()};
  report.measure("write_head", kBudget, [&] { keep(write_head(out, 200, "application/json", 118, options)); });
  report.measure("parse_query", {}, [&] {
    QueryParams params;
    Problem problem;
    char scratch[64];
    if (!parse_query("model=digits&version=1", scratch, params, problem)) std::abort();
    keep(params);
  });
  return 0;
}
