// Codecs on standard input and output, for tests in other languages. tests/codec_process.py is its client.
//
// A request is a frame: its length (u32, little-endian like all numbers here), then fields, strings with a u32 length:
//   op      u8: 0 decode, 1 encode
//   encoding u8: 0 JSON, 1 msgpack, 2 raw
//   tensors of the inputs, then of the outputs: u32 count; name string, dtype u8, whether it varies u8, rank u8,
//   extents u32 each; strings have the default room. decode: query model string, query version string, body string
//   encode: model string, version string, output index u32, length u32, one string of bytes per output
// A reply is a frame: u8 0 and, decode: model string, version string, row string, length string; encode: body string;
//   or u8 1, code string, detail string.
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codec_fixture.hpp"

namespace {

using penstock::ModelSchema;
using penstock::RowLayout;
using penstock::TensorSpec;
using namespace penstock::dataplane;

class FrameReader {
 public:
  explicit FrameReader(std::string_view bytes) : bytes_(bytes) {}
  template <typename T>
  T number() {
    T value{};
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::string_view string() { return take(number<std::uint32_t>()); }

 private:
  std::string_view take(std::size_t count) {
    CHECK(count <= bytes_.size());
    const std::string_view taken = bytes_.substr(0, count);
    bytes_.remove_prefix(count);
    return taken;
  }
  std::string_view bytes_;
};

void append_string(std::string& out, std::string_view text) {
  const auto size = static_cast<std::uint32_t>(text.size());
  out.append(reinterpret_cast<const char*>(&size), sizeof(size)).append(text);
}

RowLayout read_layout(FrameReader& frame) {
  std::vector<TensorSpec> tensors(frame.number<std::uint32_t>());
  for (TensorSpec& tensor : tensors) {
    tensor.name = frame.string();
    tensor.dtype = static_cast<penstock::DType>(frame.number<std::uint8_t>());
    tensor.varies = frame.number<std::uint8_t>() != 0;
    tensor.shape.resize(frame.number<std::uint8_t>());
    for (std::uint32_t& extent : tensor.shape) extent = frame.number<std::uint32_t>();
    if (tensor.dtype == penstock::DType::kBytes) tensor.heap_bytes = penstock::heap_bytes_of(tensor.elements());
  }
  return RowLayout(std::move(tensors));
}

std::string decode(FrameReader& frame, Encoding encoding, ModelSchema schema) {
  penstock::test::RowFixture fixture(std::move(schema));
  const QueryNames names{frame.string(), frame.string()};
  const penstock::test::ExactBody body(frame.string());
  Problem problem;
  const bool decoded = penstock::test::decode(encoding, body.view(), names, fixture, problem);
  CHECK(fixture.guards_hold(decoded));
  CHECK(fixture.calls() <= 1);
  CHECK(decoded == (problem.code() == ProblemCode::kNone));
  std::string reply(1, decoded ? '\0' : '\1');
  if (!decoded) {
    append_string(reply, info_of(problem.code()).code);
    append_string(reply, problem.detail());
    return reply;
  }
  append_string(reply, fixture.model());
  append_string(reply, fixture.version());
  append_string(reply, {reinterpret_cast<const char*>(fixture.row()), fixture.row_bytes()});
  append_string(reply, std::to_string(fixture.length()));
  return reply;
}

std::string encode(FrameReader& frame, Encoding encoding, const ModelSchema& schema) {
  const std::string_view model = frame.string();
  const std::string_view version = frame.string();
  const auto output = frame.number<std::uint32_t>();
  const auto length = frame.number<std::uint32_t>();
  std::vector<penstock::test::ExactBody> tensors;
  std::vector<const std::byte*> outputs;
  for (std::size_t i = 0; i < schema.outputs.size(); ++i) {
    tensors.emplace_back(frame.string());
    CHECK(tensors.back().view().size() == schema.outputs.tensors()[i].bytes());
    outputs.push_back(reinterpret_cast<const std::byte*>(tensors.back().view().data()));
  }
  const ReplyEncoder encoder(model, version, schema);
  const std::size_t bytes_max = encoder.bytes_max(encoding, length);
  CHECK(length == 0 ? bytes_max == encoder.bytes_max(encoding)
                    : encoding == Encoding::kRaw || bytes_max <= encoder.bytes_max(encoding));
  const std::unique_ptr<char[]> body(new char[bytes_max]);
  const std::size_t bytes = encoder.encode(encoding, outputs, output, body.get(), length);
  CHECK(bytes <= bytes_max);
  std::string reply(1, '\0');
  append_string(reply, {body.get(), bytes});
  return reply;
}

}  // namespace

int main() {
  std::uint32_t size = 0;
  std::string bytes;
  while (std::fread(&size, sizeof(size), 1, stdin) == 1) {
    bytes.resize(size);
    CHECK(std::fread(bytes.data(), 1, size, stdin) == size);
    FrameReader frame(bytes);
    const auto op = frame.number<std::uint8_t>();
    const auto encoding = static_cast<Encoding>(frame.number<std::uint8_t>());
    RowLayout inputs = read_layout(frame);
    RowLayout outputs = read_layout(frame);
    ModelSchema schema{std::move(inputs), std::move(outputs)};
    const std::string reply = op == 0 ? decode(frame, encoding, std::move(schema)) : encode(frame, encoding, schema);
    const auto reply_size = static_cast<std::uint32_t>(reply.size());
    CHECK(std::fwrite(&reply_size, sizeof(reply_size), 1, stdout) == 1);
    CHECK(std::fwrite(reply.data(), 1, reply.size(), stdout) == reply.size());
    std::fflush(stdout);
  }
  return 0;
}
