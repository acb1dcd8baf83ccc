// Replies of the protocol: what does not depend on values is rendered once per version, and copied.
#include <charconv>
#include <cstring>

#include "codec/codec_number_text.hpp"
#include "codec/codec_oip.hpp"
#include "codec/codec_reply_value.hpp"
#include "http/json_text.hpp"
#include "penstock/kernels/text.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::size_t kIntegerBytesMax = 20;

std::string quoted(std::string_view text) {
  std::string out(text.size() * 6 + 2, '\0');
  out.resize(static_cast<std::size_t>(write_json_string(out.data(), text) - out.data()));
  return out;
}

char* write_text(std::string_view text, char* out) noexcept {
  if (!text.empty()) std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

char* write_count(std::uint64_t value, char* out) noexcept {
  return std::to_chars(out, out + kIntegerBytesMax, value).ptr;
}

std::uint64_t row_count(const TensorSpec& spec, std::uint32_t length) noexcept {
  return spec.varies ? spec.elements() / spec.shape.front() * length : spec.elements();
}

// Outputs are copies that nobody else writes, and were checked: what cannot be read is empty.
std::string_view next_text(TextReader& texts) noexcept {
  std::string_view text;
  return texts.next(text) ? text : std::string_view();
}

}  // namespace

InferReplyEncoder::InferReplyEncoder(std::string_view model, std::string_view version, const ModelSchema& schema)
    : schema_(&schema), opening_("{\"model_name\":" + quoted(model) + ",\"model_version\":" + quoted(version)) {
  for (const TensorSpec& tensor : schema.outputs.tensors()) {
    std::string prefix = "{\"name\":" + quoted(tensor.name) + ",\"datatype\":\"";
    prefix_.push_back(prefix.append(infer_name_of(tensor.dtype)).append("\",\"shape\":["));
  }
  render_messages(model, version);
}

std::size_t InferReplyEncoder::bytes_max(const InferOutputs& outputs) const noexcept {
  std::size_t bytes = opening_.size() + kInferIdBytesMax + 64;
  for (const InferRequest::Output& output : outputs.request->outputs) {
    const TensorSpec& spec = schema_->outputs.tensors()[output.tensor];
    const auto elements = static_cast<std::size_t>(row_count(spec, outputs.length));
    // A string is quoted, and each of its bytes may need an escape of six; or it stands behind its length.
    std::size_t row_bytes = elements * (output.binary ? size_of(spec.dtype) : json_bytes_max(spec.dtype) + 1);
    if (spec.dtype == DType::kBytes) row_bytes = elements * 4 + spec.heap_bytes * (output.binary ? 1U : 6U);
    bytes += prefix_[output.tensor].size() + (spec.shape.size() + 2) * (kIntegerBytesMax + 1) + 64;
    bytes += outputs.rows * row_bytes;
  }
  for (const RowFault& fault : outputs.faults) bytes += fault_bytes_max(fault) + 1;
  return bytes;
}

InferReplySize InferReplyEncoder::write(const InferOutputs& outputs, char* out) const noexcept {
  const InferRequest& request = *outputs.request;
  char* at = write_text(opening_, out);
  if (!request.id.empty()) {
    at = write_text(",\"id\":\"", at);
    at = write_text(request.id, at);
    *at++ = '"';
  }
  if (request.row_errors) {
    at = write_text(",\"parameters\":{\"row_errors\":[", at);
    for (const RowFault& fault : outputs.faults) {
      if (&fault != &outputs.faults.front()) *at++ = ',';
      at = write_json_fault(fault, at);
    }
    at = write_text("]}", at);
  }
  at = write_text(",\"outputs\":[", at);
  for (std::size_t j = 0; j < request.outputs.size(); ++j) {
    if (j != 0) *at++ = ',';
    at = write_output(outputs, j, at);
  }
  at = write_text("]}", at);
  InferReplySize size{.bytes = 0, .header_bytes = 0};
  if (request.has_binary_output()) size.header_bytes = static_cast<std::size_t>(at - out);
  for (std::size_t j = 0; j < request.outputs.size(); ++j) {
    if (request.outputs[j].binary) at = write_binary(outputs, j, at);
  }
  size.bytes = static_cast<std::size_t>(at - out);
  return size;
}

// What the reply's JSON says of output j.
char* InferReplyEncoder::write_output(const InferOutputs& outputs, std::size_t j, char* out) const noexcept {
  const InferRequest::Output& output = outputs.request->outputs[j];
  const TensorSpec& spec = schema_->outputs.tensors()[output.tensor];
  const Column& column = outputs.columns[j];
  char* at = write_text(prefix_[output.tensor], out);
  at = write_count(outputs.rows, at);
  for (std::size_t i = 0; i < spec.shape.size(); ++i) {
    *at++ = ',';
    at = write_count(i == 0 && spec.varies ? outputs.length : spec.shape[i], at);
  }
  if (output.binary) {
    at = write_text("],\"parameters\":{\"binary_data_size\":", at);
    at = write_count(binary_bytes(outputs, j), at);
    return write_text("}}", at);
  }
  at = write_text("],\"data\":[", at);
  const std::uint64_t elements = row_count(spec, outputs.length);
  for (std::uint32_t row = 0; row < outputs.rows && elements != 0; ++row) {
    if (row != 0) *at++ = ',';
    at = write_json_elements(spec, column.data + row * column.stride, elements, at);
  }
  return write_text("]}", at);
}

std::size_t InferReplyEncoder::binary_bytes(const InferOutputs& outputs, std::size_t j) const noexcept {
  const TensorSpec& spec = schema_->outputs.tensors()[outputs.request->outputs[j].tensor];
  const auto elements = static_cast<std::size_t>(row_count(spec, outputs.length));
  if (spec.dtype != DType::kBytes) return outputs.rows * elements * size_of(spec.dtype);
  std::size_t bytes = 0;
  const Column& column = outputs.columns[j];
  for (std::uint32_t row = 0; row < outputs.rows; ++row) {
    TextReader texts(spec, column.data + row * column.stride);
    for (std::size_t i = 0; i < elements; ++i) bytes += sizeof(std::uint32_t) + next_text(texts).size();
  }
  return bytes;
}

char* InferReplyEncoder::write_binary(const InferOutputs& outputs, std::size_t j, char* out) const noexcept {
  const TensorSpec& spec = schema_->outputs.tensors()[outputs.request->outputs[j].tensor];
  const auto elements = static_cast<std::size_t>(row_count(spec, outputs.length));
  const Column& column = outputs.columns[j];
  for (std::uint32_t row = 0; row < outputs.rows; ++row) {
    const std::byte* const data = column.data + row * column.stride;
    if (spec.dtype != DType::kBytes) {
      if (elements != 0) std::memcpy(out, data, elements * size_of(spec.dtype));
      out += elements * size_of(spec.dtype);
      continue;
    }
    TextReader texts(spec, data);
    for (std::size_t i = 0; i < elements; ++i) {
      const std::string_view text = next_text(texts);
      const auto length = static_cast<std::uint32_t>(text.size());
      std::memcpy(out, &length, sizeof length);
      out = write_text(text, out + sizeof length);
    }
  }
  return out;
}

}  // namespace penstock::dataplane
