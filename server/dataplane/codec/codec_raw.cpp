// One tensor as its bytes: little-endian, C order.
#include "codec/codec_request.hpp"

namespace penstock::dataplane {

bool decode_raw(std::string_view body, const QueryNames& names, RowResolver& resolver, Problem& problem) {
  RowRequest request(names, resolver, problem);
  if (!request.resolve()) return false;
  if (request.inputs().size() != 1) {
    problem.set(ProblemCode::kInvalidInput, "raw tensors are for models of one input; this model has %zu",
                request.inputs().size());
    return false;
  }
  const TensorPlace place{request.inputs().tensors()[0], false, {}};
  return copy_tensor(problem, place, body, request.input(0));
}

}  // namespace penstock::dataplane
