// What must hold for any bytes at all: shared by the bounded mutation test and the fuzz target.
#pragma once

#include <array>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "codec_fixture.hpp"

namespace penstock::test {

// The outputs are the inputs, so that a decoded row can be sent back and decoded again.
inline ModelSchema echo(std::vector<TensorSpec> tensors) { return {RowLayout(tensors), RowLayout(tensors)}; }

inline std::vector<std::unique_ptr<RowFixture>> hostile_fixtures() {
  std::vector<std::unique_ptr<RowFixture>> fixtures;
  for (const DTypeInfo& info : kDTypes) {
    fixtures.push_back(std::make_unique<RowFixture>(echo({{"x", info.dtype, {3}}})));
  }
  fixtures.push_back(std::make_unique<RowFixture>(echo({{"x", DType::kFloat32, {}}})));
  fixtures.push_back(std::make_unique<RowFixture>(echo({{"x", DType::kBytes, {3}, false, 32}})));
  fixtures.push_back(
      std::make_unique<RowFixture>(echo({{"x", DType::kBytes, {2, 2}, true, 16}, {"y", DType::kBytes, {}, false, 8}})));
  fixtures.push_back(std::make_unique<RowFixture>(echo({{"x", DType::kInt32, {2, 1, 2}}})));
  fixtures.push_back(std::make_unique<RowFixture>(echo({{"x", DType::kFloat64, {2, 0}}})));
  fixtures.push_back(std::make_unique<RowFixture>(echo({{"x", DType::kInt16, {4}, true}})));
  fixtures.push_back(std::make_unique<RowFixture>(
      echo({{"x", DType::kFloat32, {3, 2}, true}, {"y", DType::kBool, {3}, true}, {"z", DType::kInt8, {}}})));
  fixtures.push_back(std::make_unique<RowFixture>(
      echo({{"x", DType::kBool, {2}}, {"y", DType::kFloat16, {}}, {"\xC3\xA9\n", DType::kUint64, {1, 2}}})));
  return fixtures;
}

inline std::string encode_row(dataplane::Encoding encoding, const RowFixture& fixture) {
  const dataplane::ReplyEncoder encoder("m", "1", fixture.schema());
  std::vector<const std::byte*> outputs;
  for (std::size_t i = 0; i < fixture.schema().outputs.size(); ++i) {
    outputs.push_back(fixture.row() + fixture.schema().inputs.offset(i));
  }
  const std::unique_ptr<char[]> out(new char[encoder.bytes_max(encoding, fixture.length())]);
  return {out.get(), encoder.encode(encoding, outputs, 0, out.get(), fixture.length())};
}

// A reply turned into the request for the same row.
inline std::string as_request(dataplane::Encoding encoding, std::string reply) {
  const bool is_json = encoding == dataplane::Encoding::kJson;
  const std::string_view from = is_json ? "\"outputs\"" : "\xa7outputs";
  return reply.replace(reply.find(from), from.size(), is_json ? "\"inputs\"" : "\xa6inputs");
}

inline void check_round_trip(dataplane::Encoding encoding, RowFixture& fixture) {
  if (encoding == dataplane::Encoding::kRaw) return;
  const std::string reply = encode_row(encoding, fixture);
  const ExactBody body(as_request(encoding, reply));
  dataplane::Problem problem;
  fixture.clear();
  CHECK(decode(encoding, body.view(), {}, fixture, problem));
  CHECK(encode_row(encoding, fixture) == reply);
}

// Decodes `bytes` as they are. True: they were taken.
inline bool check_hostile(dataplane::Encoding encoding, RowFixture& fixture, std::string_view bytes) {
  const ExactBody body(bytes);
  dataplane::Problem problem;
  fixture.clear();
  const bool decoded = decode(encoding, body.view(), {}, fixture, problem);
  CHECK(fixture.guards_hold(decoded));
  CHECK(fixture.calls() <= 1);
  CHECK(decoded == (problem.code() == dataplane::ProblemCode::kNone));
  CHECK(decoded || !problem.detail().empty());
  if (!decoded) return false;

  // With both names in the query no member has to wait for another: the other way through the decoder, the same row.
  const std::string model(fixture.model().empty() ? "m" : fixture.model());
  const std::string version(fixture.version().empty() ? "1" : fixture.version());
  const std::string row(reinterpret_cast<const char*>(fixture.row()), fixture.row_bytes());
  if (model.size() < RowFixture::kNameBytesMax && version.size() < RowFixture::kNameBytesMax) {
    fixture.clear();
    CHECK(decode(encoding, body.view(), {model, version}, fixture, problem));
    CHECK(row == std::string_view(reinterpret_cast<const char*>(fixture.row()), fixture.row_bytes()));
  }
  check_round_trip(encoding, fixture);
  return true;
}

}  // namespace penstock::test
