// The tensors of one row, and where each of them lies when the row is packed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "penstock/kernels/dtype.hpp"

namespace penstock {

// One named tensor of a row. `shape` has no batch dimension; an empty shape is a scalar per row. Of a tensor whose rows
// vary in length, the first extent is the longest.
struct TensorSpec {
  std::string name;
  DType dtype = DType::kFloat32;
  std::vector<std::uint32_t> shape;
  bool varies = false;

  [[nodiscard]] std::uint64_t elements() const noexcept {
    std::uint64_t count = 1;
    for (std::uint32_t extent : shape) count *= extent;
    return count;
  }
  [[nodiscard]] std::uint64_t bytes() const noexcept { return elements() * size_of(dtype); }
};

// Tensors start on cache lines, so that a vector load of one never splits and two never share a line.
inline constexpr std::uint64_t kTensorAlignment = 64;

[[nodiscard]] constexpr std::uint64_t align_up(std::uint64_t value, std::uint64_t alignment) noexcept {
  return (value + alignment - 1) / alignment * alignment;
}

// Tensors packed one behind the other: the form of a decode scratch row and of an arena slot.
class RowLayout {
 public:
  RowLayout() = default;
  explicit RowLayout(std::vector<TensorSpec> tensors) : tensors_(std::move(tensors)) {
    offsets_.reserve(tensors_.size());
    for (const TensorSpec& tensor : tensors_) {
      offsets_.push_back(bytes_);
      bytes_ += align_up(tensor.bytes(), kTensorAlignment);
    }
  }

  [[nodiscard]] const std::vector<TensorSpec>& tensors() const noexcept { return tensors_; }
  [[nodiscard]] std::size_t size() const noexcept { return tensors_.size(); }
  // Byte offset of tensor `index` inside a packed row.
  [[nodiscard]] std::uint64_t offset(std::size_t index) const noexcept { return offsets_[index]; }
  // Bytes of a packed row, padding included.
  [[nodiscard]] std::uint64_t bytes() const noexcept { return bytes_; }

 private:
  std::vector<TensorSpec> tensors_;
  std::vector<std::uint64_t> offsets_;
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
