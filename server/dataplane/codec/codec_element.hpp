// From an element type that is known at run time to C++'s type of it.
#pragma once

#include <cstdint>
#include <type_traits>

#include "penstock/kernels/dtype.hpp"
#include "penstock/kernels/half.hpp"

namespace penstock::dataplane {

// Calls visit(std::type_identity<T>{}) with the type of `dtype`'s elements. Numbers only: strings have
// readers and writers of their own.
template <typename Visit>
decltype(auto) with_element_type(DType dtype, Visit&& visit) {
  switch (dtype) {
    case DType::kBool:
      return visit(std::type_identity<bool>{});
    case DType::kUint8:
      return visit(std::type_identity<std::uint8_t>{});
    case DType::kUint16:
      return visit(std::type_identity<std::uint16_t>{});
    case DType::kUint32:
      return visit(std::type_identity<std::uint32_t>{});
    case DType::kUint64:
      return visit(std::type_identity<std::uint64_t>{});
    case DType::kInt8:
      return visit(std::type_identity<std::int8_t>{});
    case DType::kInt16:
      return visit(std::type_identity<std::int16_t>{});
    case DType::kInt32:
      return visit(std::type_identity<std::int32_t>{});
    case DType::kInt64:
      return visit(std::type_identity<std::int64_t>{});
    case DType::kFloat16:
      return visit(std::type_identity<Half>{});
    case DType::kFloat32:
      return visit(std::type_identity<float>{});
    case DType::kFloat64:
      return visit(std::type_identity<double>{});
    case DType::kBytes:
      break;
  }
  __builtin_unreachable();
}

}  // namespace penstock::dataplane
