// Tensors between Python and C++: (name, NumPy dtype name, row shape) tuples, and arrays over memory of a ring.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>
#include <vector>

#include "penstock/kernels/row_layout.hpp"

namespace penstock::batcher {

namespace nb = nanobind;

using Tensor = std::tuple<std::string, std::string, nb::typed<nb::tuple, int, nb::ellipsis>>;

inline std::vector<Tensor> describe(const RowLayout& layout) {
  std::vector<Tensor> tensors;
  for (const TensorSpec& tensor : layout.tensors()) {
    nb::list shape;
    for (const std::uint32_t extent : tensor.shape) shape.append(extent);
    tensors.emplace_back(tensor.name, std::string(name_of(tensor.dtype)),
                         nb::borrow<nb::typed<nb::tuple, int, nb::ellipsis>>(nb::tuple(shape)));
  }
  return tensors;
}

inline RowLayout layout_of(const std::vector<Tensor>& tensors) {
  std::vector<TensorSpec> specs;
  for (const auto& [name, dtype_name, shape] : tensors) {
    const std::optional<DType> dtype = dtype_from_name(dtype_name);
    if (!dtype) throw std::invalid_argument("unknown dtype '" + dtype_name + "'");
    TensorSpec& spec = specs.emplace_back(TensorSpec{name, *dtype, nb::cast<std::vector<std::uint32_t>>(shape)});
    if (*dtype == DType::kBytes) spec.heap_bytes = heap_bytes_of(spec.elements());
  }
  return RowLayout(std::move(specs));
}

inline nb::dlpack::dtype dlpack_of(DType dtype) {
  using nb::dlpack::dtype_code;
  const auto bits = static_cast<std::uint8_t>(size_of(dtype) * 8);
  const auto make = [bits](dtype_code code) { return nb::dlpack::dtype{static_cast<std::uint8_t>(code), bits, 1}; };
  switch (dtype) {
    case DType::kBool:
      return make(dtype_code::Bool);
    case DType::kUint8:
    case DType::kUint16:
    case DType::kUint32:
    case DType::kUint64:
      return make(dtype_code::UInt);
    case DType::kInt8:
    case DType::kInt16:
    case DType::kInt32:
    case DType::kInt64:
      return make(dtype_code::Int);
    case DType::kFloat16:
    case DType::kFloat32:
    case DType::kFloat64:
      return make(dtype_code::Float);
    case DType::kBytes:
      break;
  }
  throw std::invalid_argument("NumPy has no such dtype");
}

// `rows` rows of `tensor` as a NumPy array, without a copy. `owner` keeps the memory mapped.
template <typename Array, typename Pointer>
nb::object view(Pointer first, std::uint32_t rows, const TensorSpec& tensor, nb::handle owner) {
  std::vector<std::size_t> shape{rows};
  shape.insert(shape.end(), tensor.shape.begin(), tensor.shape.end());
  return nb::cast(Array(first, shape.size(), shape.data(), owner, nullptr, dlpack_of(tensor.dtype)));
}

using WritableArray = nb::ndarray<nb::numpy, nb::device::cpu, nb::c_contig>;
using ReadOnlyArray = nb::ndarray<nb::numpy, nb::ro, nb::device::cpu, nb::c_contig>;

}  // namespace penstock::batcher
