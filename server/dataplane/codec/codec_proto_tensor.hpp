// Typed contents of one input of a ModelInferRequest (InferTensorContents).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "codec/codec_oip_tensor.hpp"

namespace penstock::dataplane {

// Elements of all rows in C order, in the list of the tensor's type. False: `problem` is set.
[[nodiscard]] bool read_infer_contents(std::string_view contents, const TensorSpec& spec, std::size_t index,
                                       const InferTensors& tensors, RowsSink& rows, Problem& problem);

// The same of one element a row, into `out` as the binary extension has them; `name` is for messages.
[[nodiscard]] bool binary_of_contents(std::string_view contents, std::string_view name, DType dtype, std::uint32_t rows,
                                      std::string& out, Problem& problem);

}  // namespace penstock::dataplane
