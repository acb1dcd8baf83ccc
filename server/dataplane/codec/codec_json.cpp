// {"model": ..., "version": ..., "inputs": ...}: the members of a request, in any order.
#include <cstring>

#include "codec/codec_json_tensor.hpp"
#include "codec/codec_json_text.hpp"
#include "codec/codec_record_json.hpp"
#include "codec/codec_request.hpp"

namespace penstock::dataplane {
namespace {

class JsonDecoder {
 public:
  // `rows`: takes the rows of a body of many; null for a body of one.
  JsonDecoder(std::string_view body, const QueryNames& names, RowResolver& resolver, Problem& problem,
              RowsSink* rows = nullptr) noexcept
      : text_(body, problem), request_(names, resolver, problem), rows_(rows) {}

  [[nodiscard]] bool decode() {
    if (!open_body()) return false;
    if (!text_.consume('}')) {
      do {
        if (!read_member()) return false;
      } while (text_.consume(','));
      if (!text_.expect('}', "',' or '}' behind a member")) return false;
    }
    text_.skip_space();
    if (text_.at != text_.end) return text_.refuse_at(text_.at, "nothing behind the object");
    return finish();
  }

 private:
  [[nodiscard]] bool open_body() noexcept {
    text_.skip_space();
    if (text_.consume('{')) return true;
    if (std::string_view(text_.at, static_cast<std::size_t>(text_.end - text_.at)).starts_with("\xEF\xBB\xBF")) {
      return text_.refuse_at(text_.at, "no byte order mark");
    }
    const char* const got = text_.describe_value();
    if (got != nullptr) text_.problem.set(ProblemCode::kInvalidInput, "expected an object, got %s", got);
    return false;
  }

  [[nodiscard]] bool read_member() {
    NameScratch scratch;
    std::string_view name;
    if (!text_.read_name(scratch, name)) return false;
    const Member member = member_from_name(name);
    if (!request_.begin_member(member, name)) return false;
    return member == Member::kInputs ? read_inputs() : read_name_member(member);
  }

  [[nodiscard]] bool read_name_member(Member member) noexcept {
    const bool is_model = member == Member::kModel;
    text_.skip_space();
    if (text_.at != text_.end && *text_.at != '"') {
      const char* const got = text_.describe_value();
      if (got == nullptr) return false;
      const bool hint = !is_model && *got == 'a' && std::string_view(got) == "a number";
      text_.problem.set(ProblemCode::kInvalidInput, "%s: expected a string, got %s%s", is_model ? "model" : "version",
                        got, hint ? "; quote it" : "");
      return false;
    }
    std::string_view name;
    return text_.read_string(is_model ? model_scratch_ : version_scratch_, name) && request_.set_name(member, name);
  }

  [[nodiscard]] bool read_inputs() {
    inputs_at_ = text_.at;
    // Without a quote in the rest of the body no further name can come. That settles the common bodies, where `inputs`
    // is last and has no names, for a hundredth of what a second pass over the numbers costs.
    const bool last = std::memchr(text_.at, '"', static_cast<std::size_t>(text_.end - text_.at)) == nullptr;
    if (last || request_.names_settled()) return request_.resolve() && decode_inputs();
    if (!text_.skip_value()) return false;
    inputs_end_ = text_.at;
    return true;
  }

  // Every member was read. Decodes the inputs if they had to wait for the names.
  [[nodiscard]] bool finish() {
    if (request_.resolved()) return true;
    if (!request_.has(Member::kInputs)) return request_.refuse_missing_inputs();
    if (!request_.resolve()) return false;
    text_.at = inputs_at_;
    return decode_inputs() && (text_.at == inputs_end_ || text_.refuse_at(text_.at, "',' or '}' behind a member"));
  }

  [[nodiscard]] bool decode_inputs() {
    if (rows_ != nullptr) [[unlikely]]
      return decode_rows();
    return decode_row();
  }

  [[nodiscard]] bool decode_rows() {
    text_.skip_space();
    if (text_.at == text_.end || *text_.at != '[') {
      const char* const got = text_.describe_value();
      if (got != nullptr) text_.problem.set(ProblemCode::kInvalidInput, "inputs: expected a list of rows, got %s", got);
      return false;
    }
    const char* const list = ++text_.at;
    std::uint64_t count = 0;
    if (!count_rows(count) || !request_.begin_rows(*rows_, count)) return false;
    text_.at = list;
    for (std::uint32_t row = 0; row < count; ++row) {
      if (row != 0 && !text_.expect(',', "',' or ']' behind a row")) return false;
      const char* const start = text_.at;
      request_.begin_row(row);
      const bool read = decode_row();
      if (!request_.end_row(row, read)) return false;
      if (read) continue;
      text_.at = start;
      if (!text_.skip_value()) return false;
    }
    return text_.expect(']', "',' or ']' behind a row");
  }

  // Rows in the list whose bracket is behind the cursor: memory is found for all at once.
  [[nodiscard]] bool count_rows(std::uint64_t& count) noexcept {
    if (text_.consume(']')) return true;
    do {
      if (!text_.skip_value()) return false;
      ++count;
    } while (text_.consume(','));
    return text_.expect(']', "',' or ']' behind a row");
  }

  [[nodiscard]] bool decode_row() noexcept {
    if (request_.record() != nullptr) [[unlikely]]
      return read_json_record(text_, *request_.record(), request_.record_place());
    text_.skip_space();
    if (text_.at == text_.end) return text_.refuse_at(text_.at, "a value");
    if (*text_.at == '{') return decode_named_inputs();
    const char* const got = text_.describe_value();
    if (got == nullptr || !request_.allow_unnamed(got)) return false;
    return read_input(0, false);
  }

  [[nodiscard]] bool decode_named_inputs() noexcept {
    ++text_.at;
    if (!text_.consume('}')) {
      do {
        NameScratch scratch;
        std::string_view name;
        if (!text_.read_name(scratch, name)) return false;
        const std::optional<std::size_t> index = request_.begin_input(name);
        if (!index) return false;
        if (!read_input(*index, true)) return false;
      } while (text_.consume(','));
      if (!text_.expect('}', "',' or '}' behind an input")) return false;
    }
    return request_.end_inputs();
  }

  [[nodiscard]] bool read_input(std::size_t index, bool named) noexcept {
    const TensorSpec& spec = request_.inputs().tensors()[index];
    std::uint32_t length = 0;
    return read_json_tensor(text_, spec, named, request_.input(index), length) &&
           (!spec.varies || request_.agree_on_length(index, named, length));
  }

  JsonText text_;
  RowRequest request_;
  RowsSink* rows_;
  const char* inputs_at_ = nullptr;
  const char* inputs_end_ = nullptr;  // where a first, shallow pass saw them end
  NameScratch model_scratch_;
  NameScratch version_scratch_;
};

}  // namespace

bool decode_json(std::string_view body, const QueryNames& names, RowResolver& resolver, Problem& problem) {
  return JsonDecoder(body, names, resolver, problem).decode();
}

bool decode_json_rows(std::string_view body, const QueryNames& names, RowsSink& rows, Problem& problem) {
  return JsonDecoder(body, names, rows, problem, &rows).decode();
}

}  // namespace penstock::dataplane
