// ModelInferResponse: what does not depend on values is rendered once per version, and copied.
#include <cstring>

#include "codec/codec_oip.hpp"
#include "codec/proto_writer.hpp"

namespace penstock::dataplane {
namespace {

// The tag of a field whose value stands behind its length.
constexpr char tag(unsigned field) noexcept { return static_cast<char>(field << 3 | 2); }

char* write_bytes(std::string_view text, char* out) noexcept {
  if (!text.empty()) std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

}  // namespace

void InferReplyEncoder::render_messages(std::string_view model, std::string_view version) {
  ProtoWriter opening;
  opening.add_bytes(1, model);
  opening.add_bytes(2, version);
  message_opening_ = opening.view();
  for (const TensorSpec& tensor : schema_->outputs.tensors()) {
    ProtoWriter prefix;
    prefix.add_bytes(1, tensor.name);
    prefix.add_bytes(2, infer_name_of(tensor.dtype));
    message_prefix_.emplace_back(prefix.view());
  }
}

std::size_t InferReplyEncoder::message_bytes_max(const InferOutputs& outputs) const noexcept {
  std::size_t bytes = message_opening_.size() + kInferIdBytesMax + 64;
  for (const InferRequest::Output& output : outputs.request->outputs) {
    const TensorSpec& spec = schema_->outputs.tensors()[output.tensor];
    bytes += message_prefix_[output.tensor].size() + (spec.shape.size() + 8) * kVarintBytesMax;
    bytes += outputs.rows * static_cast<std::size_t>(spec.varies ? spec.bytes_of_length(outputs.length) : spec.bytes());
  }
  return bytes;
}

std::size_t InferReplyEncoder::write_message(const InferOutputs& outputs, char* out) const noexcept {
  const InferRequest& request = *outputs.request;
  char* at = write_bytes(message_opening_, out);
  if (!request.id.empty()) {
    *at++ = tag(3);
    at = write_bytes(request.id, write_varint(request.id.size(), at));
  }
  for (const InferRequest::Output& output : request.outputs) at = write_message_output(outputs, output, at);
  for (std::size_t j = 0; j < request.outputs.size(); ++j) {
    *at++ = tag(6);
    at = write_binary(outputs, j, write_varint(binary_bytes(outputs, j), at));
  }
  return static_cast<std::size_t>(at - out);
}

// Name, type and shape, behind their length.
char* InferReplyEncoder::write_message_output(const InferOutputs& outputs, const InferRequest::Output& output,
                                              char* out) const noexcept {
  const TensorSpec& spec = schema_->outputs.tensors()[output.tensor];
  char shape[(kRankMax + 1) * kVarintBytesMax];
  char* end = write_varint(outputs.rows, shape);
  for (std::size_t i = 0; i < spec.shape.size(); ++i)
    end = write_varint(i == 0 && spec.varies ? outputs.length : spec.shape[i], end);
  const std::string_view extents(shape, static_cast<std::size_t>(end - shape));
  char length[kVarintBytesMax];
  const auto length_bytes = static_cast<std::size_t>(write_varint(extents.size(), length) - length);
  const std::string& prefix = message_prefix_[output.tensor];
  *out++ = tag(5);
  out = write_bytes(prefix, write_varint(prefix.size() + 1 + length_bytes + extents.size(), out));
  *out++ = tag(3);
  return write_bytes(extents, write_bytes({length, length_bytes}, out));
}

}  // namespace penstock::dataplane
