// Nanoseconds per call of what every request passes through: head, reply head, request id, query.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "http/media_type.hpp"
#include "http/query.hpp"
#include "http/response.hpp"

namespace {

using namespace penstock::dataplane;

template <typename Call>
void measure(const char* name, Call call) {
  constexpr int kCalls = 200'000;
  double best = 1e9;
  for (int round = 0; round < 15; ++round) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) call();
    const std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - start;
    best = std::min(best, spent.count() / kCalls);
  }
  std::printf("%-28s %7.1f ns\n", name, best);
}

template <typename T>
void keep(const T& value) {
  asm volatile("" : : "g"(&value) : "memory");
}

void measure_head(const char* name, const std::string& bytes) {
  measure(name, [&bytes] {
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

int main() {
  measure_head("parse_head, wrk",
               "POST /predict HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: application/json\r\nContent-Length: "
               "118\r\n\r\n");
  measure_head(
      "parse_head, curl",
      "POST /predict?model=digits HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n"
      "Content-Type: application/json\r\nContent-Length: 118\r\n\r\n");
  measure_head(
      "parse_head, python client",
      "POST /predict HTTP/1.1\r\nHost: inference.example.com\r\nUser-Agent: python-requests/2.31.0\r\n"
      "Accept-Encoding: gzip, deflate\r\nAccept: */*\r\nConnection: keep-alive\r\nX-Request-Id: 4bf92f3577b34da6\r\n"
      "Authorization: Bearer abcdefghijklmnop\r\nContent-Type: application/json\r\nContent-Length: 118\r\n\r\n");
  DateCache date;
  RequestIdSource ids;
  char id[RequestIdSource::kBytes];
  char out[kHeadBytesMax];
  measure("request id", [&] { keep(ids.write(id)); });
  const ResponseOptions options{.request_id = {id, sizeof(id)}, .date = date.view()};
  measure("write_head", [&] { keep(write_head(out, 200, "application/json", 118, options)); });
  measure("parse_query", [&] {
    QueryParams params;
    Problem problem;
    char scratch[64];
    if (!parse_query("model=digits&version=1", scratch, params, problem)) std::abort();
    keep(params);
  });
  return 0;
}
