// Replies to bodies of many rows: {"model", "version", "outputs": [{name: value} | null, ...], "errors": [...]}, where
// an error is {"row", "code", "status", "detail"}.
#include <charconv>
#include <cstring>

#include "codec/codec_msgpack_write.hpp"
#include "codec/codec_reply_value.hpp"
#include "codec/codec_rows.hpp"
#include "http/field_faults.hpp"
#include "http/json_text.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::size_t kFaultBytesMax = 128;  // beside its detail

char* write_text(std::string_view text, char* out) noexcept {
  if (!text.empty()) std::memcpy(out, text.data(), text.size());
  return out + text.size();
}

char* write_msgpack_fields(const FieldFaults& faults, char* out) noexcept {
  out = write_msgpack_array(static_cast<std::uint32_t>(faults.size()), write_msgpack_string("errors", out));
  for (std::size_t i = 0; i < faults.size(); ++i) {
    const FieldFaults::Fault fault = faults[i];
    out = write_msgpack_map(3, out);
    out = write_msgpack_string(fault.field, write_msgpack_string("field", out));
    out = write_msgpack_string(fault.rule, write_msgpack_string("rule", out));
    out = write_msgpack_string(fault.detail, write_msgpack_string("detail", out));
  }
  return out;
}

char* write_msgpack_fault(const RowFault& fault, char* out) noexcept {
  const ProblemInfo& info = info_of(fault.code);
  out = write_msgpack_map(fault.fields == nullptr ? 4 : 5, out);
  out = write_msgpack(fault.row, write_msgpack_string("row", out));
  out = write_msgpack_string(info.code, write_msgpack_string("code", out));
  out = write_msgpack(info.status, write_msgpack_string("status", out));
  out = write_msgpack_string(fault.detail, write_msgpack_string("detail", out));
  return fault.fields == nullptr ? out : write_msgpack_fields(*fault.fields, out);
}

}  // namespace

std::size_t fault_bytes_max(const RowFault& fault) noexcept {
  const std::size_t bytes = kFaultBytesMax + 6 * fault.detail.size();
  return fault.fields == nullptr ? bytes : bytes + 16 + fault.fields->json_bytes_max();
}

char* write_json_fault(const RowFault& fault, char* out) noexcept {
  const ProblemInfo& info = info_of(fault.code);
  out = write_text("{\"row\":", out);
  out = std::to_chars(out, out + 20, fault.row).ptr;
  out = write_text(",\"code\":", out);
  out = write_json_string(out, info.code);
  out = write_text(",\"status\":", out);
  out = std::to_chars(out, out + 20, info.status).ptr;
  out = write_text(",\"detail\":", out);
  out = write_json_string(out, fault.detail);
  if (fault.fields != nullptr) [[unlikely]]
    out = fault.fields->write_json(write_text(",\"errors\":", out), fault.fields->json_bytes_max());
  *out++ = '}';
  return out;
}

std::size_t ReplyEncoder::rows_bytes_max(Encoding encoding, const RowsOutputs& outputs) const noexcept {
  // A reply of one row holds all that a row adds.
  std::size_t bytes = bytes_max(encoding) + 64;
  if (outputs.lengths.empty()) {
    bytes += outputs.rows * (bytes_max(encoding) + 1);
  } else {
    for (const std::uint32_t length : outputs.lengths) bytes += bytes_max(encoding, length) + 1;
  }
  for (const RowFault& fault : outputs.faults) bytes += fault_bytes_max(fault);
  return bytes;
}

template <Encoding E>
char* ReplyEncoder::write_row(const RowsOutputs& outputs, std::uint32_t row, char* out) const noexcept {
  constexpr bool kIsJson = E == Encoding::kJson;
  const std::vector<TensorSpec>& tensors = schema_->outputs.tensors();
  const std::uint32_t length = outputs.lengths.empty() ? 0 : outputs.lengths[row];
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const std::string_view prefix = kIsJson ? json_prefix_[i] : msgpack_prefix_[i];
    const std::byte* const value = outputs.columns[i].data + row * outputs.columns[i].stride;
    out = write_text(i == 0 ? prefix.substr(kIsJson ? json_row_at_ : msgpack_row_at_) : prefix, out);
    out = kIsJson ? write_json_value(tensors[i], value, length, out)
                  : write_msgpack_value(tensors[i], value, length, out);
  }
  if (kIsJson) *out++ = '}';
  return out;
}

std::size_t ReplyEncoder::encode_rows(Encoding encoding, const RowsOutputs& outputs, char* out) const noexcept {
  const bool is_json = encoding == Encoding::kJson;
  char* at = out;
  if (is_json) {
    at = write_text(std::string_view(json_prefix_.front()).substr(0, json_row_at_), at);
    *at++ = '[';
  } else {
    // The opening is a map of three, and this has the errors, too.
    at = write_msgpack_map(4, at);
    at = write_text(std::string_view(msgpack_prefix_.front()).substr(1, msgpack_row_at_ - 1), at);
    at = write_msgpack_array(outputs.rows, at);
  }
  auto fault = outputs.faults.begin();
  for (std::uint32_t row = 0; row < outputs.rows; ++row) {
    if (is_json && row != 0) *at++ = ',';
    if (fault != outputs.faults.end() && fault->row == row) {
      ++fault;
      at = is_json ? write_text("null", at) : write_text("\xc0", at);
    } else {
      at = is_json ? write_row<Encoding::kJson>(outputs, row, at) : write_row<Encoding::kMsgpack>(outputs, row, at);
    }
  }
  at = is_json
           ? write_text("],\"errors\":[", at)
           : write_msgpack_array(static_cast<std::uint32_t>(outputs.faults.size()), write_msgpack_string("errors", at));
  for (const RowFault& each : outputs.faults) {
    if (is_json && &each != &outputs.faults.front()) *at++ = ',';
    at = is_json ? write_json_fault(each, at) : write_msgpack_fault(each, at);
  }
  if (is_json) at = write_text("]}", at);
  return static_cast<std::size_t>(at - out);
}

}  // namespace penstock::dataplane
