// One tensor as its bytes: little-endian, C order.
#include <algorithm>
#include <cstdint>

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

}  // namespace

bool decode_raw(std::string_view body, const QueryNames& names, RowResolver& resolver, Problem& problem) {
  RowRequest request(names, resolver, problem);
  if (!request.resolve()) return false;
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

std::uint32_t count_raw_rows(const ModelSchema& schema, std::size_t body_bytes) noexcept {
  if (schema.inputs.size() != 1 || schema.inputs.tensors()[0].varies) return 1;
  if (schema.inputs.tensors()[0].dtype == DType::kBytes) return 1;  // which is refused
  const std::uint64_t row_bytes = schema.inputs.tensors()[0].bytes();
  if (row_bytes == 0 || body_bytes % row_bytes != 0 || body_bytes / row_bytes > UINT32_MAX) return 1;
  return std::max(static_cast<std::uint32_t>(body_bytes / row_bytes), std::uint32_t{1});
}

bool check_raw_rows(const ModelSchema& schema, std::string_view rows, std::uint32_t first_row,
                    Problem& problem) noexcept {
  const TensorSpec& tensor = schema.inputs.tensors()[0];
  if (tensor.dtype != DType::kBool) return true;
  const auto wrong = std::ranges::find_if(rows, [](char byte) { return static_cast<unsigned char>(byte) > 1; });
  if (wrong == rows.end()) return true;
  const auto row = first_row + static_cast<std::uint64_t>(wrong - rows.begin()) / tensor.bytes();
  problem.set(ProblemCode::kInvalidInput, "row %llu: inputs: expected bytes that are 0 or 1 (bool), got another",
              static_cast<unsigned long long>(row));
  return false;
}

}  // namespace penstock::dataplane
