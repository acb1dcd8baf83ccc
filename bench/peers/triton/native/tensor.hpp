// A model's inputs and outputs, and the checks of both interfaces' answers.
#pragma once

#include <algorithm>
#include <array>
#include <memory>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "abi.hpp"

namespace ortmin {

// Triton's name and number, ONNX Runtime's number, size.
struct ElementType {
  std::string_view name;
  int triton;
  int ort;
  std::size_t bytes;
};

inline constexpr std::array kElementTypes{
    ElementType{"BOOL", 1, 9, 1},  ElementType{"UINT8", 2, 2, 1},  ElementType{"INT8", 6, 3, 1},
    ElementType{"INT32", 8, 6, 4}, ElementType{"INT64", 9, 7, 8},  ElementType{"FP16", 10, 10, 2},
    ElementType{"FP32", 11, 1, 4}, ElementType{"FP64", 12, 11, 8},
};

inline const OrtApi& ort() {
  static const OrtApi* api = OrtGetApiBase()->GetApi(1);
  return *api;
}

inline void check(OrtStatus* status) {
  if (status == nullptr) return;
  const std::string message = ort().GetErrorMessage(status);
  ort().ReleaseStatus(status);
  throw std::runtime_error(message);
}

inline void check(TRITONSERVER_Error* error) {
  if (error == nullptr) return;
  const std::string message = TRITONSERVER_ErrorMessage(error);
  TRITONSERVER_ErrorDelete(error);
  throw std::runtime_error(message);
}

template <typename T>
using Owned = std::unique_ptr<T, void (*)(T*)>;

// An input or output, with the rows of the batch at hand.
struct Tensor {
  std::string name;
  ElementType type;
  std::size_t row_bytes;
  std::vector<std::int64_t> shape;  // rows first
  std::vector<std::byte> data;

  void hold(std::size_t rows) {
    if (data.size() < rows * row_bytes) data.resize(rows * row_bytes);
  }

  [[nodiscard]] Owned<OrtValue> value(const OrtMemoryInfo* memory, std::size_t rows) {
    shape[0] = static_cast<std::int64_t>(rows);
    OrtValue* made = nullptr;
    check(ort().CreateTensorWithDataAsOrtValue(memory, data.data(), rows * row_bytes, shape.data(), shape.size(),
                                               type.ort, &made));
    return {made, ort().ReleaseValue};
  }
};

inline Tensor read_tensor(std::istringstream& line) {
  std::string name;
  std::string type_name;
  line >> name >> type_name;
  const auto* type = std::ranges::find(kElementTypes, type_name, &ElementType::name);
  if (type == kElementTypes.end()) throw std::runtime_error(name + " is of the unknown type " + type_name);
  Tensor tensor{name, *type, type->bytes, {0}, {}};
  for (std::int64_t length = 0; line >> length;) {
    tensor.shape.push_back(length);
    tensor.row_bytes *= static_cast<std::size_t>(length);
  }
  return tensor;
}

}  // namespace ortmin
