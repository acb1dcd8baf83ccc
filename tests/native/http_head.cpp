// Request heads: which are refused and with what code, what is read from the others, and that neither depends on how
// the bytes arrive.
#include <cstdint>
#include <cstdio>
#include <random>
#include <string>

#include "http_cases.hpp"
#include "http_parse.hpp"

namespace {

using namespace penstock::dataplane;
using namespace penstock::test;

RequestHead accept(std::string_view bytes, const HeadLimits& limits = {}) {
  RequestHead head;
  Problem problem;
  std::size_t scanned = 0;
  const ParseStatus status = parse_head(bytes, scanned, limits, head, problem);
  if (status != ParseStatus::kComplete) {
    std::fprintf(stderr, "not accepted (%.*s): %.*s\n", static_cast<int>(problem.detail().size()),
                 problem.detail().data(), static_cast<int>(bytes.size()), bytes.data());
  }
  CHECK(status == ParseStatus::kComplete);
  return head;
}

void test_refusals() {
  for (const HeadCase& expected : kRefusedHeads) {
    const HeadResult result = parse_every_way(expected.bytes);
    const bool right = result.status == ParseStatus::kRefused && result.code == expected.code && !result.text.empty();
    if (!right) {
      std::fprintf(stderr, "%s: status %d, code %d, %s\n", expected.name.data(), static_cast<int>(result.status),
                   static_cast<int>(result.code), result.text.c_str());
    }
    CHECK(right);
  }
}

void test_acceptance() {
  for (const std::string_view bytes : kAcceptedHeads) {
    CHECK(accept(bytes).head_bytes == bytes.size());
    CHECK(parse_every_way(bytes).status == ParseStatus::kComplete);
    // What follows is the body or the next request, and not looked at.
    const std::string more = std::string(bytes) + "\n\x01\r\n\r\n";
    CHECK(parse_every_way(more) == parse_every_way(bytes));
    // Every proper prefix waits.
    for (std::size_t size = 0; size < bytes.size(); ++size) {
      std::size_t scanned = 0;
      CHECK(parse_once(bytes.substr(0, size), scanned).status == ParseStatus::kIncomplete);
    }
  }
}

void test_what_is_read() {
  const RequestHead head = accept(
      "POST /predict?model=a%20b HTTP/1.1\r\nHost: example.com:80\r\nContent-Type:  application/json \t\r\nAccept: "
      "*/*\r\n"
      "X-REQUEST-ID: r-1\r\nx-request-timeout-ms: 250\r\ntraceparent: 00-ab-cd-01\r\nAuthorization: Bearer t\r\n"
      "X-Api-Key: k\r\nX-REQUEST-priority: batch\r\nx-penstock-REPRODUCIBLE: true\r\nX-Penstock-Receipt: false\r\n"
      "X-Penstock-Receipts: no\r\nContent-Length: 42\r\nExpect: 100-continue\r\n\r\nbody");
  CHECK(head.method == Method::kPost && head.method_name == "POST");
  CHECK(head.path == "/predict" && head.query == "model=a%20b");
  CHECK(head.host == "example.com:80");
  CHECK(head.content_type == "application/json" && head.accept == "*/*" && head.accept_fields == 1);
  CHECK(head.request_id == "r-1" && head.timeout_ms == "250" && head.traceparent == "00-ab-cd-01");
  CHECK(head.priority == "batch" && head.reproducible == "true" && head.receipt == "false");
  CHECK(head.authorization == "Bearer t" && head.api_key == "k");
  CHECK(head.has_content_length && head.content_length == 42 && !head.chunked);
  CHECK(head.keep_alive && head.expect_continue && head.version_minor == 1);
  CHECK(head.fields.starts_with("Host: ") && head.fields.ends_with("Expect: 100-continue\r\n"));

  CHECK(accept("GET / HTTP/1.0\r\n\r\n").fields.empty());
  CHECK(accept("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").fields == "Host: a\r\n");
}

void test_methods() {
  const std::pair<std::string, Method> methods[] = {
      {"GET", Method::kGet},         {"HEAD", Method::kHead},   {"POST", Method::kPost},
      {"PUT", Method::kPut},         {"PATCH", Method::kPatch}, {"DELETE", Method::kDelete},
      {"OPTIONS", Method::kOptions}, {"TRACE", Method::kOther}, {"get", Method::kOther}};
  for (const auto& [name, method] : methods) {
    const std::string bytes = name + " / HTTP/1.1\r\nHost: a\r\n\r\n";
    const RequestHead head = accept(bytes);
    CHECK(head.method == method && head.method_name == name);
  }
}

void test_targets() {
  const auto target = [](std::string_view text, std::string_view path, std::string_view query, std::string_view host) {
    const std::string bytes = "OPTIONS " + std::string(text) + " HTTP/1.1\r\nHost: field\r\n\r\n";
    const RequestHead head = accept(bytes);
    CHECK(head.path == path && head.query == query && head.host == host);
  };
  target("/", "/", "", "field");
  target("/a?", "/a", "", "field");
  target("/a?b?c=/d", "/a", "b?c=/d", "field");
  target("*", "*", "", "field");
  target("http://other:1/a?b", "/a", "b", "other:1");
  target("http://other", "/", "", "other");
  target("https://[2001:db8::1]?b", "/", "b", "[2001:db8::1]");
  target("hTTp://other/http://x", "/http://x", "", "other");
}

void test_persistence() {
  const auto keeps = [](const char* version, const char* fields) {
    return accept("GET / " + std::string(version) + "\r\nHost: a\r\n" + fields + "\r\n").keep_alive;
  };
  CHECK(keeps("HTTP/1.1", ""));
  CHECK(!keeps("HTTP/1.1", "Connection: close\r\n"));
  CHECK(!keeps("HTTP/1.1", "Connection: upgrade,CLOSE\r\n"));
  CHECK(!keeps("HTTP/1.1", "Connection: close\r\nConnection: keep-alive\r\n"));
  CHECK(keeps("HTTP/1.1", "Connection: closed\r\nProxy-Connection: close\r\n"));
  CHECK(!keeps("HTTP/1.0", ""));
  CHECK(keeps("HTTP/1.0", "Connection: foo, Keep-Alive\r\n"));
  CHECK(!keeps("HTTP/1.0", "Connection: keep-alive, close\r\n"));
}

void test_expectation() {
  const auto waits = [](const char* version, const char* fields) {
    return accept("POST / " + std::string(version) + "\r\nHost: a\r\nExpect: 100-continue\r\n" + fields + "\r\n")
        .expect_continue;
  };
  CHECK(waits("HTTP/1.1", "Content-Length: 1\r\n"));
  CHECK(waits("HTTP/1.1", "Transfer-Encoding: chunked\r\n"));
  CHECK(!waits("HTTP/1.1", "Content-Length: 0\r\n"));
  CHECK(!waits("HTTP/1.1", ""));
  CHECK(!waits("HTTP/1.0", "Content-Length: 1\r\n"));
}

void test_limits() {
  const std::string start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
  const HeadLimits limits{.head_bytes_max = 256, .fields_max = 4};
  const auto padded = [&start](std::size_t bytes) {
    return start + std::string(bytes - start.size() - 4, 'x') + "\r\n\r\n";
  };
  CHECK(parse_every_way(padded(256), limits).status == ParseStatus::kComplete);
  CHECK(parse_every_way(padded(257), limits).code == ProblemCode::kHeadTooLarge);
  // Refused at the limit, whether or not the end is there; not before.
  CHECK(parse_every_way(padded(400).substr(0, 256), limits).code == ProblemCode::kHeadTooLarge);
  CHECK(parse_every_way(padded(400).substr(0, 255), limits).status == ParseStatus::kIncomplete);
  const std::string line = "GET /" + std::string(300, 'a');
  CHECK(parse_every_way(line, limits).code == ProblemCode::kUriTooLong);
  CHECK(parse_every_way("\r\n" + line + " HTTP/1.1\r\nHost: a\r\n\r\n", limits).code == ProblemCode::kUriTooLong);
  // A fault within the limit comes first.
  CHECK(parse_every_way(start + "\n" + std::string(300, 'x'), limits).code == ProblemCode::kMalformedRequest);

  std::string fields = "Host: a\r\nA: \r\nB: \r\nC: \r\n";
  CHECK(parse_every_way("GET / HTTP/1.1\r\n" + fields + "\r\n", limits).status == ParseStatus::kComplete);
  fields += "D: \r\n";
  CHECK(parse_every_way("GET / HTTP/1.1\r\n" + fields + "\r\n", limits).code == ProblemCode::kHeadTooLarge);
}

// Accepted and refused heads with a few bytes changed: no verdict may depend on the split, and an accepted head never
// holds what must be refused whatever else it says.
void test_mutations() {
  std::mt19937 random(20261120);
  const auto below = [&random](std::size_t bound) { return random() % bound; };
  constexpr std::string_view kLikely = "\r\n\t :,;=\0/?%*0123456789chunkedHTTP\x7f\x80"sv;
  for (int round = 0; round < 100'000; ++round) {
    const std::size_t pick = below(kAcceptedHeads.size() + kRefusedHeads.size());
    std::string bytes(pick < kAcceptedHeads.size() ? kAcceptedHeads[pick]
                                                   : kRefusedHeads[pick - kAcceptedHeads.size()].bytes);
    for (std::size_t change = below(3) + 1; change > 0 && !bytes.empty(); --change) {
      const std::size_t at = below(bytes.size());
      const char c = below(4) == 0 ? static_cast<char>(below(256)) : kLikely[below(kLikely.size())];
      switch (below(3)) {
        case 0:
          bytes[at] = c;
          break;
        case 1:
          bytes.insert(at, 1, c);
          break;
        default:
          bytes.erase(at, 1 + below(4));
      }
    }
    const HeadLimits limits{.head_bytes_max = below(8) == 0 ? 40 : std::size_t{8192}};
    std::size_t scanned = 0;
    const HeadResult whole = parse_once(bytes, scanned, limits);
    std::vector<std::size_t> ends;
    for (std::size_t end = below(8); end < bytes.size(); end += below(16) + 1) ends.push_back(end);
    ends.push_back(bytes.size());
    CHECK(parse_in_pieces(bytes, ends, limits) == whole);
    if (round % 16 == 0) CHECK(parse_every_way(bytes, limits) == whole);
    if (whole.status != ParseStatus::kComplete) continue;
    const RequestHead head = accept(bytes, limits);
    const std::string_view used(bytes.data(), head.head_bytes);
    for (std::size_t i = 0; i < used.size(); ++i) {
      CHECK(used[i] != '\n' || used[i - 1] == '\r');
      CHECK(used[i] != '\r' || used[i + 1] == '\n');
      CHECK(used[i] != '\0');
    }
    CHECK(used.find("\r\n ") == std::string_view::npos && used.find("\r\n\t") == std::string_view::npos);
    CHECK(!head.chunked || head.version_minor == 1);
  }
}

}  // namespace

int main() {
  test_refusals();
  test_acceptance();
  test_what_is_read();
  test_methods();
  test_targets();
  test_persistence();
  test_expectation();
  test_limits();
  test_mutations();
  std::printf("%zu heads accepted, %zu refused, split at every byte\n", kAcceptedHeads.size(), kRefusedHeads.size());
  return 0;
}
