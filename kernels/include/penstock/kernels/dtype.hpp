// Element types of tensors: names, sizes, and the words shared memory stores.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>

namespace penstock {

// The numeric values are part of the shared-memory layout: append, never renumber.
enum class DType : std::uint8_t {
  kBool = 0,
  kUint8 = 1,
  kUint16 = 2,
  kUint32 = 3,
  kUint64 = 4,
  kInt8 = 5,
  kInt16 = 6,
  kInt32 = 7,
  kInt64 = 8,
  kFloat16 = 9,
  kFloat32 = 10,
  kFloat64 = 11,
  kBytes = 12,  // strings: descriptors and a heap, see text.hpp
};

struct DTypeInfo {
  DType dtype;
  std::string_view name;  // NumPy's name; strings have none there
  std::uint8_t bytes;     // of an element; of a string, of its descriptor
};

inline constexpr std::array<DTypeInfo, 13> kDTypes{{
    {DType::kBool, "bool", 1},
    {DType::kUint8, "uint8", 1},
    {DType::kUint16, "uint16", 2},
    {DType::kUint32, "uint32", 4},
    {DType::kUint64, "uint64", 8},
    {DType::kInt8, "int8", 1},
    {DType::kInt16, "int16", 2},
    {DType::kInt32, "int32", 4},
    {DType::kInt64, "int64", 8},
    {DType::kFloat16, "float16", 2},
    {DType::kFloat32, "float32", 4},
    {DType::kFloat64, "float64", 8},
    {DType::kBytes, "bytes", 8},
}};

[[nodiscard]] constexpr std::size_t size_of(DType dtype) noexcept {
  return kDTypes[static_cast<std::size_t>(dtype)].bytes;
}

[[nodiscard]] constexpr std::string_view name_of(DType dtype) noexcept {
  return kDTypes[static_cast<std::size_t>(dtype)].name;
}

[[nodiscard]] constexpr std::optional<DType> dtype_from_name(std::string_view name) noexcept {
  for (const DTypeInfo& info : kDTypes) {
    if (info.name == name) return info.dtype;
  }
  return std::nullopt;
}

}  // namespace penstock
