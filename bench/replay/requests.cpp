#include "requests.hpp"

#include <bit>
#include <charconv>
#include <random>
#include <string>

namespace penstock::replay {
namespace {

using dataplane::Encoding;

constexpr std::uint32_t kSeed = 7;

// Six decimals, as people write numbers. The standard's distributions differ between libraries, its generators do not.
float next_number(std::mt19937& random) {
  return static_cast<float>(static_cast<double>(random() % 2'000'001U) / 1e6 - 1.0);
}

std::string_view media_type(Encoding encoding) {
  switch (encoding) {
    case Encoding::kJson:
      return "application/json";
    case Encoding::kMsgpack:
      return "application/msgpack";
    case Encoding::kRaw:
      break;
  }
  return "application/octet-stream";
}

std::string json_body(const Case& which, std::mt19937& random) {
  std::string body = "{\"model\":\"" + std::string(which.model) + "\",\"inputs\":[";
  for (std::uint32_t i = 0; i < which.inputs; ++i) {
    char text[32];
    char* const end = std::to_chars(text, text + sizeof text, next_number(random)).ptr;
    body.append(i == 0 ? "" : ",").append(text, static_cast<std::size_t>(end - text));
  }
  return body + "]}";
}

std::string msgpack_body(const Case& which, std::mt19937& random) {
  std::string body = "\x82\xa5model\xa2" + std::string(which.model) + "\xa6inputs\xdc";
  body += static_cast<char>(which.inputs >> 8);
  body += static_cast<char>(which.inputs & 0xFF);
  for (std::uint32_t i = 0; i < which.inputs; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(next_number(random));
    body += '\xca';
    for (const int shift : {24, 16, 8, 0}) body += static_cast<char>(bits >> shift & 0xFF);
  }
  return body;
}

std::string raw_body(const Case& which, std::mt19937& random) {
  std::string body;
  for (std::uint32_t i = 0; i < which.inputs; ++i) {
    const auto bits = std::bit_cast<std::uint32_t>(next_number(random));
    for (const int shift : {0, 8, 16, 24}) body += static_cast<char>(bits >> shift & 0xFF);
  }
  return body;
}

std::string make_body(const Case& which, std::mt19937& random) {
  if (which.encoding == Encoding::kJson) return json_body(which, random);
  return which.encoding == Encoding::kMsgpack ? msgpack_body(which, random) : raw_body(which, random);
}

}  // namespace

std::vector<WireRequest> make_requests(const Case& which) {
  std::mt19937 random(kSeed);
  std::vector<WireRequest> requests;
  const std::string type(media_type(which.encoding));
  const std::string query = which.encoding == Encoding::kRaw ? "?model=" + std::string(which.model) : "";
  for (std::size_t i = 0; i < kRequests; ++i) {
    const std::string body = make_body(which, random);
    std::string head = "POST /predict" + query + " HTTP/1.1\r\nHost: 127.0.0.1:8000\r\nContent-Type: " + type +
                       "\r\nAccept: " + type + "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n";
    requests.push_back({head + body, head.size()});
  }
  return requests;
}

}  // namespace penstock::replay
