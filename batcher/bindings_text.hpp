// Tensors of strings between Python and C++: arrays of objects, copied in one go each way.
#pragma once

#include <nanobind/nanobind.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "penstock/kernels/row_layout.hpp"

namespace penstock::batcher {

// `rows` rows of strings as a read-only array, shape (rows, *row shape): str with `as_str`, where bytes that are not
// UTF-8 become lone surrogates (PEP 383), else bytes. A string that cannot be read is empty, and its row goes into
// `damaged`.
[[nodiscard]] nanobind::object read_texts(const std::byte* first, std::uint32_t rows, const TensorSpec& tensor,
                                          bool as_str, std::vector<std::uint32_t>& damaged);

// An array for a model to put strings into, all None.
[[nodiscard]] nanobind::object room_for_texts(std::uint32_t rows, const TensorSpec& tensor);

// What room_for_texts() gave, after the model has run. The array must outlive it.
class TextRows {
 public:
  TextRows(nanobind::handle array, std::uint32_t rows, const TensorSpec& tensor);
  ~TextRows();
  TextRows(const TextRows&) = delete;
  TextRows& operator=(const TextRows&) = delete;

  // Writes the strings of a row into its storage: empty, or what is wrong with them.
  [[nodiscard]] std::string store(std::uint32_t row, std::byte* storage) const;

 private:
  const TensorSpec& tensor_;
  Py_buffer buffer_{};
  bool usable_ = false;
};

}  // namespace penstock::batcher
