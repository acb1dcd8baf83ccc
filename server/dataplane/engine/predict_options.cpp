#include "engine/predict_options.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "engine/body_stream.hpp"
#include "engine/loop_context.hpp"
#include "engine/tap_record.hpp"
#include "engine/trace_context.hpp"
#include "http/ascii.hpp"
#include "http/fields.hpp"
#include "http/media_type.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::uint64_t kTimeoutMsMax = kTimeoutNsMax / kMillisecondNs;

bool parse_timeout(std::string_view text, std::uint64_t& timeout_ms) noexcept {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), timeout_ms);
  return error == std::errc{} && end == text.data() + text.size() && timeout_ms > 0 && timeout_ms <= kTimeoutMsMax;
}

bool read_timeout(std::string_view text, Pending& pending, Problem& problem) {
  if (text.data() == nullptr) return true;
  std::uint64_t timeout_ms = 0;
  if (!parse_timeout(text, timeout_ms)) {
    problem.set(ProblemCode::kMalformedRequest,
                "X-Request-Timeout-Ms must be a whole number of milliseconds from 1 to %llu",
                static_cast<unsigned long long>(kTimeoutMsMax));
    return false;
  }
  pending.timeout_ns = timeout_ms * kMillisecondNs;
  return true;
}

bool read_priority(std::string_view text, Pending& pending, Problem& problem) {
  if (text.data() == nullptr) return true;
  if (text == "interactive") {
    pending.row_class = batcher::RowClass::kInteractive;
  } else if (text == "normal") {
    pending.row_class = batcher::RowClass::kNormal;
  } else if (text == "batch") {
    pending.row_class = batcher::RowClass::kBatch;
  } else {
    problem.set(ProblemCode::kMalformedRequest, "X-Request-Priority must be interactive, normal or batch");
    return false;
  }
  return true;
}

bool read_flag(std::string_view text, const char* name, bool& flag, Problem& problem) {
  if (text.data() == nullptr) return true;
  flag = text == "true";
  if (flag || text == "false") return true;
  problem.set(ProblemCode::kMalformedRequest, "%s must be true or false", name);
  return false;
}

// Whether raw bytes can be the value of an output.
bool is_raw(const TensorSpec& output, Problem& problem) noexcept {
  if (output.dtype != DType::kBytes) return true;
  problem.set(ProblemCode::kNotAcceptable,
              "output '%.*s' holds strings, which application/octet-stream cannot carry: accept application/json or "
              "application/msgpack",
              static_cast<int>(std::min<std::size_t>(output.name.size(), 80)), output.name.data());
  return false;
}

}  // namespace

bool read_options(const RequestHead& head, Pending& pending, Problem& problem) {
  bool reproducible = false;
  if (!read_timeout(head.timeout_ms, pending, problem) || !read_priority(head.priority, pending, problem) ||
      !read_flag(head.reproducible, "X-Penstock-Reproducible", reproducible, problem) ||
      !read_flag(head.receipt, "X-Penstock-Receipt", pending.receipt_wanted, problem)) {
    return false;
  }
  pending.cache_refresh = head.no_cache;
  pending.cache_bypass = head.no_store;
  pending.cache_asked = false;
  pending.from_cache = false;
  // A lane of their own, whatever their priority: they share batches with nobody.
  if (reproducible) pending.row_class = batcher::RowClass::kReproducible;
  return true;
}

void write_trace_id(std::string_view traceparent, Pending& pending) noexcept {
  if (pending.tap != nullptr && pending.tap->is_traced()) return;  // it has one already
  pending.trace_id.fill(0);
  if (traceparent.empty()) return;
  TraceContext context;
  if (parse_traceparent(traceparent, context)) pending.trace_id = context.trace_id;
}

void write_id(std::string_view text, std::array<std::uint8_t, 16>& id) noexcept {
  std::uint64_t high = 14695981039346656037ull;
  std::uint64_t low = 1099511628211ull;
  for (const char character : text) {
    high = (high ^ static_cast<unsigned char>(character)) * 1099511628211ull;
    low = (low + static_cast<unsigned char>(character)) * 0x9E3779B97F4A7C15ull;
  }
  std::memcpy(id.data(), &high, 8);
  std::memcpy(id.data() + 8, &low, 8);
}

bool choose_encodings(const RequestHead& head, Encoding& body, Pending& pending, Problem& problem) {
  switch (parse_content_type(head.content_type)) {
    case MediaType::kJson:
    case MediaType::kAbsent:
      body = Encoding::kJson;
      break;
    case MediaType::kMsgpack:
      body = Encoding::kMsgpack;
      break;
    case MediaType::kRaw:
      body = Encoding::kRaw;
      break;
    case MediaType::kOther:
      problem.set(
          ProblemCode::kUnsupportedMediaType,
          "Content-Type '%.*s' is not accepted: send application/json, application/msgpack or application/octet-stream"
          "%s",
          static_cast<int>(std::min<std::size_t>(head.content_type.size(), 40)), head.content_type.data(),
          head.path == kStreamedPath ? ", or stream application/x-ndjson, text/csv, application/vnd.apache.parquet or "
                                       ".arrow.stream"
                                     : "");
      return false;
  }
  const std::optional<ReplyFormat> format = negotiate(head);
  if (!format.has_value()) {
    problem.set(
        ProblemCode::kNotAcceptable,
        "none of Accept '%.*s' is offered: application/json, application/msgpack and application/octet-stream are",
        static_cast<int>(std::min<std::size_t>(head.accept.size(), 80)), head.accept.data());
    return false;
  }
  pending.encoding = format->encoding;
  pending.content_type = format->content_type;
  return true;
}

bool choose_infer_encodings(const RequestHead& head, std::size_t& header_bytes, Pending& pending, Problem& problem) {
  // The protocol says nothing of Content-Type, and curl alone, as in everybody's examples of it, says that it sends a
  // form. Only what is surely something else is refused.
  if (parse_content_type(head.content_type) == MediaType::kMsgpack) {
    problem.set(ProblemCode::kUnsupportedMediaType,
                "Content-Type '%.*s' is not accepted: send application/json, or application/octet-stream with "
                "Inference-Header-Content-Length",
                static_cast<int>(std::min<std::size_t>(head.content_type.size(), 80)), head.content_type.data());
    return false;
  }
  pending.encoding = Encoding::kJson;
  pending.content_type = "application/json";
  return read_infer_header_length(head, header_bytes, problem);
}

bool read_infer_header_length(const RequestHead& head, std::size_t& header_bytes, Problem& problem) {
  const std::string_view text = find_field(head.fields, kInferHeaderLength);
  if (text.data() == nullptr) return true;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), header_bytes);
  if (error == std::errc{} && end == text.data() + text.size()) return true;
  problem.set(ProblemCode::kMalformedRequest, "Inference-Header-Content-Length must be a whole number of bytes");
  return false;
}

bool choose_output(const ModelEntry& entry, std::string_view name, Pending& pending, Problem& problem) {
  const std::vector<TensorSpec>& outputs = entry.ring.schema().outputs.tensors();
  if (name.empty()) {
    if (pending.encoding != Encoding::kRaw || (outputs.size() == 1 && is_raw(outputs[0], problem))) return true;
    if (outputs.size() == 1) return false;
    problem.set(
        ProblemCode::kInvalidInput,
        "the model has %zu outputs: name the one to send as application/octet-stream with ?output=", outputs.size());
    return false;
  }
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (outputs[i].name == name) {
      pending.output = static_cast<std::uint8_t>(i);
      return pending.encoding != Encoding::kRaw || is_raw(outputs[i], problem);
    }
  }
  problem.set(ProblemCode::kInvalidInput, "the model has no output '%.*s'",
              static_cast<int>(std::min<std::size_t>(name.size(), 80)), name.data());
  return false;
}

}  // namespace penstock::dataplane
