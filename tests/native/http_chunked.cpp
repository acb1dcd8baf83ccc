// Chunked bodies: what is decoded, what is refused, and that neither depends on how the bytes arrive.
#include <algorithm>
#include <cstdio>
#include <random>
#include <string>

#include "http_parse.hpp"

namespace {

using namespace std::string_view_literals;
using namespace penstock::dataplane;
using namespace penstock::test;

void accepts(std::string_view bytes, std::string_view body) {
  const BodyResult result = decode_every_way(bytes);
  CHECK(result.status == ParseStatus::kComplete && result.consumed == bytes.size());
  CHECK(result.body == body);
  // The next request is left alone; without the last byte the body is not complete.
  const std::string more = std::string(bytes) + "GET / HTTP/1.1\r\n";
  CHECK(decode_every_way(more) == result);
  const BodyResult part = decode_every_way(bytes.substr(0, bytes.size() - 1));
  CHECK(part.status == ParseStatus::kIncomplete && part.body == body);
}

void refuses(std::string_view bytes) {
  const BodyResult result = decode_every_way(bytes);
  if (result.status != ParseStatus::kRefused) std::fprintf(stderr, "not refused: %s\n", bytes.data());
  CHECK(result.status == ParseStatus::kRefused && !result.detail.empty());
}

void test_accepted() {
  accepts("0\r\n\r\n", "");
  accepts("000\r\n\r\n", "");
  accepts("4\r\nabcd\r\n0\r\n\r\n", "abcd");
  accepts("04\r\nabcd\r\n00\r\n\r\n", "abcd");
  accepts("000000000000000000000004\r\nabcd\r\n0\r\n\r\n", "abcd");
  accepts("a\r\n0123456789\r\nA\r\n0123456789\r\n0\r\n\r\n", "01234567890123456789");
  accepts("4\r\n\r\n\0\n\r\n0\r\n\r\n"sv, "\r\n\0\n"sv);
  accepts("1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", "abc");
  accepts("1;a\r\na\r\n0\r\n\r\n", "a");
  accepts("1;a=b;c=\"d e\"\r\na\r\n0;x\r\n\r\n", "a");
  accepts("1 \t;a\r\na\r\n0 ;\r\n\r\n", "a");
  accepts("1;\xe9\r\na\r\n0\r\n\r\n", "a");
  accepts("1\r\na\r\n0\r\nDigest: x\r\n\r\n", "a");
  accepts("0\r\nA:\r\nB: c\td \r\nContent-Length: 99\r\n\r\n", "");
}

void test_refused() {
  refuses("\r\n");
  refuses("\n");
  refuses("g\r\n");
  refuses("-1\r\n");
  refuses("+1\r\na\r\n");
  refuses("0x1\r\na\r\n");
  refuses("1h\r\n");
  refuses(" 1\r\na\r\n");
  refuses("1 \r\na\r\n0\r\n\r\n");
  refuses("1 a\r\na\r\n");
  refuses(";a\r\n");
  refuses("1\na\r\n0\r\n\r\n");
  refuses("1\r\r\n");
  refuses("1\rX");
  refuses("1;a\nb\r\n");
  refuses("1;a\rb\r\n");
  refuses("1;\0\r\n"sv);
  refuses("1;\x7f\r\n");
  refuses("1\r\nab\r\n");
  refuses("2\r\na\r\n0\r\n\r\n");
  refuses("1\r\na\n");
  refuses("1\r\na\rX");
  refuses("1\r\na0\r\n\r\n");
  refuses("0\r\n\n");
  refuses("0\r\n\rX");
  refuses("0\r\nA: b\n\r\n");
  refuses("0\r\nA\r\n\r\n");
  refuses("0\r\nA : b\r\n\r\n");
  refuses("0\r\n: b\r\n\r\n");
  refuses("0\r\n A: b\r\n\r\n");
  refuses("0\r\nA: b\r\n c\r\n\r\n");
  refuses("0\r\nA: \0\r\n\r\n"sv);
  refuses("0\r\nGET / HTTP/1.1\r\n\r\n");
  refuses("10000000000000000\r\n");
  refuses("fffffffffffffffff\r\n");
}

void test_bounds() {
  ChunkedDecoder decoder;
  Problem problem;
  std::string largest = "ffffffffffffffff\r\nab";
  const auto step = decoder.decode(largest.data(), largest.size(), problem);
  CHECK(step.status == ParseStatus::kIncomplete && step.produced == 2);
  CHECK(decoder.announced() == 0xffffffffffffffffU - 2);
  decoder.reset();
  CHECK(decoder.announced() == 0);

  accepts("1;" + std::string(4095, 'x') + "\r\na\r\n0\r\n\r\n", "a");
  refuses("1;" + std::string(4096, 'x') + "\r\na\r\n0\r\n\r\n");
  refuses(std::string(4200, '0'));
  refuses("0\r\nA: " + std::string(4200, 'x'));
  std::string small_ones;
  for (int i = 0; i < 1000; ++i) small_ones += "1;xxxx\r\na\r\n";
  refuses(small_ones);
  // Sizes themselves are no overhead: many chunks make a body.
  std::string many;
  for (int i = 0; i < 5000; ++i) many += "1\r\na\r\n";
  many += "0\r\n\r\n";
  const BodyResult result = decode_in_pieces(many, {many.size()});
  CHECK(result.status == ParseStatus::kComplete && result.body == std::string(5000, 'a'));
}

// Random bodies in random chunks come out as they went in; with a byte changed, the verdict does not depend on the
// split.
void test_random() {
  std::mt19937 random(20261120);
  const auto below = [&random](std::size_t bound) { return random() % bound; };
  for (int round = 0; round < 5000; ++round) {
    std::string body(below(300), '\0');
    for (char& c : body) c = static_cast<char>(below(256));
    std::string bytes;
    for (std::size_t at = 0; at < body.size();) {
      const std::size_t size = std::min(body.size() - at, below(64) + 1);
      char line[32];
      const int line_bytes = std::snprintf(line, sizeof(line), below(2) == 0 ? "%zx%s\r\n" : "%zX%s\r\n", size,
                                           below(4) == 0 ? ";a=b" : "");
      bytes.append(line, static_cast<std::size_t>(line_bytes)).append(body, at, size).append("\r\n");
      at += size;
    }
    bytes += below(2) == 0 ? "0\r\n\r\n" : "0\r\nA: b\r\n\r\n";
    std::vector<std::size_t> ends;
    for (std::size_t end = below(32); end < bytes.size(); end += below(32)) ends.push_back(end);
    ends.push_back(bytes.size());
    const BodyResult result = decode_in_pieces(bytes, ends);
    CHECK(result.status == ParseStatus::kComplete && result.body == body && result.consumed == bytes.size());
    bytes[below(bytes.size())] = static_cast<char>(below(256));
    CHECK(decode_in_pieces(bytes, ends) == decode_in_pieces(bytes, {bytes.size()}));
  }
}

}  // namespace

int main() {
  test_accepted();
  test_refused();
  test_bounds();
  test_random();
  return 0;
}
