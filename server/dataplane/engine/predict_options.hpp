// What a predict request asks for in its head: encodings, time, priority, a receipt.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>

#include "codec/codec.hpp"
#include "engine/connection.hpp"
#include "engine/model_entry.hpp"
#include "http/http_parser.hpp"
#include "http/problem.hpp"
#include "http/query.hpp"

namespace penstock::dataplane {

// What a request says before its body.
struct Opening {
  QueryParams query;
  Encoding encoding = Encoding::kJson;
  std::array<char, 1024> query_text;  // decoded names
};

// How the body is to be read, and in `pending` what the reply shall be. False: `problem` is set (415, 406).
// A body without a Content-Type is taken for JSON, which then parses or does not.
[[nodiscard]] bool choose_encodings(const RequestHead& head, Encoding& body, Pending& pending, Problem& problem);

// The same for a request of the Open Inference Protocol. `header_bytes` is left alone, or becomes what the body's JSON
// has in front of binary tensors. False: `problem` is set (400, 415).
[[nodiscard]] bool choose_infer_encodings(const RequestHead& head, std::size_t& header_bytes, Pending& pending,
                                          Problem& problem);

// The field that says so. False: `problem` is set (400).
inline constexpr std::string_view kInferHeaderLength = "inference-header-content-length";
[[nodiscard]] bool read_infer_header_length(const RequestHead& head, std::size_t& header_bytes, Problem& problem);

inline constexpr std::uint64_t kTimeoutNsMax = 24ull * 3600 * 1'000'000'000;

// X-Request-Timeout-Ms, X-Request-Priority, X-Penstock-Reproducible and X-Penstock-Receipt into `pending`, whose
// arrival is known. False: `problem` is set (400).
[[nodiscard]] bool read_options(const RequestHead& head, Pending& pending, Problem& problem);

// `?output=` names the tensor of a raw reply; without it the model must have one output only.
[[nodiscard]] bool choose_output(const ModelEntry& entry, std::string_view name, Pending& pending, Problem& problem);

// What the worker is told: the trace that the tap gave it, else that of its traceparent, else zeros, which mean none.
void write_trace_id(std::string_view traceparent, Pending& pending) noexcept;

// A request's 128-bit id: a hash of its text, which the client may have chosen.
void write_id(std::string_view text, std::array<std::uint8_t, 16>& id) noexcept;

}  // namespace penstock::dataplane
