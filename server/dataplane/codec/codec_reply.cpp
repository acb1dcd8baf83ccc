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
    if (tensor.varies && (tensor.shape.empty() || tensor.elements() == 0))
      throw std::invalid_argument("a tensor that varies in length has room for elements");
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
  has_texts_ = std::ranges::any_of(schema.outputs.tensors(),
                                   [](const TensorSpec& tensor) { return tensor.dtype == DType::kBytes; });
  std::string json = json_opening(model, version);
  std::string msgpack = msgpack_opening(model, version, schema.outputs.size());
  json_row_at_ = json.size() - 1;
  char head[kMsgpackHeadBytesMax];
  msgpack_row_at_ =
      msgpack.size() -
      static_cast<std::size_t>(write_msgpack_map(static_cast<std::uint32_t>(schema.outputs.size()), head) - head);
  // One prefix in front of every output, and one behind the last.
  for (std::size_t i = 0; i < schema.outputs.size(); ++i) {
    const TensorSpec& output = schema.outputs.tensors()[i];
    if (i != 0) json += ',';
    append_json_string(json, output.name);
    json += ':';
    append_msgpack_string(msgpack, output.name);
    add_bounds(output, json.size(), msgpack.size());
    json_prefix_.push_back(std::move(json));
    msgpack_prefix_.push_back(std::move(msgpack));
    json.clear();
    msgpack.clear();
  }
  json += "}}";
  bounds_of(Encoding::kJson).add_text(json.size());
  bounds_of(Encoding::kMsgpack).add_text(msgpack.size());
  json_prefix_.push_back(std::move(json));
  msgpack_prefix_.push_back(std::move(msgpack));
}

void ReplyEncoder::add_bounds(const TensorSpec& output, std::size_t json_bytes, std::size_t msgpack_bytes) {
  Bounds& json = bounds_of(Encoding::kJson);
  Bounds& msgpack = bounds_of(Encoding::kMsgpack);
  Bounds& raw = bounds_of(Encoding::kRaw);
  json.add_text(json_bytes);
  msgpack.add_text(msgpack_bytes);
  json.bytes_max = checked(json.bytes_max + json_value_bytes_max(output));
  msgpack.bytes_max = checked(msgpack.bytes_max + msgpack_value_bytes_max(output));
  raw.bytes_max = std::max(raw.bytes_max, checked(output.bytes()));
  // Bounds are linear in the first extent. Of raw outputs one is sent, so that this one is generous.
  TensorSpec item = output;
  if (output.varies) {
    item.shape.erase(item.shape.begin());
    item.heap_bytes = 0;  // does not grow with the length
  }
  const std::uint64_t items = output.varies ? output.shape.front() : 0;
  json.add_value(json_value_bytes_max(output), json_value_bytes_max(item), items);
  msgpack.add_value(msgpack_value_bytes_max(output), msgpack_value_bytes_max(item), items);
  raw.add_value(output.bytes(), item.bytes(), items);
}

std::size_t ReplyEncoder::bytes_max(Encoding encoding, std::uint32_t length) const noexcept {
  const Bounds& bounds = bounds_of(encoding);
  return length == 0 ? bounds.bytes_max : bounds.fixed_bytes + length * bounds.item_bytes;
}

bool ReplyEncoder::check_texts(Encoding encoding, std::span<const std::byte* const> outputs, std::uint32_t length,
                               Problem& problem) const noexcept {
  const std::vector<TensorSpec>& tensors = schema_->outputs.tensors();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    if (tensors[i].dtype == DType::kBytes &&
        !dataplane::check_texts(tensors[i], outputs[i], length, encoding == Encoding::kJson, problem))
      return false;
  }
  return true;
}

std::size_t ReplyEncoder::encode(Encoding encoding, std::span<const std::byte* const> outputs, std::size_t output,
                                 char* out, std::uint32_t length) const noexcept {
  const std::vector<TensorSpec>& tensors = schema_->outputs.tensors();
  if (encoding == Encoding::kRaw) {
    const TensorSpec& tensor = tensors[output];
    auto bytes = static_cast<std::size_t>(schema_->outputs.tensor_bytes(output));
    if (tensor.varies) bytes = static_cast<std::size_t>(tensor.bytes_of_length(length));
    if (bytes != 0) std::memcpy(out, outputs[output], bytes);
    return bytes;
  }
  const bool is_json = encoding == Encoding::kJson;
  const std::vector<std::string>& prefix = is_json ? json_prefix_ : msgpack_prefix_;
  char* at = out;
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    at = copy(prefix[i], at);
    at = is_json ? write_json_value(tensors[i], outputs[i], length, at)
                 : write_msgpack_value(tensors[i], outputs[i], length, at);
  }
  at = copy(prefix.back(), at);
  return static_cast<std::size_t>(at - out);
}

}  // namespace penstock::dataplane
