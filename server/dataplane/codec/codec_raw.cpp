// One tensor as its bytes: little-endian, C order.
#include <algorithm>
#include <cstdint>
#include <cstdio>

#include "codec/codec_record_raw.hpp"
#include "codec/codec_request.hpp"

namespace penstock::dataplane {

namespace {

// Apart, so that tensors of one shape do not pay for it.
[[gnu::noinline]] bool copy_varying(Problem& problem, const TensorPlace& place, std::string_view body, std::byte* row,
                                    RowResolver& resolver) noexcept {
  if (!copy_tensor(problem, place, body, row)) return false;
  resolver.set_length(static_cast<std::uint32_t>(elements_in(place.spec, body.size())));
  return true;
}

// Rows with a byte that is no bool are refused, each alone.
void refuse_wrong_bools(std::string_view bytes, const TensorSpec& tensor, RowsSink& rows) {
  const std::size_t row_bytes = tensor.bytes();
  Problem problem;
  refuse_tensor(problem, TensorPlace{tensor, false, {}}, 0, "bytes that are 0 or 1", "another");
  for (std::size_t at = 0; at < bytes.size();) {
    const auto rest = bytes.substr(at);
    const auto wrong = std::ranges::find_if(rest, [](char byte) { return static_cast<unsigned char>(byte) > 1; });
    if (wrong == rest.end()) return;
    const std::size_t row = (at + static_cast<std::size_t>(wrong - rest.begin())) / row_bytes;
    rows.refuse_row(static_cast<std::uint32_t>(row), problem);
    at = (row + 1) * row_bytes;
  }
}

}  // namespace

bool decode_raw(std::string_view body, const QueryNames& names, RowResolver& resolver, Problem& problem) {
  RowRequest request(names, resolver, problem);
  if (!request.resolve()) return false;
  if (request.record() != nullptr) [[unlikely]]
    return read_raw_record(body, *request.record(), request.record_place(), problem);
  if (request.inputs().size() != 1) {
    problem.set(ProblemCode::kInvalidInput, "raw tensors are for models of one input; this model has %zu",
                request.inputs().size());
    return false;
  }
  const TensorPlace place{request.inputs().tensors()[0], false, {}};
  if (place.spec.dtype == DType::kBytes) {
    refuse_tensor(problem, place, 0, "strings as application/json or application/msgpack", "raw bytes");
    return false;
  }
  if (place.spec.varies) return copy_varying(problem, place, body, request.input(0), resolver);
  return copy_tensor(problem, place, body, request.input(0));
}

bool decode_raw_rows(std::string_view body, const QueryNames& names, RowsSink& rows, Problem& problem) {
  RowRequest request(names, rows, problem);
  if (!request.resolve()) return false;
  if (request.record() != nullptr) [[unlikely]]
    return read_raw_records(body, *request.record(), request.inputs(), rows, problem);
  return refer_raw_rows(body, request.inputs(), rows, problem);
}

bool refer_raw_rows(std::string_view bytes, const RowLayout& inputs, RowsSink& rows, Problem& problem) {
  if (inputs.size() != 1) {
    problem.set(ProblemCode::kInvalidInput, "raw tensors are for models of one input; this model has %zu",
                inputs.size());
    return false;
  }
  const TensorSpec& tensor = inputs.tensors()[0];
  const TensorPlace place{tensor, false, {}};
  if (tensor.varies) {
    refuse_tensor(problem, place, 0, "a list of rows, each with its own length", "their bytes alone");
    return false;
  }
  const std::uint64_t row_bytes = tensor.bytes();
  if (bytes.empty() || row_bytes == 0 || bytes.size() % row_bytes != 0 || bytes.size() / row_bytes > UINT32_MAX) {
    char expected[64];
    char got[32];
    std::snprintf(expected, sizeof expected, "a multiple of %llu bytes", static_cast<unsigned long long>(row_bytes));
    std::snprintf(got, sizeof got, "%zu", bytes.size());
    refuse_tensor(problem, place, 0, expected, got);
    return false;
  }
  const auto count = static_cast<std::uint32_t>(bytes.size() / row_bytes);
  if (!rows.begin(count, problem)) return false;
  if (tensor.dtype == DType::kBool) refuse_wrong_bools(bytes, tensor, rows);
  rows.refer(0, {reinterpret_cast<const std::byte*>(bytes.data()), row_bytes});
  return true;
}

std::uint32_t count_raw_rows(const ModelSchema& schema, std::size_t body_bytes) noexcept {
  if (schema.inputs.size() != 1 || schema.inputs.tensors()[0].varies) return 1;
  if (schema.inputs.tensors()[0].dtype == DType::kBytes) return 1;  // which is refused
  const std::uint64_t row_bytes = schema.inputs.tensors()[0].bytes();
  if (row_bytes == 0 || body_bytes % row_bytes != 0 || body_bytes / row_bytes > UINT32_MAX) return 1;
  return std::max(static_cast<std::uint32_t>(body_bytes / row_bytes), std::uint32_t{1});
}

}  // namespace penstock::dataplane
