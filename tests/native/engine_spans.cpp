// Spans of whatever a record holds: what is encoded is protobuf, and nothing outside the record is read.
#include <cstring>
#include <random>
#include <stdexcept>

#include "check.hpp"
#include "codec/codec_utf8.hpp"
#include "codec/proto_reader.hpp"
#include "engine/span_encoder.hpp"

namespace {

using penstock::dataplane::ProtoField;
using penstock::dataplane::ProtoReader;
using penstock::dataplane::SpanEncoder;
using penstock::dataplane::TapRecord;

// The fields of this number, which must be a message's.
std::vector<std::string_view> messages_in(std::string_view message, std::uint32_t number) {
  std::vector<std::string_view> found;
  ProtoReader reader(message);
  ProtoField field;
  while (reader.next(field)) {
    if (field.is_bytes(number)) found.push_back(field.bytes);
  }
  CHECK(!reader.is_malformed());
  return found;
}

std::vector<std::string_view> spans_of(std::string_view request) {
  const auto resources = messages_in(request, 1);
  CHECK(resources.size() == 1);
  const auto scopes = messages_in(resources[0], 2);
  CHECK(scopes.size() == 1);
  return messages_in(scopes[0], 2);
}

void check_span(std::string_view span) {
  CHECK(messages_in(span, 1).front().size() == 16 && messages_in(span, 2).front().size() == 8);
  CHECK(messages_in(span, 5).size() == 1);
  for (const std::string_view attribute : messages_in(span, 9)) {
    CHECK(messages_in(attribute, 1).size() == 1 && messages_in(attribute, 2).size() == 1);
    for (const std::string_view text : messages_in(messages_in(attribute, 2).front(), 1))
      CHECK(penstock::dataplane::is_utf8(text));
  }
}

// Lengths, enumerations and texts that no record of ours has.
void random_bytes_are_spans() {
  constexpr std::size_t kRecords = 4;
  SpanEncoder encoder({{"service.name", "of \xff tests"}}, "1");
  std::mt19937_64 random(7);
  std::string records(kRecords * sizeof(TapRecord), '\0');
  for (int round = 0; round < 2'000; ++round) {
    for (char& byte : records) byte = static_cast<char>(random());
    const std::string request = encoder.encode(records);
    const auto spans = spans_of(request);
    CHECK(spans.size() == 4 * kRecords);
    for (const std::string_view span : spans) check_span(span);
  }
}

void a_call_of_grpc_is_named_by_its_method() {
  SpanEncoder encoder({}, "1");
  const auto name_of = [&encoder](std::string_view path, std::uint8_t flags) {
    TapRecord record{};
    record.flags = flags;
    record.method = 2;
    std::memcpy(record.path, path.data(), path.size());
    record.path_bytes = static_cast<std::uint8_t>(path.size());
    const std::string request = encoder.encode({reinterpret_cast<const char*>(&record), sizeof record});
    return std::string(messages_in(spans_of(request).front(), 5).front());
  };
  CHECK(name_of("/grpc.health.v1.Health/Check", TapRecord::kGrpc) == "grpc.health.v1.Health/Check");
  CHECK(name_of("/grpc.health.v1.Health/Check", 0) == "POST");
  CHECK(name_of("/grpc.health.v1.Health/Other", TapRecord::kGrpc) == "POST");  // whose name would be the client's
  CHECK(name_of("", TapRecord::kGrpc) == "POST");
  CHECK(name_of("/predict", 0) == "POST /predict");
}

void half_a_record_is_refused() {
  SpanEncoder encoder({}, "1");
  bool refused = false;
  try {
    (void)encoder.encode(std::string_view("x"));
  } catch (const std::invalid_argument&) {
    refused = true;
  }
  CHECK(refused);
  CHECK(spans_of(encoder.encode({})).empty());
}

}  // namespace

int main() {
  random_bytes_are_spans();
  a_call_of_grpc_is_named_by_its_method();
  half_a_record_is_refused();
}
