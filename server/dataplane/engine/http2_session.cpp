#include "engine/http2_session.hpp"

#include <algorithm>
#include <cstring>
#include <limits>
#include <utility>

#include "engine/http2_callbacks.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::size_t kQueuedFramesMax = 4096;
// Of all bodies: what is read is taken at once, and each stream has a window of its own.
constexpr std::int32_t kConnectionWindowBytes = 8 << 20;

}  // namespace

std::unique_ptr<Http2Port> make_http2(LoopContext& loop, HttpSession& session, RequestHandler& handler,
                                      Connection& connection) {
  return std::make_unique<Http2Session>(loop, session, handler, connection);
}

bool has_http2() noexcept { return true; }

Http2Session::Http2Session(LoopContext& loop, HttpSession& session, RequestHandler& handler, Connection& connection)
    : loop_(loop), session_(session), handler_(handler), connection_(connection), nghttp2_(Callbacks::make(*this)) {
  broken_ = nghttp2_ == nullptr;
  if (broken_) return;
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, kHttp2StreamsMax},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, kFirstWindowBytes},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, static_cast<std::uint32_t>(loop.engine.options.head_bytes_max)},
  };
  nghttp2_submit_settings(nghttp2_, NGHTTP2_FLAG_NONE, settings, std::size(settings));
  nghttp2_session_set_local_window_size(nghttp2_, NGHTTP2_FLAG_NONE, 0, kConnectionWindowBytes);
}

Http2Session::~Http2Session() { nghttp2_session_del(nghttp2_); }

bool Http2Session::receive(std::string_view bytes) {
  if (broken_) return false;
  const ssize_t read =
      nghttp2_session_mem_recv(nghttp2_, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
  // A client that reads nothing may have frame after frame refused: what waits to be sent is bounded.
  if (read < 0 || nghttp2_session_get_outbound_queue_size(nghttp2_) > kQueuedFramesMax) give_up();
  return !broken_;
}

// Before the connection is closed the client hears why, as far as nghttp2 has not said so.
void Http2Session::give_up() noexcept {
  broken_ = true;
  nghttp2_session_terminate_session(nghttp2_, NGHTTP2_ENHANCE_YOUR_CALM);
}

bool Http2Session::comes_to_rest() noexcept { return std::exchange(rested_, false); }

void Http2Session::fill(Buffer& out) {
  if (nghttp2_ == nullptr) return;
  if (!broken_) answer_waiting();
  out.compact();
  while (out.space() > 0) {
    if (unsent_.empty()) {
      const std::uint8_t* data = nullptr;
      const ssize_t bytes = nghttp2_session_mem_send(nghttp2_, &data);
      if (bytes < 0) broken_ = true;
      if (bytes <= 0) return;
      unsent_ = {reinterpret_cast<const char*>(data), static_cast<std::size_t>(bytes)};
    }
    const std::size_t bytes = std::min(unsent_.size(), out.space());
    std::memcpy(out.data + out.end, unsent_.data(), bytes);
    out.end += bytes;
    unsent_.remove_prefix(bytes);
  }
}

bool Http2Session::is_finished() const noexcept {
  if (!unsent_.empty()) return false;
  if (broken_) return true;
  // Not before the client has been told which streams were looked at, or what it did wrong: then nothing is read any
  // more, whatever streams there are.
  return nghttp2_session_want_write(nghttp2_) == 0 &&
         (nghttp2_session_want_read(nghttp2_) == 0 || (drained_ && open_ == 0));
}

bool Http2Session::drain() {
  if (drained_ || broken_) return false;
  drained_ = true;
  nghttp2_submit_goaway(nghttp2_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(nghttp2_),
                        NGHTTP2_NO_ERROR, nullptr, 0);
  for (const auto& stream : streams_) {
    if (stream->messages != nullptr) stream->messages->drain();
  }
  return true;
}

std::uint64_t Http2Session::check_deadlines() {
  const std::uint64_t now = loop_.now_ns;
  std::uint64_t next = std::numeric_limits<std::uint64_t>::max();
  const auto is_due = [&](std::uint64_t deadline_ns) {
    if (deadline_ns == 0) return false;
    if (deadline_ns > now) next = std::min(next, deadline_ns);
    return deadline_ns <= now;
  };
  for (const auto& each : streams_) {
    Http2Stream& stream = *each;
    if (stream.id == 0) continue;
    if (is_due(stream.take_by_ns)) {
      if (now - taken_ns_ >= loop_.engine.options.write_timeout_ms * kMillisecondNs) return 0;  // nor of any other
      drop_reply(stream);
      reset_stream(stream, NGHTTP2_CANCEL);
      continue;
    }
    if (is_due(stream.read_deadline_ns)) {
      if (!stream.has_head) return 0;  // and no other stream can be read before it has
      end_late(stream);
    } else if (stream.streams) {
      if (is_due(pending_of(stream).deadline_ns)) reset_stream(stream, NGHTTP2_INTERNAL_ERROR);
    } else if (!stream.answered && (stream.read_deadline_ns == 0 || stream.source != nullptr) &&
               is_due(pending_of(stream).deadline_ns)) {
      refuse_late(pending_of(stream));
    }
  }
  return next;
}

// Its request is not there in time, or what is left of one that has been answered.
void Http2Session::end_late(Http2Stream& stream) {
  stream.read_deadline_ns = 0;
  if (stream.answered) {
    reset_stream(stream, stream.source == nullptr ? NGHTTP2_NO_ERROR : NGHTTP2_CANCEL);
    return;
  }
  Problem problem;
  if (stream.waits_memory) {
    problem.set(ProblemCode::kMemoryExhausted, "no memory became free for the body in time");
  } else {
    problem.set(ProblemCode::kRequestTimeout, "the request did not arrive completely in time");
  }
  if (stream.source != nullptr) handler_.abandon(connection_, pending_of(stream));
  refuse_stream(stream, problem);
}

// What is under way for it is given up when the client has been told.
void Http2Session::reset_stream(Http2Stream& stream, std::uint32_t error) {
  nghttp2_submit_rst_stream(nghttp2_, NGHTTP2_FLAG_NONE, stream.id, error);
  session_.mark_dirty(connection_);
}

void Http2Session::refuse_late(Pending& pending) {
  Http2Stream& stream = stream_of(pending);
  leave_line(stream);
  stream.body.reset();
  handler_.abandon(connection_, pending);
  Problem problem;
  problem.set(ProblemCode::kDeadlineExceeded, "no answer within %llu ms; the row may still run",
              static_cast<unsigned long long>((pending.deadline_ns - pending.arrival_ns) / kMillisecondNs));
  session_.refuse(connection_, pending, problem);
}

void Http2Session::abandon_all() {
  for (const auto& stream : streams_) {
    if (stream->id != 0) close_stream(*stream);
  }
}

}  // namespace penstock::dataplane
