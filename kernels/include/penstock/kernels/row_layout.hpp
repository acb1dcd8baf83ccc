// The tensors of one row, and where each of them lies when the row is packed.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "penstock/kernels/dtype.hpp"

namespace penstock {

// A descriptor of a string: text.hpp.
inline constexpr std::uint64_t kTextSpanBytes = 8;

// One named tensor of a row. `shape` has no batch dimension; an empty shape is a scalar per row. Of a tensor whose rows
// vary in length, the first extent is the longest.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kFloat32;
  std::vector<std::uint32_t> shape;
  bool varies = false;
  std::uint32_t heap_bytes = 0;  // of strings: room for all of them together, a multiple of 8; else 0

  [[nodiscard]] std::uint64_t elements() const noexcept {
    std::uint64_t count = 1;
    for (std::uint32_t extent : shape) count *= extent;
    return count;
  }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return elements() * size_of(dtype) + heap_bytes; }
  // The first `length` elements of a tensor that varies: a prefix of its storage.
  [[nodiscard]] std::uint64_t bytes_of_length(std::uint32_t length) const noexcept {
    return elements() * size_of(dtype) / shape.front() * length + heap_bytes;
  }
};

// Tensors start on cache lines, so that a vector load of one never splits and two never share a line.
inline constexpr std::uint64_t kTensorAlignment = 64;

[[nodiscard]] constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) noexcept {
  return (value + alignment - 1) / alignment * alignment;
}

// Room for the strings of a tensor of so many: `wanted` bytes, or without it (0) 64 bytes each and 1024 at least. A
// multiple of 8; more than 4 GiB is cut to what check_schema() refuses.
[[nodiscard]] constexpr std::uint32_t heap_bytes_of(std::uint64_t elements, std::uint32_t wanted = 0) noexcept {
  constexpr std::uint64_t kMost = ~std::uint32_t{0} - 7;
  if (wanted != 0) return static_cast<std::uint32_t>(std::min(align_up(wanted, kTextSpanBytes), kMost));
  if (elements <= 16) return 1024;
  return static_cast<std::uint32_t>(elements > kMost / 64 ? kMost : elements * 64);
}

// Tensors packed one behind the other: the form of a decode scratch row and of an arena slot.
class RowLayout {
 public:
  RowLayout() = default;
  explicit RowLayout(std::vector<TensorSpec> tensors) : tensors_(std::move(tensors)) {
    offsets_.reserve(tensors_.size());
    tensor_bytes_.reserve(tensors_.size());
    for (const TensorSpec& tensor : tensors_) {
      offsets_.push_back(bytes_);
      tensor_bytes_.push_back(tensor.bytes());
      bytes_ += align_up(tensor_bytes_.back(), kTensorAlignment);
    }
  }

  [[nodiscard]] const std::vector<TensorSpec>& tensors() const noexcept { return tensors_; }
  [[nodiscard]] std::size_t size() const noexcept { return tensors_.size(); }
  // Byte offset of tensor `index` inside a packed row.
  [[nodiscard]] std::uint64_t offset(std::size_t index) const noexcept { return offsets_[index]; }
  // What tensors()[index].bytes() computes.
  [[nodiscard]] std::uint64_t tensor_bytes(std::size_t index) const noexcept { return tensor_bytes_[index]; }
  // Bytes of a packed row, padding included.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  std::vector<TensorSpec> tensors_;
  std::vector<std::uint64_t> offsets_;
  std::vector<std::uint64_t> tensor_bytes_;
  std::uint64_t bytes_ = 0;
};

// What a model version takes and gives, row by row.
struct ModelSchema {
  RowLayout inputs;
  RowLayout outputs;
};

// The same tensors with rows of at most `length` where they vary.
[[nodiscard]] inline RowLayout with_length(const RowLayout& layout, std::uint32_t length) {
  std::vector<TensorSpec> tensors = layout.tensors();
  for (TensorSpec& tensor : tensors) {
    if (tensor.varies) tensor.shape.front() = length;
  }
  return RowLayout(std::move(tensors));
}

[[nodiscard]] inline ModelSchema with_length(const ModelSchema& schema, std::uint32_t length) {
  return {with_length(schema.inputs, length), with_length(schema.outputs, length)};
}

}  // namespace penstock
