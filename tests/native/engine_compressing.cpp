// Compressed bodies of requests and replies: the bounds on memory, and heads that are written anew.
#include <cstdint>
#include <string>
#include <string_view>

#include "check.hpp"
#include "engine/compressing.hpp"

namespace {

using namespace penstock::dataplane;

constexpr std::string_view kHead = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Encoding: gzip\r\n\r\n";

std::string packed(Coding coding, std::string_view body) {
  Compressor compressor;
  std::string out(body.size() + 1024, '\0');
  out.resize(compressor.compress(coding, body, out.data(), out.size()));
  return out;
}

void test_requests(Coding coding) {
  BodyPool pool(1 << 20);
  Decompressor decompressor;
  const std::string body(10'000, 'x');
  {
    Inflated inflated;
    Problem problem;
    CHECK(inflate_request(decompressor, coding, kHead, packed(coding, body), body.size(), pool, inflated, problem));
    CHECK(std::string_view(inflated.block.data(), inflated.bytes) == std::string(kHead) + body);
    CHECK(pool.bytes_used() == inflated.block.bytes() && inflated.block.bytes() <= kHead.size() + body.size() + 1);
  }
  {  // parts that say nothing of the rest
    Inflated inflated;
    Problem problem;
    std::string parts;
    for (int i = 0; i < 20; ++i) parts += packed(coding, body);
    CHECK(inflate_request(decompressor, coding, kHead, parts, 20 * body.size(), pool, inflated, problem));
    CHECK(inflated.bytes == kHead.size() + 20 * body.size());
  }
  Inflated inflated;
  Problem problem;
  CHECK(!inflate_request(decompressor, coding, kHead, packed(coding, body), body.size() - 1, pool, inflated, problem));
  CHECK(problem.code() == ProblemCode::kBodyTooLarge);
  problem.clear();
  CHECK(!inflate_request(decompressor, coding, kHead, "gzip?", 100, pool, inflated, problem));
  CHECK(problem.code() == ProblemCode::kMalformedBody);
  problem.clear();
  // Larger than the pool: refused, and not waited for.
  const std::string large = packed(coding, std::string(4 << 20, ' '));
  CHECK(!inflate_request(decompressor, coding, kHead, large, 64 << 20, pool, inflated, problem));
  CHECK(problem.code() == ProblemCode::kMemoryExhausted);
  inflated.block.reset();
  CHECK(pool.bytes_used() == 0);
}

std::string compressed(Coding coding, std::string_view reply, std::size_t bytes_min = 1) {
  Compressor compressor;
  std::string out(reply.size(), '\0');
  out.resize(compress_reply(compressor, coding, reply, bytes_min, out.data()));
  return out;
}

void test_replies(Coding coding) {
  const std::string body(5000, 'y');
  const std::string reply = "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nDate: d\r\nVary: Origin\r\n\r\n" + body;
  const std::string small = compressed(coding, reply);
  const std::size_t head_end = small.find("\r\n\r\n") + 4;
  const std::string rest = small.substr(head_end);
  CHECK(small.substr(0, head_end) == "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(rest.size()) +
                                         "\r\nContent-Encoding: " + std::string(name_of(coding)) +
                                         "\r\nDate: d\r\nVary: Origin\r\n\r\n");
  BodyPool pool(1 << 20);
  Decompressor decompressor;
  Inflated inflated;
  Problem problem;
  CHECK(inflate_request(decompressor, coding, "", rest, body.size(), pool, inflated, problem));
  CHECK(std::string_view(inflated.block.data(), inflated.bytes) == body);

  // What is left as it is.
  CHECK(compressed(coding, reply, 5001).empty());
  CHECK(compressed(coding, "HTTP/1.1 204 No Content\r\nAllow: GET\r\n\r\n").empty());
  CHECK(compressed(coding, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").empty());
  CHECK(compressed(coding, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\nContent-Encoding: br\r\n\r\n" + body).empty());
  std::string noise;  // that gets no smaller
  std::uint32_t state = 1;
  for (int i = 0; i < 5000; ++i) noise += static_cast<char>((state = state * 1664525 + 1013904223) >> 24);
  CHECK(compressed(coding, "HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + noise).empty());
}

}  // namespace

int main() {
  for (const Coding coding : {Coding::kGzip, Coding::kZstd}) {
    if (!is_built(coding)) continue;
    test_requests(coding);
    test_replies(coding);
  }
}
