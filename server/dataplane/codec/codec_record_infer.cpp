#include "codec/codec_record_infer.hpp"

#include <charconv>
#include <cmath>
#include <cstring>
#include <deque>
#include <optional>
#include <string>
#include <type_traits>

#include "codec/codec_element.hpp"
#include "codec/codec_oip_tensor.hpp"
#include "codec/codec_proto_tensor.hpp"
#include "codec/codec_record_json.hpp"
#include "codec/codec_request.hpp"
#include "codec/codec_utf8.hpp"
#include "http/json_text.hpp"

namespace penstock::dataplane {
namespace {

std::optional<DType> dtype_of(std::string_view datatype) noexcept {
  for (std::size_t i = 0; i < kDTypes.size(); ++i) {
    const auto dtype = static_cast<DType>(i);
    if (infer_name_of(dtype) == datatype) return dtype;
  }
  return std::nullopt;
}

// The values of one field that is no tensor, row by row.
class FieldColumn {
 public:
  // `bytes`: what the binary extension has, where the input is no JSON.
  FieldColumn(std::uint32_t element, DType dtype, const RecordInput& input, std::string_view bytes,
              Problem& problem) noexcept
      : element_(element),
        dtype_(dtype),
        is_json_(input.form == RecordInput::Form::kJson),
        text_(input.data, problem),
        bytes_(bytes) {}

  [[nodiscard]] std::uint32_t element() const noexcept { return element_; }

  // The value of the next row. False: there is none.
  [[nodiscard]] bool read(RecordRow& row) noexcept {
    return is_json_ ? read_json(row) : dtype_ == DType::kBytes ? read_string(row) : read_binary(row);
  }
  [[nodiscard]] bool at_end() noexcept {
    if (!is_json_) return bytes_.empty();
    skip_between();
    return text_.at == text_.end;
  }

 private:
  void skip_between() noexcept {
    while (text_.at != text_.end && std::string_view(" \t\r\n,[]").find(*text_.at) != std::string_view::npos)
      ++text_.at;
  }

  // The field has a value in this row.
  [[nodiscard]] const RecordElement& come(RecordRow& row) const noexcept {
    static_cast<void>(row.mark(element_));
    row.mark_above(element_);
    return row.element(element_);
  }

  // Null leaves a field out that may be left out: a column has no other way to.
  [[nodiscard]] bool read_json(RecordRow& row) noexcept {
    skip_between();
    if (text_.at == text_.end) return false;
    if (*text_.at != 'n') return read_json_field(text_, come(row), row);
    row.store_missing(element_);
    return text_.check_value();
  }

  [[nodiscard]] bool read_string(RecordRow& row) noexcept {
    std::uint32_t length = 0;
    if (bytes_.size() < sizeof length) return false;
    std::memcpy(&length, bytes_.data(), sizeof length);
    if (bytes_.size() - sizeof length < length) return false;
    const std::string_view text = bytes_.substr(sizeof length, length);
    bytes_.remove_prefix(sizeof length + length);
    const RecordElement& element = come(row);
    if (element.kind == RecordKind::kImage) {
      if (!row.write_text(element, text)) row.fault_full(element, {});
      return true;
    }
    if (!is_utf8(text)) {
      row.fault(element, "type", "bytes that are no UTF-8");
      return true;
    }
    char got[kQuotedBytesMax];
    const auto quoted = [&] {
      return std::string_view(got, static_cast<std::size_t>(write_json_string(got, clip_value(text)) - got));
    };
    if (element.kind == RecordKind::kText && !row.write_text(element, text)) {
      row.fault_full(element, quoted());
      return true;
    }
    const std::string_view rule =
        element.kind == RecordKind::kText ? row.check_text(element) : row.take_text(element, text);
    if (!rule.empty()) row.fault(element, rule, quoted());
    return true;
  }

  [[nodiscard]] bool read_binary(RecordRow& row) noexcept {
    return with_element_type(dtype_, [&]<typename T>(std::type_identity<T>) {
      if (bytes_.size() < sizeof(T)) return false;
      if constexpr (std::is_same_v<T, bool>) {
        take_flag(row, static_cast<unsigned char>(bytes_.front()));
      } else {
        T value{};
        std::memcpy(&value, bytes_.data(), sizeof value);
        if constexpr (std::is_same_v<T, Half>) {
          take_number(row, to_float(value), true);
        } else if constexpr (std::is_floating_point_v<T>) {
          take_number(row, value, true);
        } else {
          constexpr auto kMost = static_cast<std::int64_t>(kWholeMax);
          take_number(row, value, std::cmp_less_equal(value, kMost) && std::cmp_greater_equal(value, -kMost));
        }
      }
      bytes_.remove_prefix(sizeof(T));
      return true;
    });
  }

  void take_flag(RecordRow& row, unsigned char byte) noexcept {
    const RecordElement& element = come(row);
    const std::string_view rule = byte <= 1 ? row.take_boolean(element, byte == 1) : std::string_view("type");
    if (!rule.empty()) row.fault(element, rule, byte == 0 ? "false" : byte == 1 ? "true" : "another byte");
  }

  // NaN is missing: binary data has no null.
  template <typename T>
  void take_number(RecordRow& row, T came, bool is_exact) noexcept {
    const auto value = static_cast<double>(came);
    if (std::isnan(value)) return row.store_missing(element_);
    const RecordElement& element = come(row);
    std::string_view rule = "type";
    if (!is_exact && element.kind == RecordKind::kInteger) {
      rule = "range";
    } else if (std::isfinite(value)) {
      rule = row.take_other_number(element, value);
    }
    if (rule.empty()) return;
    NumberText got;
    if constexpr (std::is_integral_v<T>) {
      const char* const end = std::to_chars(got.data(), got.data() + got.size(), came).ptr;
      row.fault(element, rule, {got.data(), static_cast<std::size_t>(end - got.data())});
    } else {
      row.fault(element, rule, write_number(value, got));
    }
  }

  // Of what came, in quotes and with escapes.
  static constexpr std::size_t kQuotedBytesMax = 256;

  std::uint32_t element_;
  DType dtype_;
  bool is_json_;
  JsonText text_;
  std::string_view bytes_;
};

class InferRecords {
 public:
  InferRecords(const RecordPlan& plan, const RowLayout& layout, RowsSink& rows, Problem& problem)
      : plan_(plan), layout_(layout), rows_(rows), problem_(problem), given_(layout.size(), false) {}

  [[nodiscard]] bool read(const std::vector<RecordInput>& inputs) {
    for (const RecordInput& input : inputs) {
      if (!match(input)) return false;
    }
    if (tensors_.rows == 0 || !rows_.begin(tensors_.rows, problem_)) {
      if (!problem_) problem_.set(ProblemCode::kInvalidInput, "inputs: expected at least one field of the record");
      return false;
    }
    if (plan_.slots() != 0 && !rows_.allocate(0, problem_)) return false;
    for (const RecordInput& input : inputs) {
      if (!read_column(input)) return false;
    }
    for (std::size_t tensor = plan_.slots() == 0 ? 0 : 1; tensor < layout_.size(); ++tensor) {
      if (!given_[tensor] && !rows_.allocate(tensor, problem_)) return false;
    }
    for (std::uint32_t index = 0; index < tensors_.rows; ++index) {
      if (!read_row(index)) return false;
    }
    for (FieldColumn& column : columns_) {
      if (!column.at_end())
        return refuse(plan_.elements()[column.element()], "data: more elements than there are rows");
    }
    return true;
  }

 private:
  [[nodiscard]] const RecordElement& element_of(const RecordInput& input) const noexcept {
    return plan_.elements()[plan_.element_of_face(input.input->tensor)];
  }

  [[gnu::cold]] bool refuse(const RecordElement& element, const char* what) noexcept {
    const std::string_view path = clip(element.path);
    problem_.set(ProblemCode::kInvalidInput, "inputs.%.*s: %s", static_cast<int>(path.size()), path.data(), what);
    return false;
  }

  [[nodiscard]] bool match(const RecordInput& input) noexcept {
    const RecordElement& element = element_of(input);
    const InferRequest::Input& said = *input.input;
    const TensorSpec& face = plan_.face().inputs.tensors()[said.tensor];
    const std::optional<DType> dtype = dtype_of(said.datatype);
    if (!dtype) return refuse(element, "datatype: expected one of the protocol, such as FP64, INT64, BOOL, BYTES");
    if (element.picture && *dtype != face.dtype)
      return refuse(element, "datatype: expected UINT8, its pixels; files of images are taken by /predict");
    if (!has_slot(element.kind) && *dtype != face.dtype) return refuse(element, "datatype: expected that of its field");
    bool fits = said.has_shape && said.rank >= 1 && said.shape[0] >= 1 && said.shape[0] <= UINT32_MAX;
    // A value a row may be a list of one.
    const bool is_list = said.rank == 2 && said.shape[1] == 1 && face.shape.empty();
    fits = fits && (is_list || said.rank == face.shape.size() + 1);
    for (std::size_t i = 0; fits && i < face.shape.size(); ++i) fits = said.shape[i + 1] == face.shape[i];
    if (!fits) return refuse(element, "shape: expected [rows], and the extents of the field behind it");
    const auto count = static_cast<std::uint32_t>(said.shape[0]);
    if (tensors_.rows == 0) tensors_.rows = count;
    return tensors_.rows == count || refuse(element, "shape: expected as many rows as in the inputs before");
  }

  [[nodiscard]] bool read_column(const RecordInput& input) {
    const RecordElement& element = element_of(input);
    const std::uint32_t at = plan_.element_of_face(input.input->tensor);
    if (!has_slot(element.kind)) given_[element.target] = true;
    if (element.kind == RecordKind::kTensor) {
      others_.push_back(at);
      return read_tensor(input, layout_.tensors()[element.target], element.target);
    }
    if (!has_slot(element.kind) && !rows_.allocate(element.target, problem_)) return false;
    const DType dtype = dtype_of(input.input->datatype).value_or(DType::kBytes);  // match() has seen it
    std::string_view bytes = input.data;
    if (input.form == RecordInput::Form::kContents) {
      std::string& binary = binaries_.emplace_back();
      if (!binary_of_contents(input.data, element.path, dtype, tensors_.rows, binary, problem_)) return false;
      bytes = binary;
    }
    columns_.emplace_back(at, dtype, input, bytes, problem_);
    return true;
  }

  [[nodiscard]] bool read_tensor(const RecordInput& input, const TensorSpec& spec, std::size_t tensor) {
    switch (input.form) {
      case RecordInput::Form::kBinary:
        return refer_infer_data(input.data, spec, tensor, tensors_, rows_, problem_);
      case RecordInput::Form::kContents:
        return read_infer_contents(input.data, spec, tensor, tensors_, rows_, problem_);
      case RecordInput::Form::kJson:
        break;
    }
    JsonText text(input.data, problem_);
    return rows_.allocate(tensor, problem_) && read_infer_data(text, spec, tensor, tensors_, rows_);
  }

  [[nodiscard]] bool read_row(std::uint32_t index) {
    RecordRow row(plan_, {&layout_, nullptr, &rows_, index, &rows_});
    for (FieldColumn& column : columns_) {
      if (column.read(row)) continue;
      return problem_ ? false : refuse(row.element(column.element()), "data: fewer elements than there are rows");
    }
    for (const std::uint32_t at : others_) {
      static_cast<void>(row.mark(at));
      row.mark_above(at);
    }
    if (row.finish(problem_)) return true;
    rows_.refuse_row(index, problem_);
    problem_.clear();
    return true;
  }

  const RecordPlan& plan_;
  const RowLayout& layout_;
  RowsSink& rows_;
  Problem& problem_;
  InferTensors tensors_;
  std::vector<FieldColumn> columns_;
  std::vector<std::uint32_t> others_;  // elements that are tensors
  std::deque<std::string> binaries_;   // of typed contents; columns view them
  std::vector<bool> given_;            // by tensor
};

}  // namespace

bool read_infer_records(const std::vector<RecordInput>& inputs, const RecordPlan& plan, const RowLayout& layout,
                        RowsSink& rows, Problem& problem) {
  return InferRecords(plan, layout, rows, problem).read(inputs);
}

}  // namespace penstock::dataplane
