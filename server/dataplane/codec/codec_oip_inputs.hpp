// Inputs of an inference request, in JSON or protobuf, against those of the model.
#pragma once

#include <bitset>
#include <cstdint>
#include <string_view>
#include <vector>

#include "codec/codec_oip.hpp"
#include "codec/codec_oip_tensor.hpp"

namespace penstock::dataplane {

class InferInputs {
 public:
  InferInputs(const ModelSchema*& schema, Problem& problem) noexcept : schema_(schema), problem_(problem) {}

  // The input is called so. False: the model has none of that name, or it has been there.
  [[nodiscard]] bool name(std::string_view name, InferRequest::Input& input);
  // Every input once, of the type and shape that the model takes, all of the same number of rows.
  [[nodiscard]] bool match(const std::vector<InferRequest::Input>& inputs);
  // After match(): tells how many rows there are, and how long they are.
  [[nodiscard]] bool begin(RowsSink& rows);
  [[nodiscard]] const InferTensors& tensors() const noexcept { return tensors_; }

 private:
  [[nodiscard]] bool match_input(const InferRequest::Input& input, const TensorSpec& spec);
  [[nodiscard]] bool refuse_shape(const InferRequest::Input& input, const TensorSpec& spec);

  const ModelSchema*& schema_;  // known by the first call
  Problem& problem_;
  InferTensors tensors_;
  std::uint64_t count_ = 0;   // rows
  std::uint32_t length_ = 0;  // of each, where tensors vary
  std::bitset<kTensorsMax> seen_;
};

// A record may have more fields than a request can have inputs. False: `problem` is set.
[[nodiscard]] bool fits_infer(const ModelSchema& face, Problem& problem);

// The output that a request asks for by this name; `asked`: those before it. False: `problem` is set.
[[nodiscard]] bool find_infer_output(const ModelSchema& schema, std::string_view name,
                                     const std::vector<InferRequest::Output>& asked, std::uint32_t& tensor,
                                     Problem& problem);

}  // namespace penstock::dataplane
