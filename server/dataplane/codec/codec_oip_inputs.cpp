#include "codec/codec_oip_inputs.hpp"

#include <algorithm>
#include <cstdio>

#include "codec/codec_request.hpp"

namespace penstock::dataplane {

using Input = InferRequest::Input;

bool InferInputs::name(std::string_view name, Input& input) {
  const std::vector<TensorSpec>& tensors = schema_->inputs.tensors();
  const auto found = std::ranges::find(tensors, name, &TensorSpec::name);
  const std::string_view shown = clip(name);
  if (found == tensors.end()) {
    problem_.set(ProblemCode::kInvalidInput, "inputs.%.*s: unknown input", static_cast<int>(shown.size()),
                 shown.data());
    return false;
  }
  if (input.has_name) {
    problem_.set(ProblemCode::kInvalidInput, "inputs.%.*s: an input with two names", static_cast<int>(shown.size()),
                 shown.data());
    return false;
  }
  input.tensor = static_cast<std::size_t>(found - tensors.begin());
  input.has_name = true;
  if (seen_[input.tensor]) {
    problem_.set(ProblemCode::kInvalidInput, "inputs.%.*s: occurs twice", static_cast<int>(shown.size()), shown.data());
    return false;
  }
  seen_[input.tensor] = true;
  return true;
}

bool InferInputs::match(const std::vector<Input>& inputs) {
  const std::vector<TensorSpec>& tensors = schema_->inputs.tensors();
  for (const Input& input : inputs) {
    if (!input.has_name) {
      problem_.set(ProblemCode::kInvalidInput, "inputs: an input without a name");
      return false;
    }
    if (!match_input(input, tensors[input.tensor])) return false;
  }
  for (std::size_t index = 0; index < tensors.size(); ++index) {
    if (seen_[index]) continue;
    const std::string_view shown = clip(tensors[index].name);
    problem_.set(ProblemCode::kInvalidInput, "inputs.%.*s: missing", static_cast<int>(shown.size()), shown.data());
    return false;
  }
  if (inputs.size() == tensors.size()) return true;
  problem_.set(ProblemCode::kInvalidInput, "inputs: expected %zu, got %zu", tensors.size(), inputs.size());
  return false;
}

bool InferInputs::match_input(const Input& input, const TensorSpec& spec) {
  const std::string_view name = clip(spec.name);
  const std::string_view datatype = infer_name_of(spec.dtype);
  if (input.datatype != datatype) {
    const std::string_view got = input.datatype.empty() ? std::string_view("none") : clip(input.datatype);
    problem_.set(ProblemCode::kInvalidInput, "inputs.%.*s: datatype: expected %.*s, got %.*s",
                 static_cast<int>(name.size()), name.data(), static_cast<int>(datatype.size()), datatype.data(),
                 static_cast<int>(got.size()), got.data());
    return false;
  }
  bool fits = input.has_shape && input.rank == spec.shape.size() + 1 && input.shape[0] >= 1;
  for (std::size_t i = 0; fits && i < spec.shape.size(); ++i) {
    const std::uint64_t extent = input.shape[i + 1];
    fits = i == 0 && spec.varies ? is_length(spec, extent) : extent == spec.shape[i];
  }
  if (!fits) return refuse_shape(input, spec);
  if (count_ == 0) count_ = input.shape[0];
  if (input.shape[0] != count_) {
    problem_.set(ProblemCode::kInvalidInput,
                 "inputs.%.*s: shape: expected %llu rows, as in the inputs before, got %llu",
                 static_cast<int>(name.size()), name.data(), static_cast<unsigned long long>(count_),
                 static_cast<unsigned long long>(input.shape[0]));
    return false;
  }
  if (!spec.varies) return true;
  const auto length = static_cast<std::uint32_t>(input.shape[1]);
  if (length_ == 0) length_ = length;
  if (length == length_) return true;
  problem_.set(ProblemCode::kInvalidInput,
               "inputs.%.*s: shape: expected a length of %u, as in the inputs before, got %u",
               static_cast<int>(name.size()), name.data(), length_, length);
  return false;
}

[[gnu::cold]] bool InferInputs::refuse_shape(const Input& input, const TensorSpec& spec) {
  char expected[160];
  int used = std::snprintf(expected, sizeof expected, "[rows");
  for (std::size_t i = 0; i < spec.shape.size() && used < 140; ++i) {
    used += std::snprintf(expected + used, sizeof expected - static_cast<std::size_t>(used),
                          i == 0 && spec.varies ? ", 1 to %u" : ", %u", spec.shape[i]);
  }
  std::snprintf(expected + used, sizeof expected - static_cast<std::size_t>(used), "]");
  char got[160] = "none";
  if (input.has_shape) {
    used = std::snprintf(got, sizeof got, "[");
    for (std::size_t i = 0; i < input.rank && used < 120; ++i) {
      used += std::snprintf(got + used, sizeof got - static_cast<std::size_t>(used), i == 0 ? "%llu" : ", %llu",
                            static_cast<unsigned long long>(input.shape[i]));
    }
    std::snprintf(got + used, sizeof got - static_cast<std::size_t>(used), "]");
  }
  const std::string_view name = clip(spec.name);
  problem_.set(ProblemCode::kInvalidInput, "inputs.%.*s: shape: expected %s with at least one row, got %s",
               static_cast<int>(name.size()), name.data(), expected, got);
  return false;
}

bool InferInputs::begin(RowsSink& rows) {
  if (count_ > UINT32_MAX || !rows.begin(static_cast<std::uint32_t>(count_), problem_)) {
    if (!problem_) problem_.set(ProblemCode::kBodyTooLarge, "the request has more rows than can be counted");
    return false;
  }
  tensors_ = {.rows = static_cast<std::uint32_t>(count_), .length = length_};
  for (std::uint32_t row = 0; length_ != 0 && row < tensors_.rows; ++row) rows.set_row_length(row, length_);
  return true;
}

bool fits_infer(const ModelSchema& face, Problem& problem) {
  if (face.inputs.size() <= kTensorsMax) return true;
  problem.set(ProblemCode::kInvalidInput, "the record has %zu fields, more than this protocol takes here: use /predict",
              face.inputs.size());
  return false;
}

bool find_infer_output(const ModelSchema& schema, std::string_view name, const std::vector<InferRequest::Output>& asked,
                       std::uint32_t& tensor, Problem& problem) {
  const std::vector<TensorSpec>& tensors = schema.outputs.tensors();
  const auto found = std::ranges::find(tensors, name, &TensorSpec::name);
  const auto index = static_cast<std::uint32_t>(found - tensors.begin());
  const bool twice =
      found != tensors.end() && std::ranges::any_of(asked, [&](const auto& other) { return other.tensor == index; });
  if (found == tensors.end() || twice) {
    const std::string_view shown = clip(name);
    problem.set(ProblemCode::kInvalidInput, "outputs.%.*s: %s", static_cast<int>(shown.size()), shown.data(),
                twice ? "occurs twice" : "unknown output");
    return false;
  }
  tensor = index;
  return true;
}

}  // namespace penstock::dataplane
