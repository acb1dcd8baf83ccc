// Streams: from their first field to a complete request.
#include <algorithm>
#include <charconv>
#include <cstring>
#include <utility>

#include "engine/body_stream.hpp"
#include "engine/http2_session.hpp"
#include "engine/predict_options.hpp"
#include "http/request_id.hpp"

namespace penstock::dataplane {
namespace {

// Of all requests of a connection that are being read. One more is told to come again.
constexpr std::size_t kFieldBytesMax = 128 * 1024;
// A compressed field may stand for four thousand times its bytes: who sends so many is given up.
constexpr std::size_t kFieldsGivenUp = 8;

// Requests that a client takes back cost us what they cost, and no limit of concurrency sees them (CVE-2023-44487).
constexpr std::uint32_t kResetsMax = 1000;
constexpr std::uint64_t kResetsWindowNs = 10'000 * kMillisecondNs;

// Of answers that a connection's client has not taken, of the bounds of those that are being made, and of the requests
// that they are made of, since those that are decoded elsewhere have no bound yet: beyond it, what it asks waits.
constexpr std::size_t kAnswerBytesMax = 4 << 20;

// Once there is memory for all of a body: then this is about round trips.
constexpr std::int32_t kWindowBytes = 1 << 20;

// Streams of a connection that wait for memory, each with a window's bytes that nobody counted on.
constexpr std::uint32_t kWaitingMax = 16;

constexpr std::size_t kBodyBytesSmall = 4096;
constexpr std::size_t kWaitingBytes = kBodyBytesSmall + kFirstWindowBytes;  // what may come before it is granted more
constexpr std::uint64_t kLingerNs = 2'000 * kMillisecondNs;
constexpr std::uint64_t kBodyBytesPerMs = 64;  // as in HTTP/1.1

}  // namespace

Http2Stream* Http2Session::find(std::int32_t id) noexcept {
  return static_cast<Http2Stream*>(nghttp2_session_get_stream_user_data(nghttp2_, id));
}

Pending& Http2Session::pending_of(const Http2Stream& stream) noexcept { return connection_.pending[stream.place]; }

bool Http2Session::open_stream(std::int32_t id) {
  if (drained_ || field_bytes_ > kFieldBytesMax || (free_.empty() && streams_.size() == kHttp2StreamsMax)) return false;
  if (free_.empty()) {
    streams_.push_back(std::make_unique<Http2Stream>());
    streams_.back()->place = static_cast<std::uint32_t>(streams_.size() - 1);
    free_.reserve(streams_.capacity());
    free_.push_back(streams_.back()->place);
  }
  Http2Stream& stream = *streams_[free_.back()];
  free_.pop_back();
  stream.id = id;
  ++open_;
  stream.read_deadline_ns = loop_.now_ns + loop_.engine.options.head_timeout_ms * kMillisecondNs;
  loop_.timers.arm(connection_.timer, stream.read_deadline_ns);
  nghttp2_session_set_stream_user_data(nghttp2_, id, &stream);
  return true;
}

// nghttp2 has checked that names are lower case, values hold no control characters, and pseudo fields come first.
void Http2Session::add_field(Http2Stream& stream, std::string_view name, std::string_view value) {
  const std::size_t bytes = name.size() + value.size() + 4;
  stream.field_bytes += bytes;
  field_bytes_ += bytes;
  const std::size_t bytes_max = loop_.engine.options.head_bytes_max;
  if (stream.field_bytes > bytes_max) {
    stream.too_large = true;
    broken_ = broken_ || stream.field_bytes > kFieldsGivenUp * bytes_max;
    return;
  }
  if (name == ":method") {
    stream.method = value;
  } else if (name == ":path") {
    stream.path = value;
  } else if (name == ":authority") {
    stream.authority = value;
  } else if (name == "host") {
    if (stream.authority.empty()) stream.authority = value;
  } else if (name == "grpc-timeout") {
    stream.timeout = value;
  } else if (!name.starts_with(':')) {
    stream.is_grpc = stream.is_grpc || (name == "content-type" && is_grpc_type(value));
    stream.fields.append(name).append(": ").append(value).append("\r\n");
  }
}

// All fields are there. `ends`: so is the (empty) body.
void Http2Session::on_head(Http2Stream& stream, bool ends) {
  stream.has_head = true;
  stream.read_deadline_ns = 0;
  Pending& pending = pending_of(stream);
  session_.open_pending(connection_, pending, pending.id + kHttp2StreamsMax);
  RequestHead head;
  Problem problem;
  if (!read_head(stream, head, problem)) {
    refuse_stream(stream, problem);
    return;
  }
  if (valid_request_id(head.request_id)) {
    pending.request_id_bytes = static_cast<std::uint8_t>(head.request_id.size());
    std::memcpy(pending.request_id_text, head.request_id.data(), head.request_id.size());
  }
  if (loop_.tap.is_on()) loop_.tap.see(connection_, head);
  pending.head_only = head.method == Method::kHead;
  pending.oip = is_oip(head.path);
  if (loop_.engine.has_manners && !stream.is_grpc) session_.note_manners(connection_, pending, head);
  if (is_streamed(head)) {
    give_back_fields(stream);
    begin_streamed(stream, head, ends);
    return;
  }
  if (stream.is_grpc && open_messages(stream, head)) return;
  if (ends) return;
  const bool admitted = stream.is_grpc ? handler_.admits_grpc(connection_, head, stream.body_limit, problem)
                                       : handler_.admits(connection_, head, stream.body_limit, problem);
  if (admitted && head.content_length > stream.body_limit) {
    problem.set(ProblemCode::kBodyTooLarge, "the body has %llu bytes, at most %llu are accepted here",
                static_cast<unsigned long long>(head.content_length),
                static_cast<unsigned long long>(stream.body_limit));
  }
  if (problem) {
    refuse_stream(stream, problem);
    return;
  }
  stream.expected = head.content_length;
  expect_body(stream);
}

// It has its full time from now on.
void Http2Session::expect_body(Http2Stream& stream) noexcept {
  const std::uint64_t patience_ms = loop_.engine.options.body_timeout_ms + stream.expected / kBodyBytesPerMs;
  stream.read_deadline_ns = loop_.now_ns + patience_ms * kMillisecondNs;
  loop_.timers.arm(connection_.timer, stream.read_deadline_ns);
}

// Writes the head as HTTP/1.1 has it and has it parsed, strictly. Its views are into `stream`.
bool Http2Session::read_head(Http2Stream& stream, RequestHead& head, Problem& problem) {
  if (stream.too_large) {
    problem.set(ProblemCode::kHeadTooLarge, "the fields have more than %zu bytes", loop_.engine.options.head_bytes_max);
    return false;
  }
  if (stream.head.empty()) {
    stream.head.reserve(stream.field_bytes + 64);
    stream.head.append(stream.method).append(" ").append(stream.path).append(" HTTP/1.1\r\nhost: ");
    stream.head.append(stream.authority).append("\r\n").append(stream.fields).append("\r\n");
  }
  std::size_t scanned = 0;
  // What it has beside the fields is ours.
  const HeadLimits limits{.head_bytes_max = stream.head.size()};
  switch (parse_head(stream.head, scanned, limits, head, problem)) {
    case ParseStatus::kComplete:
      break;
    case ParseStatus::kRefused:
      return false;
    case ParseStatus::kIncomplete:
      problem.set(ProblemCode::kMalformedRequest, "the fields do not make up a request");
      return false;
  }
  if (head.chunked) {
    problem.set(ProblemCode::kMalformedRequest, "HTTP/2 has no transfer codings");
    return false;
  }
  return read_timeout(stream, head, problem);
}

// A time-out of gRPC is one of ours; what is beyond ours is none.
bool Http2Session::read_timeout(Http2Stream& stream, RequestHead& head, Problem& problem) {
  if (stream.timeout.empty() || !head.timeout_ms.empty()) return true;
  std::uint64_t milliseconds = 0;
  if (!parse_grpc_timeout(stream.timeout, milliseconds)) {
    problem.set(ProblemCode::kMalformedRequest, "grpc-timeout must be up to 8 digits and one of H, M, S, m, u, n");
    return false;
  }
  constexpr std::uint64_t kDayMs = 24ull * 3600 * 1000;
  if (milliseconds > kDayMs) return true;
  const auto [end, error] =
      std::to_chars(stream.timeout_ms.data(), stream.timeout_ms.data() + stream.timeout_ms.size(), milliseconds);
  head.timeout_ms = {stream.timeout_ms.data(), end};
  return error == std::errc{};
}

void Http2Session::add_body(Http2Stream& stream, std::string_view bytes) {
  if (stream.messages != nullptr) {
    stream.messages->take(bytes);
    return;
  }
  const std::size_t total = stream.body_bytes + bytes.size();
  Problem problem;
  if (stream.is_grpc && stream.body_bytes == 0 && bytes.size() >= kGrpcPrefixBytes) {
    std::uint32_t message = 0;
    for (std::size_t i = 1; i < kGrpcPrefixBytes; ++i) message = message << 8 | static_cast<unsigned char>(bytes[i]);
    const bool told = stream.expected != 0;
    stream.expected = std::uint64_t{message} + kGrpcPrefixBytes;
    // Content-Length has given it its time already.
    if (!told) stream.read_deadline_ns += stream.expected / kBodyBytesPerMs * kMillisecondNs;
  }
  if (total > stream.body_limit || stream.expected > stream.body_limit) {
    problem.set(ProblemCode::kBodyTooLarge, "the body has more than %llu bytes",
                static_cast<unsigned long long>(stream.body_limit));
  }
  if (problem || !find_room(stream, total, problem)) {
    refuse_stream(stream, problem);
    return;
  }
  std::memcpy(stream.body.data() + stream.body_bytes, bytes.data(), bytes.size());
  stream.body_bytes = total;
  if (!stream.waits_memory) grant(stream, bytes.size());
}

// Room for a body of so many bytes at least, or for its first window while it waits for it. A body waits in the line of
// those of HTTP/1.1, and only before it holds memory that another one may wait for.
bool Http2Session::find_room(Http2Stream& stream, std::size_t bytes, Problem& problem) {
  BodyPool& pool = loop_.engine.pool;
  if (bytes <= stream.body.bytes()) return true;
  const std::size_t doubled = std::min<std::size_t>(2 * stream.body.bytes(), stream.body_limit);
  const std::size_t wanted = std::max({bytes, static_cast<std::size_t>(stream.expected), doubled});
  const bool grows = stream.body.bytes() > kBodyBytesSmall;
  if (wanted > pool.bytes_max()) {
    problem.set(ProblemCode::kBodyTooLarge,
                "the body has %zu bytes, the server keeps %llu for all bodies together (body_pool_bytes)", wanted,
                static_cast<unsigned long long>(pool.bytes_max()));
    return false;
  }
  // Small ones are bounded by the number of streams and are taken at any time, as those of HTTP/1.1 are.
  Block larger = wanted <= kBodyBytesSmall ? pool.acquire_owed(wanted)
                 : grows                   ? pool.try_acquire(wanted)
                                           : session_.acquire_in_turn(wanted);
  if (larger) {
    move_body(stream, std::move(larger));
    return true;
  }
  if (grows || waiting_ == kWaitingMax) {
    problem.set(ProblemCode::kMemoryExhausted,
                grows ? "no memory is left for a body of unknown length; send Content-Length or try again"
                      : "no memory is left for the body, and others of this connection wait for it; try again");
    return false;
  }
  move_body(stream, pool.acquire_owed(kWaitingBytes));
  stream.wanted = wanted;
  stream.waits_memory = true;
  ++waiting_;
  session_.wait_for_memory(connection_, stream.id);
  return true;
}

void Http2Session::move_body(Http2Stream& stream, Block larger) {
  if (stream.body_bytes > 0) std::memcpy(larger.data(), stream.body.data(), stream.body_bytes);
  stream.body = std::move(larger);
  if (stream.body.bytes() > kWaitingBytes)
    nghttp2_session_set_local_window_size(nghttp2_, NGHTTP2_FLAG_NONE, stream.id, kWindowBytes);
}

bool Http2Session::resume_waiter(std::int32_t id) {
  Http2Stream* const stream = find(id);
  if (stream == nullptr || !stream->waits_memory) return true;
  Block larger = loop_.engine.pool.try_acquire(std::max(stream->wanted, stream->body_bytes));
  if (!larger) return false;
  stream->waits_memory = false;
  --waiting_;
  move_body(*stream, std::move(larger));
  grant(*stream, stream->ungranted);
  if (stream->ended) {
    dispatch(*stream);
  } else {
    expect_body(*stream);  // until now it was not the client that was waited for
  }
  session_.mark_dirty(connection_);
  return true;
}

void Http2Session::leave_memory_queue(Http2Stream& stream) noexcept {
  if (!std::exchange(stream.waits_memory, false)) return;
  --waiting_;
  session_.leave_memory_queue(connection_, stream.id);
}

void Http2Session::dispatch(Http2Stream& stream) {
  if (stream.messages != nullptr) {
    stream.messages->end();
    return;
  }
  Pending& pending = pending_of(stream);
  stream.read_deadline_ns = 0;
  pending.arrival_ns = loop_.now_ns;
  pending.deadline_ns = loop_.now_ns + loop_.engine.options.request_timeout_ms * kMillisecondNs;
  loop_.timers.arm(connection_.timer, pending.deadline_ns);
  if (turns_.empty() && may_answer()) {
    answer(stream);
    return;
  }
  stream.waits_turn = true;
  turns_.push_back(stream.id);
  note_timeout(stream);
}

// The client's own time-out holds for a request that waits, too. What is wrong with it is told when it is answered.
void Http2Session::note_timeout(Http2Stream& stream) {
  Pending& pending = pending_of(stream);
  RequestHead head;
  Problem problem;
  if (!read_head(stream, head, problem) || !read_options(head, pending, problem) || pending.timeout_ns == 0) return;
  pending.deadline_ns = pending.arrival_ns + pending.timeout_ns;
  loop_.timers.arm(connection_.timer, pending.deadline_ns);
}

bool Http2Session::may_answer() const noexcept { return connection_.owed_bytes + held_bytes_ < kAnswerBytesMax; }

// In the order in which they came. One that was refused meanwhile, or taken back, has left the line.
void Http2Session::answer_waiting() {
  while (!turns_.empty() && may_answer()) {
    Http2Stream& stream = *find(turns_.front());
    leave_line(stream);
    answer(stream);
  }
}

void Http2Session::leave_line(Http2Stream& stream) noexcept {
  if (std::exchange(stream.waits_turn, false)) std::erase(turns_, stream.id);
}

// They have been read: however long it takes to answer them, they hold up no further ones.
void Http2Session::give_back_fields(Http2Stream& stream) noexcept {
  field_bytes_ -= std::exchange(stream.field_bytes, 0);
}

void Http2Session::answer(Http2Stream& stream) {
  Pending& pending = pending_of(stream);
  RequestHead head;
  Problem problem;
  if (!read_head(stream, head, problem)) {
    refuse_stream(stream, problem);
    return;
  }
  give_back_fields(stream);
  head.has_content_length = true;  // the stream has ended
  head.content_length = stream.body_bytes;
  const std::string_view body(stream.body.data(), stream.body_bytes);
  Block block = std::move(stream.body);
  stream.asked = std::min(body.size(), kOwedBytesMax);
  held_bytes_ += stream.asked;
  const Request request{head, body, block};
  if (loop_.tap.is_on()) loop_.tap.open(connection_, pending, head, body.size(), *loop_.keys);
  if (stream.is_grpc) {
    if (pending.tap != nullptr) pending.tap->flags |= TapRecord::kGrpc;
    handler_.handle_grpc(connection_, pending, request);
  } else if (!head.content_encoding.empty()) {
    session_.dispatch_compressed(connection_, pending, request, stream.head);
  } else {
    handler_.handle(connection_, pending, request);
  }
}

// Its body, as far as it has not come, will not be looked at.
void Http2Session::refuse_stream(Http2Stream& stream, const Problem& problem) {
  stream.refused = true;
  stream.read_deadline_ns = 0;
  leave_memory_queue(stream);
  stream.body.reset();
  leave_line(stream);
  grant(stream, stream.ungranted);
  session_.refuse(connection_, pending_of(stream), problem);
}

// The whole answer to half a request is out. To be told at once that the other half is not wanted (RFC 9113 8.1) makes
// some clients drop the answer, so they may go on for a while.
void Http2Session::linger(Http2Stream& stream) {
  stream.read_deadline_ns = loop_.now_ns + kLingerNs;
  loop_.timers.arm(connection_.timer, stream.read_deadline_ns);
}

// nghttp2 knows it no more: answered, reset, or its connection is gone.
void Http2Session::close_stream(Http2Stream& stream) {
  Pending& pending = pending_of(stream);
  if (stream.messages != nullptr) stream.messages->close();
  stream.ungranted = 0;
  if (pending.tap != nullptr) loop_.tap.abort(connection_, pending);
  if (pending.state != Pending::State::kFree) {
    if (pending.state != Pending::State::kReady) handler_.abandon(connection_, pending);
    pending.reply.reset();
    pending.state = Pending::State::kFree;
    connection_.owed_bytes -= pending.owed_bytes;
  }
  drop_reply(stream);
  leave_memory_queue(stream);
  leave_line(stream);
  give_back_fields(stream);
  // A place that is kept for administration is not kept by requests that are begun and taken back.
  if (--open_ == 0 && (stream.answered || !connection_.reserved)) rested_ = true;
  free_.push_back(stream.place);
  stream.reset();
}

// False: too many of late, by either side.
bool Http2Session::takes_reset() noexcept {
  if (loop_.now_ns - resets_since_ns_ > kResetsWindowNs) {
    resets_since_ns_ = loop_.now_ns;
    resets_ = 0;
  }
  return ++resets_ <= kResetsMax;
}

}  // namespace penstock::dataplane
