// Bodies of many rows: `inputs` is a list of rows, each as a body of one row has it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "codec/codec.hpp"

namespace penstock::dataplane {

// Where one tensor of every row lies: that of row k at `data + k * stride`.
struct Column {
  const std::byte* data = nullptr;
  std::size_t stride = 0;
};

// A row that has no outputs, and why.
struct RowFault {
  std::uint32_t row = 0;
  ProblemCode code = ProblemCode::kNone;
  std::string detail;
  std::shared_ptr<const FieldFaults> fields = nullptr;  // what is wrong with each field of a record
};

// As replies in JSON have it: {"row", "code", "status", "detail"}. Returns one past the last byte, of at most
// fault_bytes_max() before it.
char* write_json_fault(const RowFault& fault, char* out) noexcept;
[[nodiscard]] std::size_t fault_bytes_max(const RowFault& fault) noexcept;

// The outputs of many rows.
struct RowsOutputs {
  std::span<const Column> columns;  // one per output of the schema
  std::uint32_t rows = 0;
  std::span<const std::uint32_t> lengths;  // of each row, where tensors vary; else empty
  std::span<const RowFault> faults;        // ascending by row, each row at most once
};

// Takes the rows of a body. resolve() gives a target whose row is null; then begin() comes once, and once for every
// tensor either allocate() or refer().
class RowsSink : public RowResolver {
 public:
  // `columns`: one for every input, once resolve() was asked.
  explicit RowsSink(std::vector<Column>& columns) noexcept : columns_(columns) {}

  // The body has so many rows. False: `problem` says why they are not taken.
  [[nodiscard]] virtual bool begin(std::uint32_t rows, Problem& problem) = 0;
  // Room for tensor `tensor` of every row, side by side at the tensor's full size. False: `problem` is set.
  [[nodiscard]] virtual bool allocate(std::size_t tensor, Problem& problem) = 0;
  // Row `row` alone is not run.
  virtual void refuse_row(std::uint32_t row, const Problem& problem) = 0;
  // Of row `row`, where tensors vary.
  virtual void set_row_length(std::uint32_t row, std::uint32_t length) = 0;

  // The tensor lies in the body already.
  void refer(std::size_t tensor, Column column) noexcept { columns_[tensor] = column; }
  // Room that allocate() found.
  [[nodiscard]] std::byte* place(std::size_t tensor, std::uint32_t row) const noexcept {
    const Column& column = columns_[tensor];
    return const_cast<std::byte*>(column.data) + row * column.stride;
  }

 protected:
  ~RowsSink() = default;

  std::vector<Column>& columns_;
};

// {"model": ..., "version": ..., "inputs": [row, ...]}: each row as `inputs` of decode_json(). A row that does not fit
// the schema is refused alone. False: nothing of the body is run, and `problem` says why.
[[nodiscard]] bool decode_json_rows(std::string_view body, const QueryNames& names, RowsSink& rows, Problem& problem);
// The same as msgpack. `inputs` of a model of one input may be one bin: its rows' bytes side by side.
[[nodiscard]] bool decode_msgpack_rows(std::string_view body, const QueryNames& names, RowsSink& rows,
                                       Problem& problem);
// The rows' bytes side by side, of a single-input model whose length does not vary.
[[nodiscard]] bool decode_raw_rows(std::string_view body, const QueryNames& names, RowsSink& rows, Problem& problem);

// One row of a body was read, or not: true when the next one can be, since what was wrong is the row's own fault.
[[nodiscard]] inline bool is_fault_of_row(const Problem& problem) noexcept {
  return problem.code() == ProblemCode::kInvalidInput;
}

}  // namespace penstock::dataplane
