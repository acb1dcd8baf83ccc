// Reads requests from standard input, one per line in hexadecimal, and prints what the parser makes of each as one line
// of JSON. For tests/differential/test_http.py.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <string>

#include "http/ascii.hpp"
#include "http/http_parser.hpp"

namespace {

using namespace penstock::dataplane;

std::string from_hex(std::string_view hex) {
  std::string bytes;
  for (std::size_t i = 0; i + 1 < hex.size(); i += 2) {
    bytes.push_back(static_cast<char>(hex_value(hex[i]) * 16 + hex_value(hex[i + 1])));
  }
  return bytes;
}

void print_hex(const char* name, std::string_view bytes) {
  std::printf(", \"%s\": \"", name);
  for (const char c : bytes) std::printf("%02x", static_cast<unsigned>(static_cast<unsigned char>(c)));
  std::printf("\"");
}

const char* name_of(ParseStatus status) {
  switch (status) {
    case ParseStatus::kIncomplete:
      return "incomplete";
    case ParseStatus::kComplete:
      return "complete";
    case ParseStatus::kRefused:
      return "refused";
  }
  return "unknown";
}

struct Message {
  ParseStatus status;
  std::string body;
  std::size_t bytes = 0;  // head and body
};

Message read_body(const RequestHead& head, std::string rest, Problem& problem) {
  if (head.chunked) {
    ChunkedDecoder decoder;
    const auto step = decoder.decode(rest.data(), rest.size(), problem);
    return {step.status, rest.substr(0, step.produced), head.head_bytes + step.consumed};
  }
  const std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(head.content_length, rest.size()));
  const bool whole = size == head.content_length;
  return {whole ? ParseStatus::kComplete : ParseStatus::kIncomplete, rest.substr(0, size), head.head_bytes + size};
}

void judge(const std::string& bytes) {
  RequestHead head;
  Problem problem;
  std::size_t scanned = 0;
  Message message{parse_head(bytes, scanned, HeadLimits{}, head, problem), {}};
  const bool has_head = message.status == ParseStatus::kComplete;
  if (has_head) message = read_body(head, bytes.substr(head.head_bytes), problem);
  const std::string_view code = info_of(problem.code()).code;
  std::printf(R"({"status": "%s", "code": "%.*s", "bytes": %zu)", name_of(message.status),
              static_cast<int>(code.size()), code.data(), message.bytes);
  print_hex("body", message.body);
  if (has_head) {
    print_hex("method", head.method_name);
    print_hex("path", head.path);
    print_hex("query", head.query);
    print_hex("fields", head.fields);
    std::printf(R"(, "version_minor": %d, "keep_alive": %s)", head.version_minor, head.keep_alive ? "true" : "false");
  }
  std::printf("}\n");
  std::fflush(stdout);
}

}  // namespace

int main() {
  for (std::string line; std::getline(std::cin, line);) judge(from_hex(line));
  return 0;
}
