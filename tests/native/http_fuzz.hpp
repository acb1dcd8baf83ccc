// What must hold for any bytes at all: no read outside them, bounded output, and a verdict that does not depend on how
// they were split. Run by the fuzz targets on what they invent and by http_corpus.cpp on what they once found worth
// keeping.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "check.hpp"
#include "http/compression.hpp"
#include "http/media_type.hpp"
#include "http/query.hpp"
#include "http/response.hpp"
#include "http_parse.hpp"

namespace penstock::test {

// Pieces whose sizes follow from the bytes, so that a run can be repeated.
inline std::vector<std::size_t> some_ends(std::string_view bytes) {
  std::vector<std::size_t> ends;
  std::size_t end = 0;
  while (end < bytes.size()) {
    ends.push_back(end);
    end += 1 + static_cast<unsigned char>(bytes[end]) % 7;
  }
  ends.push_back(bytes.size());
  return ends;
}

inline void fuzz_head(std::string_view bytes) {
  constexpr dataplane::HeadLimits kTight{.head_bytes_max = 48, .fields_max = 2};
  for (const dataplane::HeadLimits& limits : {dataplane::HeadLimits{}, kTight}) {
    std::size_t scanned = 0;
    const HeadResult whole = parse_once(bytes, scanned, limits);
    CHECK(parse_in_pieces(bytes, some_ends(bytes), limits) == whole);
    if (bytes.size() <= 64) CHECK(parse_every_way(bytes, limits) == whole);
  }
}

inline void fuzz_chunked(std::string_view bytes) {
  const BodyResult whole = decode_in_pieces(bytes, {bytes.size()});
  CHECK(decode_in_pieces(bytes, some_ends(bytes)) == whole);
  if (bytes.size() <= 64) CHECK(decode_every_way(bytes) == whole);
}

// The bytes as each of the texts that a client chooses.
inline void fuzz_texts(std::string_view bytes) {
  const std::string text(bytes);
  static_cast<void>(dataplane::parse_content_type(text));
  dataplane::RequestHead head;
  head.accept = text;
  head.accept_fields = 1;
  static_cast<void>(dataplane::negotiate(head));

  dataplane::QueryParams params;
  dataplane::Problem problem;
  std::string scratch(text.size(), '\0');
  if (!dataplane::parse_query(text, scratch, params, problem))
    CHECK(problem.code() == dataplane::ProblemCode::kMalformedRequest);

  problem.set(dataplane::ProblemCode::kInvalidInput, "%s", text.c_str());
  std::string out(dataplane::kProblemBytesMax, '\0');
  const std::size_t size = dataplane::write_problem(out.data(), problem, {.request_id = text});
  CHECK(size <= out.size() && out[size - 1] == '}');
}

inline constexpr std::size_t kDecodedBytesMax = 1 << 16;

inline dataplane::Decompressor::Status decode_all(dataplane::Decompressor& decompressor, dataplane::Coding coding,
                                                  std::string_view in, std::size_t room, std::string& text) {
  CHECK(decompressor.start(coding));
  std::vector<char> out(room);  // of its own, so that the address sanitizer sees a byte too many
  for (;;) {
    const dataplane::Decompressor::Step step = decompressor.decode(in, out.data(), room);
    CHECK(step.consumed <= in.size() && step.produced <= room);
    in.remove_prefix(step.consumed);
    text.append(out.data(), step.produced);
    if (step.status != dataplane::Decompressor::Status::kFull || text.size() >= kDecodedBytesMax) return step.status;
  }
}

// The first byte chooses the coding of the others.
inline void fuzz_compression(std::string_view bytes) {
  using Status = dataplane::Decompressor::Status;
  if (bytes.empty()) return;
  const auto coding =
      static_cast<unsigned char>(bytes[0]) % 2 == 0 ? dataplane::Coding::kGzip : dataplane::Coding::kZstd;
  if (!dataplane::is_built(coding)) return;
  const std::string_view in = bytes.substr(1);
  static dataplane::Decompressor decompressor;  // as of a loop, one for all bodies
  static_cast<void>(dataplane::announced_bytes(coding, in));
  std::string whole;
  std::string pieces;
  if (decode_all(decompressor, coding, in, kDecodedBytesMax + 1, whole) != Status::kDone) return;
  CHECK(decode_all(decompressor, coding, in, 37, pieces) == Status::kDone || whole.size() >= kDecodedBytesMax);
  CHECK(pieces == whole || whole.size() >= kDecodedBytesMax);
}

}  // namespace penstock::test
