#include "engine/span_encoder.hpp"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <stdexcept>

#include "codec/codec_utf8.hpp"
#include "engine/batch_stamps.hpp"
#include "engine/trace_routes.hpp"
#include "engine/trace_state.hpp"
#include "http/grpc_status.hpp"
#include "http/problem.hpp"

namespace penstock::dataplane {
namespace {

// opentelemetry/proto/trace/v1/trace.proto
constexpr std::uint32_t kInternal = 1;
constexpr std::uint32_t kServer = 2;
constexpr std::uint32_t kError = 2;
constexpr std::uint32_t kRemoteIsKnown = 0x100;
constexpr std::uint32_t kRemote = 0x200;

constexpr std::string_view kScope = "penstock";
constexpr unsigned kServerError = 500;

template <std::size_t N>
std::string_view view_of(const std::array<std::uint8_t, N>& bytes) noexcept {
  return {reinterpret_cast<const char*>(bytes.data()), N};
}

// A text of a record, whose length was written by another process.
template <std::size_t N>
std::string_view view_of(const char (&text)[N], std::size_t bytes) noexcept {
  return {text, std::min(bytes, N)};
}

void add_attribute(ProtoWriter& out, std::uint32_t field, std::string_view key, std::string_view text) {
  const std::size_t value_bytes = 1 + varint_bytes(text.size()) + text.size();
  out.open_bytes(field, 2 + varint_bytes(key.size()) + key.size() + varint_bytes(value_bytes) + value_bytes);
  out.add_bytes(1, key);
  out.open_bytes(2, value_bytes);
  out.add_bytes(1, text);
}

std::string field_of(std::uint32_t field, const ProtoWriter& message) {
  ProtoWriter out;
  out.add_bytes(field, message.view());
  return std::string(out.view());
}

struct StatusText {
  char digits[8];
};

// What a client did wrong is no error of the server (semantic conventions for HTTP spans). Empty: none.
std::string_view error_of(const TapRecord& record, StatusText& text) noexcept {
  if ((record.flags & TapRecord::kAborted) != 0) return "aborted";
  if (record.status < kServerError) return {};
  if (record.code_bytes != 0) return view_of(record.code, record.code_bytes);
  const char* const end = std::to_chars(text.digits, text.digits + sizeof text.digits, record.status).ptr;
  return {text.digits, static_cast<std::size_t>(end - text.digits)};
}

GrpcStatus call_status_of(const TapRecord& record) noexcept {
  const ProblemCode code = problem_named(view_of(record.code, record.code_bytes));
  return code == ProblemCode::kNone ? grpc_status_of(unsigned{record.status}) : grpc_status_of(code);
}

std::string_view reason_of(const TapRecord& record) noexcept {
  return record.reason < batcher::kSealReasons ? name_of(static_cast<batcher::SealReason>(record.reason)) : "unknown";
}

std::string_view class_of(const TapRecord& record) noexcept {
  return record.row_class < batcher::kRowClasses ? name_of(static_cast<batcher::RowClass>(record.row_class))
                                                 : "unknown";
}

}  // namespace

SpanEncoder::SpanEncoder(const Attributes& resource, std::string_view version) {
  ProtoWriter message;
  for (const auto& [key, value] : resource) add_attribute(message, 1, utf8_of(key, name_), utf8_of(value, text_));
  resource_ = field_of(1, message);
  message.clear();
  message.add_bytes(1, kScope);
  message.add_bytes(2, version);
  scope_ = field_of(1, message);
}

std::string SpanEncoder::encode(std::string_view records) {
  if (records.size() % sizeof(TapRecord) != 0) throw std::invalid_argument("half of a record");
  spans_.clear();
  TapRecord record;
  for (; !records.empty(); records.remove_prefix(sizeof record)) {
    std::memcpy(&record, records.data(), sizeof record);
    add_request(record);
    if (record.taken_ns != 0) add_batch(record);
  }
  const std::size_t scoped_bytes = scope_.size() + spans_.view().size();
  ProtoWriter scoped_head;
  scoped_head.open_bytes(2, scoped_bytes);
  ProtoWriter head;
  head.open_bytes(1, resource_.size() + scoped_head.view().size() + scoped_bytes);
  std::string request;
  request.reserve(head.view().size() + resource_.size() + scoped_head.view().size() + scoped_bytes);
  return request.append(head.view()).append(resource_).append(scoped_head.view()).append(scope_).append(spans_.view());
}

void SpanEncoder::add_request(const TapRecord& record) {
  const std::string_view path = view_of(record.path, record.path_bytes);
  const std::string_view call = (record.flags & TapRecord::kGrpc) != 0 ? call_of(path) : std::string_view();
  const std::string_view route = call.empty() ? route_of(path) : std::string_view();
  const std::string_view method = kMethodNames[record.method % kMethodNames.size()];
  if (call.empty()) {
    name_ = method == kMethodNames.back() ? "HTTP" : method;  // the conventions' word for unknown methods
    if (!route.empty()) name_.append(" ").append(route);
  } else {
    name_ = call;
  }
  const Head head{.name = name_,
                  .id = record.span_id,
                  .parent = (record.flags & TapRecord::kHasParent) != 0 ? &record.parent_id : nullptr,
                  .start_ns = record.arrival_ns,
                  .end_ns = record.replied_ns,
                  .is_server = true};
  read_trace_state(view_of(record.trace_state, record.trace_state_bytes), trace_state_);
  open(record, head);
  trace_state_.clear();
  call.empty() ? add_http(record, path, route) : add_rpc(record, call);
  add_outcome(record);
  StatusText memory;
  close(head, error_of(record, memory));
}

void SpanEncoder::add_http(const TapRecord& record, std::string_view path, std::string_view route) {
  add("http.request.method", kMethodNames[record.method % kMethodNames.size()]);
  add("url.path", path);
  add("url.scheme", "http");
  if (!route.empty()) add("http.route", route);
  if (record.status != 0) add("http.response.status_code", std::uint64_t{record.status});
}

void SpanEncoder::add_rpc(const TapRecord& record, std::string_view call) {
  const std::size_t slash = call.find('/');
  add("rpc.system", "grpc");
  add("rpc.service", call.substr(0, slash));
  add("rpc.method", call.substr(slash + 1));
  if (record.status != 0) add("rpc.grpc.status_code", static_cast<std::uint64_t>(call_status_of(record)));
}

void SpanEncoder::add_outcome(const TapRecord& record) {
  const auto add_text = [this](std::string_view key, std::string_view text) {
    if (!text.empty()) add(key, text);
  };
  StatusText memory;
  const std::string_view error = error_of(record, memory);
  add_text("client.address", view_of(record.client, record.client_bytes));
  add_text("error.type", error.empty() ? view_of(record.code, record.code_bytes) : error);
  add_text("enduser.id", view_of(record.principal, record.principal_bytes));
  add_text("penstock.model", view_of(record.model, record.model_bytes));
  add_text("penstock.version", view_of(record.version, record.version_bytes));
  add_text("penstock.request_id", view_of(record.request_id, record.request_id_bytes));
  if ((record.flags & TapRecord::kStreamed) == 0) {
    add("http.request.body.size", record.bytes_in);
    add("http.response.size", record.bytes_out);
  }
  if (record.rows == 0) return;
  add("penstock.rows", std::uint64_t{record.rows});
  add("penstock.priority", class_of(record));
}

// Queue, batch and run, of the batch that brought the last row.
void SpanEncoder::add_batch(const TapRecord& record) {
  const Head queue{.name = "queue",
                   .id = new_id(),
                   .parent = &record.span_id,
                   .start_ns = record.arrival_ns,
                   .end_ns = record.taken_ns};
  open(record, queue);
  close(queue, {});
  const Head batch{.name = "batch",
                   .id = new_id(),
                   .parent = &record.span_id,
                   .start_ns = record.taken_ns,
                   .end_ns = record.done_ns};
  open(record, batch);
  char id[2 * sizeof record.batch];
  std::array<std::uint8_t, sizeof record.batch> bytes;
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::uint8_t>(record.batch >> (56 - 8 * i));
  write_hex(id, bytes.data(), bytes.size());
  add("penstock.batch.id", std::string_view(id, sizeof id));
  add("penstock.batch.rows", std::uint64_t{record.batch_rows});
  add("penstock.batch.padding_rows", std::uint64_t{record.padding_rows});
  add("penstock.batch.sealed", reason_of(record));
  add("penstock.worker", std::uint64_t{record.worker});
  Link link;
  if (link_of(record, batch.id, link)) add_link(link);
  close(batch, {});
  const Head run{
      .name = "run", .id = new_id(), .parent = &batch.id, .start_ns = record.run_ns, .end_ns = record.done_ns};
  open(record, run);
  close(run, {});
}

// The first batch span of those that shared it; false: this one is.
bool SpanEncoder::link_of(const TapRecord& record, const SpanId& batch, Link& link) {
  const auto [found, is_first] = batches_.try_emplace(record.batch, Link{record.trace_id, batch});
  if (!is_first) {
    link = found->second;
    return true;
  }
  if (batches_.size() > kBatchesKept) batches_.erase(order_[next_]);
  order_[next_] = record.batch;
  next_ = (next_ + 1) % kBatchesKept;
  return false;
}

void SpanEncoder::add_link(const Link& link) {
  constexpr std::size_t kBytes = 2 + sizeof link.trace_id + 2 + sizeof link.span_id + 1 + sizeof kRemoteIsKnown;
  span_.open_bytes(13, kBytes);
  span_.add_bytes(1, view_of(link.trace_id));
  span_.add_bytes(2, view_of(link.span_id));
  span_.add_fixed32(6, kRemoteIsKnown);
}

void SpanEncoder::open(const TapRecord& record, const Head& head) {
  span_.clear();
  span_.add_bytes(1, view_of(record.trace_id));
  span_.add_bytes(2, view_of(head.id));
  if (!trace_state_.empty()) span_.add_bytes(3, trace_state_);
  if (head.parent != nullptr) span_.add_bytes(4, view_of(*head.parent));
  span_.add_bytes(5, head.name);
  span_.add_varint(6, head.is_server ? kServer : kInternal);
  span_.add_fixed64(7, head.start_ns);
  span_.add_fixed64(8, std::max(head.start_ns, head.end_ns));
}

void SpanEncoder::add(std::string_view key, std::string_view text) {
  add_attribute(span_, 9, key, utf8_of(text, text_));
}

void SpanEncoder::add(std::string_view key, std::uint64_t number) {
  const std::size_t value_bytes = 1 + varint_bytes(number);
  span_.open_bytes(9, 2 + varint_bytes(key.size()) + key.size() + varint_bytes(value_bytes) + value_bytes);
  span_.add_bytes(1, key);
  span_.open_bytes(2, value_bytes);
  span_.add_varint(3, number);
}

void SpanEncoder::close(const Head& head, std::string_view error) {
  if (!error.empty()) {
    const std::string_view text = utf8_of(error, text_);
    span_.open_bytes(15, 1 + varint_bytes(text.size()) + text.size() + 2);
    span_.add_bytes(2, text);
    span_.add_varint(3, kError);
  }
  const bool has_remote_parent = head.is_server && head.parent != nullptr;
  span_.add_fixed32(16, kRemoteIsKnown | (has_remote_parent ? kRemote : 0));
  spans_.add_bytes(2, span_.view());
}

SpanId SpanEncoder::new_id() noexcept {
  SpanId id;
  const std::uint64_t bits = random_.next() | 1;  // an id of zeros is none
  std::memcpy(id.data(), &bits, sizeof bits);
  return id;
}

}  // namespace penstock::dataplane
