// Spans of traced requests, as OTLP has them: records of the tap become one ExportTraceServiceRequest
// (https://github.com/open-telemetry/opentelemetry-proto, whose field numbers these are). Names and attributes follow
// OpenTelemetry's conventions for HTTP servers, and those for RPC where it was gRPC.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "codec/proto_writer.hpp"
#include "engine/tap_record.hpp"
#include "engine/trace_context.hpp"
#include "http/request_id.hpp"

namespace penstock::dataplane {

// Batches that requests of which more may come are linked to.
inline constexpr std::size_t kBatchesKept = 1024;

// One thread. It remembers batches, so that requests that shared one are linked. Allocates while its buffers grow to
// the largest message so far, and a little for each batch.
class SpanEncoder {
 public:
  using Attributes = std::vector<std::pair<std::string, std::string>>;

  // What the spans come from, and the version of whoever made them.
  SpanEncoder(const Attributes& resource, std::string_view version);

  // Whole TapRecords, one after the other, their times since 1970. std::invalid_argument for half of one.
  [[nodiscard]] std::string encode(std::string_view records);

 private:
  struct Head {
    std::string_view name;
    SpanId id{};
    const SpanId* parent = nullptr;
    std::uint64_t start_ns = 0;
    std::uint64_t end_ns = 0;
    bool is_server = false;
  };
  struct Link {
    TraceId trace_id{};
    SpanId span_id{};
  };

  void add_request(const TapRecord& record);
  void add_batch(const TapRecord& record);
  void add_http(const TapRecord& record, std::string_view path, std::string_view route);
  void add_rpc(const TapRecord& record, std::string_view call);
  void add_outcome(const TapRecord& record);
  void add_link(const Link& link);
  void open(const TapRecord& record, const Head& head);
  void add(std::string_view key, std::string_view text);
  void add(std::string_view key, std::uint64_t number);
  void close(const Head& head, std::string_view error);
  [[nodiscard]] SpanId new_id() noexcept;
  [[nodiscard]] bool link_of(const TapRecord& record, const SpanId& batch, Link& link);

  std::string resource_;  // Resource, with its tag and length
  std::string scope_;     // InstrumentationScope, likewise
  ProtoWriter spans_;     // Span, each with tag and length
  ProtoWriter span_;      // the one that is being made
  std::string name_;
  std::string text_;
  std::string trace_state_;
  RequestIdSource random_;
  std::unordered_map<std::uint64_t, Link> batches_;
  std::array<std::uint64_t, kBatchesKept> order_{};  // in which they came
  std::size_t next_ = 0;                             // place in it
};

}  // namespace penstock::dataplane
