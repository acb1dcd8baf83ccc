// The JSON of an inference request: its members in any order, then the tensors that they describe.
#include "codec/codec_oip.hpp"

#include <algorithm>

#include "codec/codec_json_text.hpp"
#include "codec/codec_number.hpp"
#include "codec/codec_oip_inputs.hpp"
#include "codec/codec_oip_tensor.hpp"
#include "codec/codec_record_infer.hpp"
#include "codec/codec_request.hpp"

namespace penstock::dataplane {
namespace {

using Input = InferRequest::Input;

class InferDecoder {
 public:
  InferDecoder(std::string_view body, std::size_t header_bytes, RowsSink& rows, InferRequest& request,
               Problem& problem) noexcept
      : text_(body.substr(0, header_bytes), problem),
        binary_(body.substr(header_bytes)),
        rows_(rows),
        request_(request),
        problem_(problem),
        inputs_(schema_, problem) {}

  [[nodiscard]] bool decode(const ModelSchema& schema) {
    schema_ = &schema;
    const RecordPlan* const record = rows_.record();
    if (record != nullptr) [[unlikely]] {
      schema_ = &record->face();
      if (!fits_infer(*schema_, problem_)) return false;
    }
    if (!text_.expect('{', "an object") || !read_members([this](std::string_view name) { return read_member(name); }))
      return false;
    text_.skip_space();
    if (text_.at != text_.end) return text_.refuse_at(text_.at, "nothing behind the object");
    if (request_.outputs.empty()) want_all_outputs();
    for (InferRequest::Output& output : request_.outputs) {
      if (!output.says_binary) output.binary = binary_by_default_;
    }
    if (record != nullptr) [[unlikely]]
      return read_records(*record, schema.inputs);
    return inputs_.match(request_.inputs) && read_tensors();
  }

 private:
  // The members of the object whose brace is behind the cursor.
  template <class Read>
  [[nodiscard]] bool read_members(Read&& read) {
    if (text_.consume('}')) return true;
    do {
      NameScratch scratch;
      std::string_view name;
      if (!text_.read_name(scratch, name) || !read(name)) return false;
    } while (text_.consume(','));
    return text_.expect('}', "',' or '}' behind a member");
  }

  // Each element of a list of objects, of which there are at most `most`: begin(), then its members.
  template <class Begin, class Read>
  [[nodiscard]] bool read_objects(const char* what, std::size_t most, Begin&& begin, Read&& read) {
    if (!text_.consume('[')) return refuse_kind(what, "a list of objects");
    if (text_.consume(']')) return true;
    std::size_t count = 0;
    do {
      if (!text_.consume('{')) return refuse_kind(what, "a list of objects");
      if (++count > most) {
        problem_.set(ProblemCode::kInvalidInput, "%s: the model has %zu, got more", what, most);
        return false;
      }
      begin();
      if (!read_members(read)) return false;
    } while (text_.consume(','));
    return text_.expect(']', "',' or ']' behind an object");
  }

  [[gnu::cold]] bool refuse_kind(const char* what, const char* expected) {
    text_.skip_space();
    const char* const got = text_.describe_value();
    if (got != nullptr) problem_.set(ProblemCode::kInvalidInput, "%s: expected %s, got %s", what, expected, got);
    return false;
  }

  [[nodiscard]] bool read_text(const char* what, NameScratch& scratch, std::string_view& out) {
    text_.skip_space();
    if (text_.at == text_.end || *text_.at != '"') return refuse_kind(what, "a string");
    return text_.read_string(scratch, out);
  }

  [[nodiscard]] bool read_count(const char* what, std::uint64_t& value) {
    text_.skip_space();
    const char* const next = read_number(text_.at, text_.end, value);
    if (next == nullptr) return refuse_kind(what, "a whole number that is not negative");
    text_.at = next;
    return true;
  }

  [[nodiscard]] bool read_flag(const char* what, bool& flag) {
    text_.skip_space();
    const std::string_view rest(text_.at, static_cast<std::size_t>(text_.end - text_.at));
    flag = rest.starts_with("true");
    if (!flag && !rest.starts_with("false")) return refuse_kind(what, "true or false");
    text_.at += flag ? 4 : 5;
    return true;
  }

  // What is not known is left alone: the protocol has extensions.
  [[nodiscard]] bool read_member(std::string_view name) {
    if (name == "inputs") {
      return read_objects(
          "inputs", schema_->inputs.size(), [this] { request_.inputs.emplace_back(); },
          [this](std::string_view member) { return read_input_member(member, request_.inputs.back()); });
    }
    if (name == "outputs") return read_outputs();
    if (name == "id") return read_id();
    if (name == "parameters") {
      if (!text_.consume('{')) return refuse_kind("parameters", "an object");
      return read_members([this](std::string_view member) { return read_parameter(member); });
    }
    return text_.skip_value();
  }

  [[nodiscard]] bool read_id() {
    text_.skip_space();
    if (text_.at != text_.end && *text_.at == 'n') return text_.skip_value();
    const char* const start = text_.at + 1;
    NameScratch scratch;
    std::string_view id;
    if (!read_text("id", scratch, id)) return false;
    const auto bytes = static_cast<std::size_t>(text_.at - 1 - start);
    if (bytes > kInferIdBytesMax) {
      problem_.set(ProblemCode::kInvalidInput, "id: expected at most %zu bytes, got %zu", kInferIdBytesMax, bytes);
      return false;
    }
    request_.id.assign(start, bytes);
    return true;
  }

  [[nodiscard]] bool read_parameter(std::string_view name) {
    if (name == "binary_data_output") return read_flag("parameters.binary_data_output", binary_by_default_);
    if (name == "row_errors") return read_flag("parameters.row_errors", request_.row_errors);
    if (name == "timeout") return read_count("parameters.timeout", request_.timeout_us);
    if (name == "sequence_id") {
      problem_.set(ProblemCode::kInvalidInput, "parameters.sequence_id: models with state are not served here");
      return false;
    }
    return text_.skip_value();
  }

  // --- inputs --------------------------------------------------------------------------------------------------------

  [[nodiscard]] bool read_input_member(std::string_view name, Input& input) {
    if (name == "name") return read_input_name(input);
    if (name == "shape") return read_shape(input);
    if (name == "datatype") {
      NameScratch scratch;
      std::string_view datatype;
      if (!read_text("inputs: datatype", scratch, datatype)) return false;
      // A view of the body: no name of a type has an escape.
      input.datatype = datatype.data() == scratch.data() ? std::string_view("?") : datatype;
      return true;
    }
    if (name == "data") {
      text_.skip_space();
      input.data = text_.at;
      return text_.skip_value();
    }
    if (name == "parameters") {
      if (!text_.consume('{')) return refuse_kind("inputs: parameters", "an object");
      return read_members([&](std::string_view member) {
        if (member == "shared_memory_region") return refuse_shared_memory();
        if (member != "binary_data_size") return text_.skip_value();
        input.has_binary = true;
        return read_count("inputs: binary_data_size", input.binary_bytes);
      });
    }
    return text_.skip_value();
  }

  [[gnu::cold]] bool refuse_shared_memory() {
    problem_.set(ProblemCode::kInvalidInput, "shared_memory_region: shared memory is not served; send the data");
    return false;
  }

  [[nodiscard]] bool read_input_name(Input& input) {
    NameScratch scratch;
    std::string_view name;
    if (!read_text("inputs: name", scratch, name)) return false;
    return inputs_.name(name, input);
  }

  [[nodiscard]] bool read_shape(Input& input) {
    if (!text_.consume('[')) return refuse_kind("inputs: shape", "a list of whole numbers");
    input.has_shape = true;
    input.rank = 0;
    if (text_.consume(']')) return true;
    do {
      if (input.rank == input.shape.size()) {
        problem_.set(ProblemCode::kInvalidInput, "inputs: shape: expected at most %zu extents", input.shape.size());
        return false;
      }
      if (!read_count("inputs: shape", input.shape[input.rank++])) return false;
    } while (text_.consume(','));
    return text_.expect(']', "',' or ']' behind an extent");
  }

  // --- tensors -------------------------------------------------------------------------------------------------------

  [[nodiscard]] bool read_tensors() {
    if (!inputs_.begin(rows_)) return false;
    const InferTensors& tensors = inputs_.tensors();
    for (const Input& input : request_.inputs) {
      const TensorSpec& spec = schema_->inputs.tensors()[input.tensor];
      if (input.has_binary) {
        if (!take_binary(input, spec, tensors)) return false;
      } else if (input.data == nullptr) {
        const std::string_view name = clip(spec.name);
        problem_.set(ProblemCode::kInvalidInput, "inputs.%.*s: data: missing", static_cast<int>(name.size()),
                     name.data());
        return false;
      } else {
        if (!rows_.allocate(input.tensor, problem_)) return false;
        text_.at = input.data;
        if (!read_infer_data(text_, spec, input.tensor, tensors, rows_)) return false;
      }
    }
    return end_binary();
  }

  [[nodiscard]] bool end_binary() {
    if (binary_.empty()) return true;
    problem_.set(ProblemCode::kInvalidInput, "the body has %zu bytes behind the binary data of its inputs",
                 binary_.size());
    return false;
  }

  [[nodiscard]] bool read_records(const RecordPlan& record, const RowLayout& layout) {
    std::vector<RecordInput> inputs;
    inputs.reserve(request_.inputs.size());
    for (const Input& input : request_.inputs) {
      if (!input.has_name || (!input.has_binary && input.data == nullptr)) {
        problem_.set(ProblemCode::kInvalidInput, "inputs: an input without a name or without data");
        return false;
      }
      RecordInput& given = inputs.emplace_back(RecordInput{&input, {}, RecordInput::Form::kBinary});
      if (input.has_binary) {
        if (!cut_binary(input, schema_->inputs.tensors()[input.tensor], given.data)) return false;
        continue;
      }
      text_.at = input.data;
      if (!text_.check_value()) return false;
      given.form = RecordInput::Form::kJson;
      given.data = {input.data, static_cast<std::size_t>(text_.at - input.data)};
    }
    return end_binary() && read_infer_records(inputs, record, layout, rows_, problem_);
  }

  [[nodiscard]] bool take_binary(const Input& input, const TensorSpec& spec, const InferTensors& tensors) {
    std::string_view bytes;
    return cut_binary(input, spec, bytes) && refer_infer_data(bytes, spec, input.tensor, tensors, rows_, problem_);
  }

  [[nodiscard]] bool cut_binary(const Input& input, const TensorSpec& spec, std::string_view& bytes) {
    const std::string_view name = clip(spec.name);
    if (input.binary_bytes > binary_.size()) {
      problem_.set(ProblemCode::kInvalidInput, "inputs.%.*s: binary_data_size: %llu, but only %zu bytes are left",
                   static_cast<int>(name.size()), name.data(), static_cast<unsigned long long>(input.binary_bytes),
                   binary_.size());
      return false;
    }
    bytes = binary_.substr(0, static_cast<std::size_t>(input.binary_bytes));
    binary_.remove_prefix(bytes.size());
    return true;
  }

  // --- outputs -------------------------------------------------------------------------------------------------------

  void want_all_outputs() {
    for (std::size_t index = 0; index < schema_->outputs.size(); ++index)
      request_.outputs.push_back({.tensor = static_cast<std::uint32_t>(index)});
  }

  [[nodiscard]] bool read_outputs() {
    bool named = true;
    const auto begin = [&] { request_.outputs.push_back({.tensor = kNoTensor}); };
    const auto read = [&](std::string_view member) {
      if (member == "name") return read_output_name(request_.outputs.back());
      if (member != "parameters") return text_.skip_value();
      if (!text_.consume('{')) return refuse_kind("outputs: parameters", "an object");
      return read_members([&](std::string_view parameter) {
        if (parameter == "binary_data") {
          request_.outputs.back().says_binary = true;
          return read_flag("outputs: binary_data", request_.outputs.back().binary);
        }
        if (parameter == "shared_memory_region") return refuse_shared_memory();
        if (parameter != "classification") return text_.skip_value();
        problem_.set(ProblemCode::kInvalidInput, "outputs: classification is not served: ask for the scores");
        return false;
      });
    };
    if (!read_objects("outputs", schema_->outputs.size(), begin, read)) return false;
    for (const InferRequest::Output& output : request_.outputs) named = named && output.tensor != kNoTensor;
    if (!named) problem_.set(ProblemCode::kInvalidInput, "outputs: an output without a name");
    return named;
  }

  [[nodiscard]] bool read_output_name(InferRequest::Output& output) {
    NameScratch scratch;
    std::string_view name;
    if (!read_text("outputs: name", scratch, name)) return false;
    if (output.tensor != kNoTensor) {
      problem_.set(ProblemCode::kInvalidInput, "outputs: an output with two names");
      return false;
    }
    return find_infer_output(*schema_, name, request_.outputs, output.tensor, problem_);
  }

  static constexpr std::uint32_t kNoTensor = ~std::uint32_t{0};

  JsonText text_;
  std::string_view binary_;
  RowsSink& rows_;
  InferRequest& request_;
  Problem& problem_;
  const ModelSchema* schema_ = nullptr;
  bool binary_by_default_ = false;
  InferInputs inputs_;
};

}  // namespace

bool decode_infer(std::string_view body, std::size_t header_bytes, const QueryNames& names, RowsSink& rows,
                  InferRequest& request, Problem& problem) {
  request.clear();
  if (header_bytes > body.size()) {
    problem.set(ProblemCode::kMalformedBody, "Inference-Header-Content-Length is %zu, but the body has %zu bytes",
                header_bytes, body.size());
    return false;
  }
  const RowTarget target = rows.resolve(names.model, names.version, problem);
  if (target.schema == nullptr) return false;
  return InferDecoder(body, header_bytes, rows, request, problem).decode(*target.schema);
}

std::string_view infer_name_of(DType dtype) noexcept {
  switch (dtype) {
    case DType::kBool:
      return "BOOL";
    case DType::kUint8:
      return "UINT8";
    case DType::kUint16:
      return "UINT16";
    case DType::kUint32:
      return "UINT32";
    case DType::kUint64:
      return "UINT64";
    case DType::kInt8:
      return "INT8";
    case DType::kInt16:
      return "INT16";
    case DType::kInt32:
      return "INT32";
    case DType::kInt64:
      return "INT64";
    case DType::kFloat16:
      return "FP16";
    case DType::kFloat32:
      return "FP32";
    case DType::kFloat64:
      return "FP64";
    case DType::kBytes:
      return "BYTES";
  }
  return "";
}

}  // namespace penstock::dataplane
