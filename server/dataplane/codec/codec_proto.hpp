// The Open Inference Protocol over gRPC: a ModelInferRequest becomes columns, columns become a ModelInferResponse.
// https://github.com/kserve/open-inference-protocol (inference gRPC), whose field numbers these are.
// Read by hand: no generated code, nothing outside the message is touched, fields that are not known are skipped.
#pragma once

#include <string_view>

#include "codec/codec_oip.hpp"

namespace penstock::dataplane {

// The message names the model. Raw contents stay where they are, and `rows` refers to them; others are converted.
// False: nothing is run, and `problem` says why.
[[nodiscard]] bool decode_infer_message(std::string_view message, RowsSink& rows, InferRequest& request,
                                        Problem& problem);

}  // namespace penstock::dataplane
