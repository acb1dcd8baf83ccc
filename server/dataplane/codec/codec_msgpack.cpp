// The members of codec_json.cpp as msgpack: a map with string keys, in any order.
#include "codec/codec_msgpack_tensor.hpp"
#include "codec/codec_record_msgpack.hpp"
#include "codec/codec_record_raw.hpp"
#include "codec/codec_request.hpp"
#include "codec/codec_utf8.hpp"

namespace penstock::dataplane {
namespace {

class MsgpackDecoder {
 public:
  // `rows`: takes the rows of a body of many; null for a body of one.
  MsgpackDecoder(std::string_view body, const QueryNames& names, RowResolver& resolver, Problem& problem,
                 RowsSink* rows = nullptr) noexcept
      : text_(body, problem), request_(names, resolver, problem), rows_(rows) {}

  [[nodiscard]] bool decode() {
    MsgpackToken root;
    if (!text_.next(root)) return false;
    if (root.kind != MsgpackKind::kMap) {
      text_.problem.set(ProblemCode::kInvalidInput, "expected a map, got %s", describe(root));
      return false;
    }
    for (std::uint64_t left = root.number; left != 0; --left) {
      if (!read_member(left == 1)) return false;
    }
    if (text_.at != text_.end) return text_.refuse_at(text_.at, "nothing behind the map");
    return finish();
  }

 private:
  [[nodiscard]] bool read_member(bool last) {
    std::string_view name;
    if (!text_.read_name(name)) return false;
    const Member member = member_from_name(name);
    if (!request_.begin_member(member, name)) return false;
    if (member != Member::kInputs) return read_name_member(member);
    inputs_at_ = text_.at;
    // The map's head says how many members there are: behind the last no further name can come.
    if (last || request_.names_settled()) return request_.resolve() && decode_inputs();
    return text_.skip_value();
  }

  [[nodiscard]] bool read_name_member(Member member) noexcept {
    const char* const start = text_.at;
    MsgpackToken token;
    if (!text_.next(token)) return false;
    if (token.kind != MsgpackKind::kString) {
      const bool is_model = member == Member::kModel;
      text_.problem.set(ProblemCode::kInvalidInput, "%s: expected a string, got %s", is_model ? "model" : "version",
                        describe(token));
      return false;
    }
    if (!is_utf8(token.bytes)) return text_.refuse_at(start, "UTF-8 in a string");
    return request_.set_name(member, token.bytes);
  }

  // Every member was read. Decodes the inputs if they had to wait for the names; skip_value() and the decoder agree on
  // where every object ends, because msgpack declares lengths in front.
  [[nodiscard]] bool finish() {
    if (request_.resolved()) return true;
    if (!request_.has(Member::kInputs)) return request_.refuse_missing_inputs();
    if (!request_.resolve()) return false;
    text_.at = inputs_at_;
    return decode_inputs();
  }

  [[nodiscard]] bool decode_inputs() {
    if (rows_ != nullptr) [[unlikely]]
      return decode_rows();
    return decode_row();
  }

  [[nodiscard]] bool decode_rows() {
    MsgpackToken token;
    if (!text_.next(token)) return false;
    if (token.kind == MsgpackKind::kBinary && request_.record() != nullptr)
      return read_raw_records(token.bytes, *request_.record(), request_.inputs(), *rows_, text_.problem);
    if (token.kind == MsgpackKind::kBinary)
      return refer_raw_rows(token.bytes, request_.inputs(), *rows_, text_.problem);
    if (token.kind != MsgpackKind::kArray) {
      text_.problem.set(ProblemCode::kInvalidInput, "inputs: expected a list of rows, got %s", describe(token));
      return false;
    }
    if (!request_.begin_rows(*rows_, token.number)) return false;
    for (std::uint32_t row = 0; row < token.number; ++row) {
      const char* const start = text_.at;
      request_.begin_row(row);
      const bool read = decode_row();
      if (!request_.end_row(row, read)) return false;
      if (read) continue;
      text_.at = start;
      if (!text_.skip_value()) return false;
    }
    return true;
  }

  [[nodiscard]] bool decode_row() noexcept {
    if (request_.record() != nullptr) [[unlikely]]
      return read_msgpack_record(text_, *request_.record(), request_.record_place());
    const char* const start = text_.at;
    MsgpackToken token;
    if (!text_.next(token)) return false;
    if (token.kind == MsgpackKind::kMap) return decode_named_inputs(token.number);
    if (!request_.allow_unnamed(describe(token))) return false;
    text_.at = start;
    return read_input(0, false);
  }

  [[nodiscard]] bool decode_named_inputs(std::uint64_t count) noexcept {
    for (; count != 0; --count) {
      std::string_view name;
      if (!text_.read_name(name)) return false;
      const std::optional<std::size_t> index = request_.begin_input(name);
      if (!index) return false;
      if (!read_input(*index, true)) return false;
    }
    return request_.end_inputs();
  }

  [[nodiscard]] bool read_input(std::size_t index, bool named) noexcept {
    const TensorSpec& spec = request_.inputs().tensors()[index];
    std::uint32_t length = 0;
    return read_msgpack_tensor(text_, spec, named, request_.input(index), length) &&
           (!spec.varies || request_.agree_on_length(index, named, length));
  }

  MsgpackText text_;
  RowRequest request_;
  RowsSink* rows_;
  const char* inputs_at_ = nullptr;
};

}  // namespace

bool decode_msgpack(std::string_view body, const QueryNames& names, RowResolver& resolver, Problem& problem) {
  return MsgpackDecoder(body, names, resolver, problem).decode();
}

bool decode_msgpack_rows(std::string_view body, const QueryNames& names, RowsSink& rows, Problem& problem) {
  return MsgpackDecoder(body, names, rows, problem, &rows).decode();
}

}  // namespace penstock::dataplane
