// The data of one input of an inference request.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "codec/codec_json_text.hpp"
#include "codec/codec_rows.hpp"

namespace penstock::dataplane {

struct InferTensors {  // what all inputs of a request have in common
  std::uint32_t rows = 0;
  std::uint32_t length = 0;  // of each row, where tensors vary; 0: they do not
};

// Elements of one row of the tensor.
[[nodiscard]] std::uint64_t row_elements(const TensorSpec& spec, const InferTensors& tensors) noexcept;

// `data`: the elements of all rows in C order, as one list or as nested ones; only their number counts. Reads them into
// the room of tensor `index`.
[[nodiscard]] bool read_infer_data(JsonText& text, const TensorSpec& spec, std::size_t index,
                                   const InferTensors& tensors, RowsSink& rows);

// The binary extension: little-endian, C order. Refers `rows` to it.
[[nodiscard]] bool refer_infer_data(std::string_view bytes, const TensorSpec& spec, std::size_t index,
                                    const InferTensors& tensors, RowsSink& rows, Problem& problem);

}  // namespace penstock::dataplane
