// Replies: what does not depend on values is rendered once per route, and copied.
#include <algorithm>
#include <cstring>
#include <stdexcept>

#include "codec/codec_msgpack_write.hpp"
#include "codec/codec_reply_value.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::uint64_t kReplyBytesMax = 1ULL << 40;

void append_json_string(std::string& out, std::string_view text) {
  constexpr std::string_view kHex = "0123456789abcdef";
  out += '"';
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (byte < 0x20) {
      out.append("\\u00").append(1, kHex[byte >> 4]).append(1, kHex[byte & 0xFU]);
    } else {
      out += c;
    }
  }
  out += '"';
}

void append_msgpack_string(std::string& out, std::string_view text) {
  const std::size_t size = out.size();
  out.resize(size + text.size() + kMsgpackHeadBytesMax);
  const char* const end = write_msgpack_string(text, out.data() + size);
  out.resize(static_cast<std::size_t>(end - out.data()));
}

void append_msgpack_map(std::string& out, std::size_t count) {
  char head[kMsgpackHeadBytesMax];
  out.append(head, write_msgpack_map(static_cast<std::uint32_t>(count), head));
}

std::string json_opening(std::string_view model, std::string_view version) {
  std::string text = "{\"model\":";
  append_json_string(text, model);
  text += ",\"version\":";
  append_json_string(text, version);
  text += ",\"outputs\":{";
  return text;
}

std::string msgpack_opening(std::string_view model, std::string_view version, std::size_t outputs) {
  std::string text;
  append_msgpack_map(text, 3);
  append_msgpack_string(text, "model");
  append_msgpack_string(text, model);
  append_msgpack_string(text, "version");
  append_msgpack_string(text, version);
  append_msgpack_string(text, "outputs");
  append_msgpack_map(text, outputs);
  return text;
}

void check(const RowLayout& layout) {
  if (layout.size() > kTensorsMax) throw std::invalid_argument("a schema may have 1024 inputs and 1024 outputs");
  for (const TensorSpec& tensor : layout.tensors()) {
    if (tensor.shape.size() > kRankMax) throw std::invalid_argument("a tensor may have 32 dimensions");
  }
}

[[nodiscard]] char* copy(const std::string& text, char* out) noexcept {
  std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

std::size_t checked(std::uint64_t bytes) {
  if (bytes > kReplyBytesMax) throw std::invalid_argument("the outputs of a row do not fit into a reply");
  return static_cast<std::size_t>(bytes);
}

}  // namespace

ReplyEncoder::ReplyEncoder(std::string_view model, std::string_view version, const ModelSchema& schema)
    : schema_(&schema) {
  check(schema.inputs);
  check(schema.outputs);
  std::string json = json_opening(model, version);
  std::string msgpack = msgpack_opening(model, version, schema.outputs.size());
  // One prefix in front of every output, and one behind the last.
  for (std::size_t i = 0; i < schema.outputs.size(); ++i) {
    const TensorSpec& output = schema.outputs.tensors()[i];
    if (i != 0) json += ',';
    append_json_string(json, output.name);
    json += ':';
    append_msgpack_string(msgpack, output.name);
    json_bytes_max_ = checked(json_bytes_max_ + json.size() + json_value_bytes_max(output));
    msgpack_bytes_max_ = checked(msgpack_bytes_max_ + msgpack.size() + msgpack_value_bytes_max(output));
    raw_bytes_max_ = std::max(raw_bytes_max_, checked(output.bytes()));
    json_prefix_.push_back(std::move(json));
    msgpack_prefix_.push_back(std::move(msgpack));
    json.clear();
    msgpack.clear();
  }
  json += "}}";
  json_bytes_max_ += json.size();
  msgpack_bytes_max_ += msgpack.size();
  json_prefix_.push_back(std::move(json));
  msgpack_prefix_.push_back(std::move(msgpack));
}

std::size_t ReplyEncoder::bytes_max(Encoding encoding) const noexcept {
  switch (encoding) {
    case Encoding::kJson:
      return json_bytes_max_;
    case Encoding::kMsgpack:
      return msgpack_bytes_max_;
    case Encoding::kRaw:
      return raw_bytes_max_;
  }
  return 0;
}

std::size_t ReplyEncoder::encode(Encoding encoding, std::span<const std::byte* const> outputs, std::size_t output,
                                 char* out) const noexcept {
  const std::vector<TensorSpec>& tensors = schema_->outputs.tensors();
  if (encoding == Encoding::kRaw) {
    const auto bytes = static_cast<std::size_t>(tensors[output].bytes());
    if (bytes != 0) std::memcpy(out, outputs[output], bytes);
    return bytes;
  }
  const bool is_json = encoding == Encoding::kJson;
  const std::vector<std::string>& prefix = is_json ? json_prefix_ : msgpack_prefix_;
  char* at = out;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    at = copy(prefix[i], at);
    at = is_json ? write_json_value(tensors[i], outputs[i], at) : write_msgpack_value(tensors[i], outputs[i], at);
  }
  at = copy(prefix.back(), at);
  return static_cast<std::size_t>(at - out);
}

}  // namespace penstock::dataplane
