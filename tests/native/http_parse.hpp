// Parsing as a connection does it, and the properties that must hold for any bytes. Buffers are exactly as large as
// what they hold, so that the address sanitizer sees a read past the end.
#pragma once

#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "http/http_parser.hpp"

namespace penstock::test {

struct HeadResult {
  dataplane::ParseStatus status = dataplane::ParseStatus::kIncomplete;
  dataplane::ProblemCode code = dataplane::ProblemCode::kNone;
  std::string text;  // all that was found, or the detail
  bool operator==(const HeadResult&) const = default;
};

inline std::string describe(const dataplane::RequestHead& head, const char* buffer) {
  std::string text;
  const auto add = [&text, buffer, &head](std::string_view view) {
    // Views point into the head, but for the path "/" of a target that has none.
    const bool inside = view.data() >= buffer && view.data() + view.size() <= buffer + head.head_bytes;
    CHECK(view.empty() || inside || view == "/");
    text.append(view).push_back('\n');
  };
  for (const std::string_view view : {head.method_name, head.path, head.query, head.host, head.content_type,
                                      head.accept, head.request_id, head.timeout_ms, head.priority, head.reproducible,
                                      head.receipt, head.traceparent, head.authorization, head.api_key, head.fields}) {
    add(view);
  }
  for (const std::uint64_t number :
       {std::uint64_t{head.head_bytes}, head.content_length, std::uint64_t{head.has_content_length},
        std::uint64_t{head.chunked}, std::uint64_t{head.keep_alive}, std::uint64_t{head.expect_continue},
        std::uint64_t{head.version_minor}, std::uint64_t{head.accept_fields},
        static_cast<std::uint64_t>(head.method)}) {
    text += std::to_string(number) + ' ';
  }
  return text;
}

// One call, on a copy without a byte to spare.
inline HeadResult parse_once(std::string_view bytes, std::size_t& scanned, const dataplane::HeadLimits& limits = {}) {
  const auto copy = std::make_unique<char[]>(bytes.size());
  if (!bytes.empty()) std::memcpy(copy.get(), bytes.data(), bytes.size());
  dataplane::RequestHead head;
  dataplane::Problem problem;
  HeadResult result;
  result.status = dataplane::parse_head({copy.get(), bytes.size()}, scanned, limits, head, problem);
  result.code = problem.code();
  CHECK((result.status == dataplane::ParseStatus::kRefused) == static_cast<bool>(problem));
  CHECK(scanned <= bytes.size());
  result.text = problem.detail();
  if (result.status == dataplane::ParseStatus::kComplete) {
    CHECK(head.head_bytes <= bytes.size());
    CHECK(!(head.chunked && head.has_content_length));
    result.text = describe(head, copy.get());
  }
  return result;
}

// As the bytes arrive: up to each of `ends` in turn, until there is a verdict.
inline HeadResult parse_in_pieces(std::string_view bytes, const std::vector<std::size_t>& ends,
                                  const dataplane::HeadLimits& limits = {}) {
  std::size_t scanned = 0;
  HeadResult result;
  for (const std::size_t end : ends) {
    const std::size_t before = scanned;
    result = parse_once(bytes.substr(0, end), scanned, limits);
    CHECK(scanned >= before);
    if (result.status != dataplane::ParseStatus::kIncomplete) break;
  }
  return result;
}

// Whole, byte by byte, and cut in two at every position: the verdict is the same.
inline HeadResult parse_every_way(std::string_view bytes, const dataplane::HeadLimits& limits = {}) {
  std::size_t scanned = 0;
  const HeadResult whole = parse_once(bytes, scanned, limits);
  CHECK(parse_once(bytes, scanned, limits) == whole);  // as when a head is read again once its body is there
  std::vector<std::size_t> every;
  for (std::size_t end = 0; end <= bytes.size(); ++end) {
    every.push_back(end);
    CHECK(parse_in_pieces(bytes, {end, bytes.size()}, limits) == whole);
  }
  CHECK(parse_in_pieces(bytes, every, limits) == whole);
  return whole;
}

struct BodyResult {
  dataplane::ParseStatus status = dataplane::ParseStatus::kIncomplete;
  std::size_t consumed = 0;
  std::string body;
  std::string detail;
  bool operator==(const BodyResult&) const = default;
};

// Decodes a chunked body in pieces that end at `ends`.
inline BodyResult decode_in_pieces(std::string_view bytes, const std::vector<std::size_t>& ends) {
  dataplane::ChunkedDecoder decoder;
  BodyResult result;
  std::size_t begin = 0;
  for (const std::size_t end : ends) {
    const std::size_t size = end - begin;
    const auto piece = std::make_unique<char[]>(size);
    if (size != 0) std::memcpy(piece.get(), bytes.data() + begin, size);
    dataplane::Problem problem;
    const auto step = decoder.decode(piece.get(), size, problem);
    CHECK(step.consumed <= size && step.produced <= step.consumed);
    CHECK((step.status == dataplane::ParseStatus::kRefused) == static_cast<bool>(problem));
    result.status = step.status;
    result.consumed += step.consumed;
    result.body.append(piece.get(), step.produced);
    result.detail = problem.detail();
    if (step.status != dataplane::ParseStatus::kIncomplete) break;
    CHECK(step.consumed == size);
    begin = end;
  }
  return result;
}

inline BodyResult decode_every_way(std::string_view bytes) {
  const BodyResult whole = decode_in_pieces(bytes, {bytes.size()});
  std::vector<std::size_t> every;
  for (std::size_t end = 0; end <= bytes.size(); ++end) {
    every.push_back(end);
    CHECK(decode_in_pieces(bytes, {end, bytes.size()}) == whole);
  }
  CHECK(decode_in_pieces(bytes, every) == whole);
  return whole;
}

}  // namespace penstock::test
