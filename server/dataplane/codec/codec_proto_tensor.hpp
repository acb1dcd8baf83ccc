// Typed contents of one input of a ModelInferRequest (InferTensorContents).
#pragma once

#include <cstddef>
#include <string_view>

#include "codec/codec_oip_tensor.hpp"

namespace penstock::dataplane {

// Elements of all rows in C order, in the list of the tensor's type. False: `problem` is set.
[[nodiscard]] bool read_infer_contents(std::string_view contents, const TensorSpec& spec, std::size_t index,
                                       const InferTensors& tensors, RowsSink& rows, Problem& problem);

}  // namespace penstock::dataplane
