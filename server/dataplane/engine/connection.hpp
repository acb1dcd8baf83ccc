// The state of one client connection: two fixed buffers, the request being read, the replies owed in order.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string_view>

#include "codec/codec.hpp"
#include "engine/body_pool.hpp"
#include "engine/http2_port.hpp"
#include "engine/model_entry.hpp"
#include "engine/timer_wheel.hpp"
#include "engine/tls_port.hpp"
#include "http/content_coding.hpp"
#include "http/cors.hpp"
#include "http/http_parser.hpp"
#include "http/response.hpp"
#include "penstock/batcher/scheduler.hpp"

namespace penstock::dataplane {

// What an epoll event is about; the first member of everything that is registered.
// kPrivateListener: only the control plane can connect there; it has checked who asks.
enum class WatchKind : std::uint8_t { kListener, kPrivateListener, kWake, kConnection, kControlCall, kClosed };

struct Watch {
  WatchKind kind;
  int fd = -1;
};

inline constexpr std::size_t kConnectionBytes = 16 * 1024;  // each of the two buffers
inline constexpr std::size_t kPipelineMax = 32;             // requests of one connection under way
inline constexpr std::size_t kOwedBytesMax = 64 * 1024;     // replies of pipelined requests, by their bounds
inline constexpr std::size_t kRequestIdBytesMax = 128;

struct Rejoin;
struct TapRecord;
class BodyStream;

// A request that was read and not yet answered.
struct Pending {
  // kStream: the head of its reply is out, and more follows.
  enum class State : std::uint8_t { kFree, kOpen, kRow, kShared, kJob, kControl, kStream, kReady };

  State state = State::kFree;
  Encoding encoding = Encoding::kJson;  // of the reply
  std::uint8_t output = 0;              // of a raw reply
  bool head_only = false;
  bool keep_alive = true;
  bool http_1_0 = false;
  bool oip = false;  // asked in the Open Inference Protocol, whose clients read errors in their own way
  bool receipt_wanted = false;
  Coding coding = Coding::kIdentity;  // that the reply is to be compressed with
  bool identity_refused = false;      // however short it is
  bool varies = false;                // for others it may be another
  bool cache_refresh = false;         // no answer of the past is wanted
  bool cache_bypass = false;          // nothing is to be kept of it, either
  bool cache_asked = false;           // the second level has been, and knows nothing
  bool from_cache = false;            // the reply
  batcher::RowClass row_class = batcher::RowClass::kNormal;
  std::uint8_t request_id_bytes = 0;
  std::uint32_t id = 0;           // position in the connection's order of requests
  std::uint32_t owed_bytes = 0;   // counted against kOwedBytesMax
  std::uint32_t length = 0;       // of the row, where the model's tensors vary; 0: they do not, or it is not known yet
  batcher::Claim claim;           // kRow: which row it became, unless they are several
  Rejoin* rejoin = nullptr;       // kRow: of a request of many rows
  std::string_view content_type;  // of the reply; static text
  std::uint32_t infer_header_bytes = 0;  // of a reply with binary tensors: JSON in front of them
  std::array<std::uint8_t, 16> trace_id{};
  std::uint64_t arrival_ns = 0;
  std::uint64_t timeout_ns = 0;       // that the client gave; 0: none
  std::uint64_t deadline_ns = 0;      // when it is told that there is no answer
  std::uint64_t row_deadline_ns = 0;  // by time-out or objective; 0: there is neither
  std::uint64_t predicted_ns = 0;     // when admission expects the answer; 0: nobody asked
  std::uint64_t cache_age_s = 0;      // of a reply from the cache
  Receipt receipt;                    // to be sent when `receipt_wanted`
  ModelEntry* entry = nullptr;
  TapRecord* tap = nullptr;         // of a request that may leave one
  const CorsGrant* cors = nullptr;  // what the reply carries for the page that asks
  Block reply;                      // reserved for a large reply, or a reply that waits for its turn
  std::size_t reply_begin = 0;
  std::size_t reply_end = 0;
  char request_id_text[kRequestIdBytesMax];
  std::uint8_t output_name_bytes = 0;  // ?output=
  char output_name_text[64];

  [[nodiscard]] std::string_view request_id() const noexcept { return {request_id_text, request_id_bytes}; }
  [[nodiscard]] std::string_view output_name() const noexcept { return {output_name_text, output_name_bytes}; }
  [[nodiscard]] bool remember_output(std::string_view name) noexcept {
    if (name.size() > sizeof output_name_text) return false;
    std::memcpy(output_name_text, name.data(), name.size());
    output_name_bytes = static_cast<std::uint8_t>(name.size());
    return true;
  }
};

// A fixed window of bytes: filled at the end, consumed at the front.
struct Buffer {
  char* data = nullptr;
  std::size_t begin = 0;
  std::size_t end = 0;

  [[nodiscard]] std::size_t size() const noexcept { return end - begin; }
  [[nodiscard]] bool empty() const noexcept { return begin == end; }
  [[nodiscard]] std::size_t space() const noexcept { return kConnectionBytes - end; }
  [[nodiscard]] std::string_view view() const noexcept { return {data + begin, size()}; }
  void consume(std::size_t bytes) noexcept {
    begin += bytes;
    if (begin == end) begin = end = 0;
  }
  void compact() noexcept {
    if (begin == 0) return;
    std::memmove(data, data + begin, size());
    end -= begin;
    begin = 0;
  }
};

struct Connection : Watch {
  // kHead: a head, and a body that fits the buffer. kBody: a body into a block. kChunked: likewise, length unknown.
  // kMemory: waits for a block. kLinger: the last reply is out; what still arrives is dropped until the peer closes.
  // kStream: a body that is handed on as it comes. kTurn: such a request waits until those before it are answered.
  // kHttp2: the requests are streams of HTTP/2.
  enum class Phase : std::uint8_t { kHead, kBody, kChunked, kMemory, kLinger, kStream, kTurn, kHttp2 };

  std::uint32_t index = 0;
  std::uint32_t generation = 0;  // of this index: tickets of an earlier connection do not match
  Phase phase = Phase::kHead;
  bool reserved = false;  // beyond max_connections: administration only
  bool internal = false;  // of the control plane: neither counted nor asked for a key
  bool closing = false;   // no further request is read
  bool peer_closed = false;
  bool dirty = false;      // in the loop's list of connections to flush
  bool postponed = false;  // has been flushed as much as it may be before the others
  bool writable = true;    // the last send() took everything
  bool owes_continue = false;
  bool oip = false;            // the path of the request that was read last is under /v2
  bool waited = false;         // for memory, and has not got it yet
  std::uint32_t interest = 0;  // epoll events registered

  Buffer in;
  Buffer out;
  std::unique_ptr<char[]> memory;

  std::size_t scanned = 0;  // of an incomplete head, see parse_head()
  std::size_t wanted = 0;   // head and body bytes of a request that fits the buffer; 0: head incomplete
  Block block;              // head and body of a large request
  std::size_t block_filled = 0;
  std::size_t block_head = 0;  // bytes of the head at its start
  std::uint64_t body_limit = 0;
  const CorsGrant* cors = nullptr;  // for a refusal of the request whose body is being read
  ChunkedDecoder chunks;
  BodyStream* stream = nullptr;   // of the request that is streamed: then it is the only one
  bool stream_chunked = false;    // else `stream_left` says how much of the body is to come
  std::uint64_t stream_left = 0;  // bytes

  std::unique_ptr<Pending[]> pending = std::make_unique<Pending[]>(kPipelineMax);
  std::uint32_t place_mask = kPipelineMax - 1;  // of a request's id; the number of places is a power of two
  std::unique_ptr<Http2Port> http2;             // kHttp2
  const Connection* carrier = nullptr;          // of one without a socket (grpc_stream.hpp): that which has it
  std::unique_ptr<TlsPort> tls;                 // null: the bytes are sent as they are
  std::uint32_t first = 0;                      // oldest request not answered
  std::uint32_t last = 0;                       // next request's id
  std::size_t owed_bytes = 0;

  Timer timer;
  std::uint64_t read_deadline_ns = 0;   // 0: nothing is being read
  std::uint64_t write_deadline_ns = 0;  // 0: nothing is stuck
  std::uint64_t idle_deadline_ns = 0;
  std::uint64_t handshake_deadline_ns = 0;  // of TLS

  [[nodiscard]] Pending& slot(std::uint32_t id) noexcept { return pending[id & place_mask]; }
  // More places, for the streams of HTTP/2; there is no request under way.
  void widen(std::uint32_t places) {
    if (place_mask + 1 >= places) return;
    pending = std::make_unique<Pending[]>(places);
    for (std::uint32_t i = 0; i < places; ++i) pending[i].id = i;
    place_mask = places - 1;
  }
  [[nodiscard]] bool has_pending() const noexcept { return first != last; }
  [[nodiscard]] bool may_read_request() const noexcept {
    return !closing && last - first < kPipelineMax && writable && (first == last || owed_bytes < kOwedBytesMax);
  }
};

}  // namespace penstock::dataplane
