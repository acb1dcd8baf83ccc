// The Open Inference Protocol, version 2, over REST: a request's body becomes columns, columns become a reply's body.
// https://github.com/kserve/open-inference-protocol (inference REST), and its binary tensor data extension.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codec/codec_rows.hpp"

namespace penstock::dataplane {

inline constexpr std::size_t kInferIdBytesMax = 256;

// What a request says beside its tensors. Kept from request to request for its memory.
struct InferRequest {
  struct Input {  // as far as it was read
    std::size_t tensor = 0;
    std::string_view datatype;
    std::array<std::uint64_t, kRankMax + 1> shape{};
    std::size_t rank = 0;
    const char* data = nullptr;  // JSON; null: binary
    std::uint64_t binary_bytes = 0;
    bool has_name = false;
    bool has_shape = false;
    bool has_binary = false;
  };
  struct Output {
    std::uint32_t tensor = 0;
    bool binary = false;
    bool says_binary = false;  // else it is what the request says for all
  };

  std::string id;                     // text as the encoding has it: JSON between the quotes, or bytes of a message
  std::vector<Input> inputs;          // in the order of the body
  std::vector<Output> outputs;        // in the order of the reply
  std::vector<std::string_view> raw;  // of a message: contents of the inputs, in their order
  std::uint64_t timeout_us = 0;       // 0: none
  bool row_errors = false;            // a row that fails does not fail the request: the reply says which did

  void clear() noexcept {
    id.clear();
    inputs.clear();
    outputs.clear();
    raw.clear();
    timeout_us = 0;
    row_errors = false;
  }
  [[nodiscard]] bool has_binary_output() const noexcept {
    for (const Output& output : outputs) {
      if (output.binary) return true;
    }
    return false;
  }
};

// `header_bytes`: of JSON at the start of `body`, in front of binary tensors; all of it when there are none. The names
// come from the path. The first extent of every tensor is the number of rows. Allocates when a request is larger than
// those before.
[[nodiscard]] bool decode_infer(std::string_view body, std::size_t header_bytes, const QueryNames& names,
                                RowsSink& rows, InferRequest& request, Problem& problem);

// The protocol's name of an element type: "FP32", "INT64", "BOOL", ...
[[nodiscard]] std::string_view infer_name_of(DType dtype) noexcept;

// What is sent back, output by output as the request wants them.
struct InferOutputs {
  const InferRequest* request = nullptr;
  std::span<const Column> columns;  // of request->outputs
  std::uint32_t rows = 0;
  std::uint32_t length = 0;          // of every row, where tensors vary; 0: they do not
  std::span<const RowFault> faults;  // ascending; of a request with row_errors. The outputs of these rows are zero
};

struct InferReplySize {
  std::size_t bytes = 0;
  std::size_t header_bytes = 0;  // of them, JSON in front of binary tensors; 0: there are none
};

// Replies of one model version. Built once per version; writing allocates nothing.
class InferReplyEncoder {
 public:
  InferReplyEncoder() = default;
  // `schema` must outlive the encoder.
  InferReplyEncoder(std::string_view model, std::string_view version, const ModelSchema& schema);

  // Upper bound of the reply's body; `columns` are not looked at.
  [[nodiscard]] std::size_t bytes_max(const InferOutputs& outputs) const noexcept;
  // Into `out`, at least bytes_max() bytes.
  [[nodiscard]] InferReplySize write(const InferOutputs& outputs, char* out) const noexcept;

  // The same as a message of gRPC, all outputs as raw contents (codec_proto_reply.cpp).
  [[nodiscard]] std::size_t message_bytes_max(const InferOutputs& outputs) const noexcept;
  [[nodiscard]] std::size_t write_message(const InferOutputs& outputs, char* out) const noexcept;

 private:
  void render_messages(std::string_view model, std::string_view version);
  [[nodiscard]] char* write_message_output(const InferOutputs& outputs, const InferRequest::Output& output,
                                           char* out) const noexcept;
  [[nodiscard]] char* write_output(const InferOutputs& outputs, std::size_t j, char* out) const noexcept;
  [[nodiscard]] std::size_t binary_bytes(const InferOutputs& outputs, std::size_t j) const noexcept;
  [[nodiscard]] char* write_binary(const InferOutputs& outputs, std::size_t j, char* out) const noexcept;

  const ModelSchema* schema_ = nullptr;
  std::string opening_;              // {"model_name":"m","model_version":"1"
  std::vector<std::string> prefix_;  // {"name":"y","datatype":"FP32","shape":[
  std::string message_opening_;      // the same for messages: names of model and version
  std::vector<std::string> message_prefix_;
};

}  // namespace penstock::dataplane
