#include "codec/codec_proto.hpp"

#include <algorithm>

#include "codec/codec_oip_inputs.hpp"
#include "codec/codec_proto_tensor.hpp"
#include "codec/codec_record_infer.hpp"
#include "codec/codec_request.hpp"
#include "codec/proto_reader.hpp"

namespace penstock::dataplane {
namespace {

using Input = InferRequest::Input;

// Fields of ModelInferRequest.
enum RequestField : std::uint32_t {
  kModelName = 1,
  kModelVersion = 2,
  kId = 3,
  kParameters = 4,
  kInputs = 5,
  kOutputs = 6,
  kRawContents = 7,
};

class MessageDecoder {
 public:
  MessageDecoder(std::string_view message, RowsSink& rows, InferRequest& request, Problem& problem) noexcept
      : message_(message), rows_(rows), request_(request), problem_(problem), inputs_(schema_, problem) {}

  [[nodiscard]] bool decode() {
    std::string_view model;
    std::string_view version;
    const auto read_name = [&](const ProtoField& field) {
      if (field.is_bytes(kModelName)) model = field.bytes;
      if (field.is_bytes(kModelVersion)) version = field.bytes;
      return true;
    };
    // Fields come in any order, and the names of inputs mean something to a model only.
    if (!each_field(message_, read_name)) return false;
    const RowTarget target = rows_.resolve(model, version, problem_);
    if (target.schema == nullptr) return false;
    const RecordPlan* const record = rows_.record();
    schema_ = record != nullptr ? &record->face() : target.schema;
    if (record != nullptr && !fits_infer(*schema_, problem_)) return false;
    if (!each_field(message_, [this](const ProtoField& field) { return read_field(field); })) return false;
    if (request_.outputs.empty()) {
      for (std::uint32_t i = 0; i < schema_->outputs.size(); ++i)
        request_.outputs.push_back({.tensor = i, .binary = true});
    }
    if (record != nullptr) return read_records(*record, target.schema->inputs);
    return inputs_.match(request_.inputs) && inputs_.begin(rows_) && read_tensors();
  }

 private:
  template <class Read>
  [[nodiscard]] bool each_field(std::string_view message, Read&& read) {
    ProtoReader reader(message);
    ProtoField field;
    while (reader.next(field)) {
      if (!read(field)) return false;
    }
    if (reader.is_malformed()) problem_.set(ProblemCode::kMalformedBody, "the message is no protobuf");
    return !reader.is_malformed();
  }

  [[nodiscard]] bool refuse(const char* what) {
    problem_.set(ProblemCode::kInvalidInput, "%s", what);
    return false;
  }

  [[nodiscard]] bool read_field(const ProtoField& field) {
    if (field.wire != ProtoWire::kBytes) return true;
    switch (field.number) {
      case kId:
        request_.id = field.bytes.substr(0, kInferIdBytesMax);
        return field.bytes.size() <= kInferIdBytesMax || refuse("id: expected at most 256 bytes");
      case kParameters:
        return read_parameter(field.bytes, [this](std::string_view name, const ProtoField& value) {
          if (name == "timeout" && value.is_varint(2)) request_.timeout_us = value.value;
          return name != "sequence_id" || value.value == 0 ||
                 refuse("parameters.sequence_id: models with state are not served here");
        });
      case kInputs:
        return read_input(field.bytes);
      case kOutputs:
        return read_output(field.bytes);
      case kRawContents:
        if (request_.raw.size() == kTensorsMax) return refuse("raw_input_contents: more than there may be inputs");
        request_.raw.push_back(field.bytes);
        return true;
      default:
        return true;
    }
  }

  // An entry of a map of InferParameter: its name, and the field of it that is set.
  template <class Take>
  [[nodiscard]] bool read_parameter(std::string_view entry, Take&& take) {
    std::string_view name;
    std::string_view parameter;
    if (!each_field(entry, [&](const ProtoField& field) {
          if (field.is_bytes(1)) name = field.bytes;
          if (field.is_bytes(2)) parameter = field.bytes;
          return true;
        })) {
      return false;
    }
    ProtoField value;
    return each_field(parameter,
                      [&](const ProtoField& field) {
                        value = field;
                        return true;
                      }) &&
           take(name, value);
  }

  [[nodiscard]] bool refuse_shared_memory(std::string_view name) {
    return name != "shared_memory_region" || refuse("shared_memory_region: shared memory is not served; send the data");
  }

  [[nodiscard]] bool read_input(std::string_view message) {
    if (request_.inputs.size() == kTensorsMax) return refuse("inputs: more than there may be");
    Input& input = request_.inputs.emplace_back();
    return each_field(message, [&](const ProtoField& field) {
      switch (field.number) {
        case 1:
          return field.wire != ProtoWire::kBytes || inputs_.name(field.bytes, input);
        case 2:
          if (field.wire == ProtoWire::kBytes) input.datatype = field.bytes;
          return true;
        case 3:
          return read_shape(field, input);
        case 4:
          return field.wire != ProtoWire::kBytes ||
                 read_parameter(field.bytes, [this](std::string_view name, const ProtoField&) {
                   return refuse_shared_memory(name);
                 });
        case 5:
          if (field.wire != ProtoWire::kBytes) return true;
          input.data = field.bytes.data();
          input.binary_bytes = field.bytes.size();
          return true;
        default:
          return true;
      }
    });
  }

  // One extent, or a packed list of them.
  [[nodiscard]] bool read_shape(const ProtoField& field, Input& input) {
    input.has_shape = true;
    if (field.wire == ProtoWire::kVarint) return add_extent(field.value, input);
    if (field.wire != ProtoWire::kBytes) return true;
    ProtoReader packed(field.bytes);
    std::uint64_t extent = 0;
    while (!packed.at_end()) {
      if (!packed.read_varint(extent)) {
        problem_.set(ProblemCode::kMalformedBody, "inputs: shape: it is no protobuf");
        return false;
      }
      if (!add_extent(extent, input)) return false;
    }
    return true;
  }

  [[nodiscard]] bool add_extent(std::uint64_t extent, Input& input) {
    if (input.rank == input.shape.size()) return refuse("inputs: shape: more extents than there may be");
    input.shape[input.rank++] = extent;
    return true;
  }

  [[nodiscard]] bool read_output(std::string_view message) {
    InferRequest::Output output{.tensor = 0, .binary = true};
    bool named = false;
    const bool read = each_field(message, [&](const ProtoField& field) {
      if (field.is_bytes(1)) {
        named = true;
        return find_infer_output(*schema_, field.bytes, request_.outputs, output.tensor, problem_);
      }
      if (!field.is_bytes(2)) return true;
      return read_parameter(field.bytes, [this](std::string_view name, const ProtoField& value) {
        if (name == "classification" && value.value != 0)
          return refuse("outputs: classification is not served: ask for the scores");
        return refuse_shared_memory(name);
      });
    });
    if (!read) return false;
    request_.outputs.push_back(output);
    return named || refuse("outputs: an output without a name");
  }

  [[nodiscard]] bool read_records(const RecordPlan& record, const RowLayout& layout) {
    if (!has_raw_for_all()) return false;
    std::vector<RecordInput> inputs;
    inputs.reserve(request_.inputs.size());
    for (std::size_t i = 0; i < request_.inputs.size(); ++i) {
      if (!request_.inputs[i].has_name) return refuse("inputs: an input without a name");
      const std::string_view contents = contents_of(request_.inputs[i]);
      if (request_.raw.empty()) {
        inputs.push_back({&request_.inputs[i], contents, RecordInput::Form::kContents});
      } else if (contents.empty()) {
        inputs.push_back({&request_.inputs[i], request_.raw[i], RecordInput::Form::kBinary});
      } else {
        return refuse_both();
      }
    }
    return read_infer_records(inputs, record, layout, rows_, problem_);
  }

  [[nodiscard]] bool has_raw_for_all() {
    if (request_.raw.empty() || request_.raw.size() == request_.inputs.size()) return true;
    problem_.set(ProblemCode::kInvalidInput, "raw_input_contents: expected one for each of the %zu inputs, got %zu",
                 request_.inputs.size(), request_.raw.size());
    return false;
  }

  [[nodiscard]] bool refuse_both() { return refuse("inputs: contents and raw_input_contents: expected one of them"); }

  [[nodiscard]] static std::string_view contents_of(const Input& input) noexcept {
    return {input.data, static_cast<std::size_t>(input.binary_bytes)};
  }

  [[nodiscard]] bool read_tensors() {
    if (!has_raw_for_all()) return false;
    for (std::size_t i = 0; i < request_.inputs.size(); ++i) {
      const Input& input = request_.inputs[i];
      const TensorSpec& spec = schema_->inputs.tensors()[input.tensor];
      const std::string_view contents = contents_of(input);
      const bool is_raw = !request_.raw.empty();
      if (is_raw && !contents.empty()) return refuse_both();
      if (is_raw ? !refer_infer_data(request_.raw[i], spec, input.tensor, inputs_.tensors(), rows_, problem_)
                 : !read_infer_contents(contents, spec, input.tensor, inputs_.tensors(), rows_, problem_)) {
        return false;
      }
    }
    return true;
  }

  std::string_view message_;
  RowsSink& rows_;
  InferRequest& request_;
  Problem& problem_;
  const ModelSchema* schema_ = nullptr;
  InferInputs inputs_;
};

}  // namespace

bool decode_infer_message(std::string_view message, RowsSink& rows, InferRequest& request, Problem& problem) {
  request.clear();
  return MessageDecoder(message, rows, request, problem).decode();
}

}  // namespace penstock::dataplane
