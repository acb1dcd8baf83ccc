// Requests that are streamed: a body that is handed on as it comes, a reply that is sent as it is made.
#include <sys/socket.h>

#include <algorithm>
#include <cstring>

#include "engine/http_session.hpp"

namespace penstock::dataplane {

bool HttpSession::begin_stream(Connection& connection, const RequestHead& head) {
  Buffer& in = connection.in;
  connection.cors = loop_.engine.cors.find(head.origin);
  Problem problem;
  if (loop_.tap.is_on()) loop_.tap.see(connection, head);
  if (!admits_stream(connection, head, problem)) {
    refuse_connection(connection, problem);
    return false;
  }
  connection.scanned = connection.wanted = 0;
  if (connection.has_pending() || !connection.out.empty()) {
    // Its reply is written as it comes, so those before it must be out. The head is parsed again then.
    connection.phase = Connection::Phase::kTurn;
    return false;
  }
  connection.phase = Connection::Phase::kStream;
  connection.chunks.reset();
  connection.stream = nullptr;
  connection.stream_chunked = head.chunked;
  connection.stream_left = head.content_length;
  const std::size_t head_bytes = head.head_bytes;
  const bool waits_for_continue = head.expect_continue && in.size() == head_bytes;
  Pending& pending = open_pending(connection, head);
  if (loop_.tap.is_on()) loop_.tap.open(connection, pending, head, head.content_length, *loop_.keys);
  pending.owed_bytes = kOwedBytesMax;  // no other request is read before this one is answered
  connection.owed_bytes += pending.owed_bytes;
  const bool keep_alive = pending.keep_alive && head.version_minor != 0;  // else the reply ends with the connection
  pending.keep_alive = false;                                             // should it be refused: the body is not read
  Block none;
  handler_.handle(connection, pending, Request{head, {}, none, true});
  if (connection.fd < 0) return false;
  if (connection.stream == nullptr) {
    stop_body(connection, pending);
    return false;
  }
  pending.keep_alive = keep_alive;
  connection.closing = !keep_alive;
  if (waits_for_continue) {
    std::memcpy(connection.out.data, kContinueResponse.data(), kContinueResponse.size());
    connection.out.end = kContinueResponse.size();
    mark_dirty(connection);
  }
  in.consume(head_bytes);
  return true;
}

bool HttpSession::admits_stream(Connection& connection, const RequestHead& head, Problem& problem) {
  return takes_coding(head, problem) && handler_.admits(connection, head, connection.body_limit, problem);
}

void HttpSession::attach(Connection& connection, Pending& pending, BodyStream& stream) noexcept {
  (connection.http2 ? connection.http2->streamed(pending) : connection.stream) = &stream;
}

void HttpSession::detach(Connection& connection, Pending& pending, const BodyStream& stream) noexcept {
  BodyStream*& attached = connection.http2 ? connection.http2->streamed(pending) : connection.stream;
  if (attached == &stream) attached = nullptr;
}

bool HttpSession::process_stream(Connection& connection) {
  Buffer& in = connection.in;
  const std::size_t bytes = std::min(in.size(), connection.stream->room());
  const bool ended = !connection.stream_chunked && connection.stream_left == 0;
  if (bytes == 0 && !ended) {
    // Nothing is late while it is not the client that is waited for.
    connection.read_deadline_ns = 0;
    if (in.empty()) {
      expect_by(connection, connection.read_deadline_ns,
                loop_.now_ns + loop_.engine.options.body_timeout_ms * kMillisecondNs);
    }
    return false;
  }
  ChunkedDecoder::Step step{ParseStatus::kIncomplete, 0, 0};
  if (connection.stream_chunked) {
    Problem problem;
    step = connection.chunks.decode(in.data + in.begin, bytes, problem);
    if (step.status == ParseStatus::kRefused) {
      refuse_stream(connection, problem);
      return false;
    }
  } else {
    step.consumed = step.produced = static_cast<std::size_t>(std::min<std::uint64_t>(bytes, connection.stream_left));
    connection.stream_left -= step.produced;
    if (connection.stream_left == 0) step.status = ParseStatus::kComplete;
  }
  note_progress(connection.slot(connection.first));
  if (step.produced > 0) connection.stream->take({in.data + in.begin, step.produced});
  if (connection.fd < 0 || connection.phase != Connection::Phase::kStream) return false;
  in.consume(step.consumed);
  if (step.status != ParseStatus::kComplete) return true;
  connection.phase = Connection::Phase::kHead;
  connection.read_deadline_ns = 0;
  connection.stream->end();
  return false;
}

void HttpSession::resume_answer(Connection& connection, Pending& pending) {
  if (connection.http2) connection.http2->resume_answer(pending);
  mark_dirty(connection);
}

void HttpSession::resume_body(Connection& connection, Pending& pending) {
  if (connection.http2) {
    connection.http2->resume_body(pending);
    return;
  }
  if (connection.phase != Connection::Phase::kStream) return;
  process(connection);
  if (connection.fd >= 0) update_interest(connection);
}

// The body is late or is no body.
void HttpSession::refuse_stream(Connection& connection, const Problem& problem) {
  Pending& pending = connection.slot(connection.first);
  if (pending.state == Pending::State::kStream) {
    cut(connection);
    return;
  }
  handler_.abandon(connection, pending);
  stop_body(connection, pending);
  refuse(connection, pending, problem);
}

void HttpSession::stop_body(Connection& connection, Pending& pending) noexcept {
  if (connection.http2) {
    connection.http2->stop_body(pending);
    return;
  }
  if (connection.phase != Connection::Phase::kStream) return;
  connection.phase = Connection::Phase::kHead;  // `closing` keeps it from reading another request
  connection.closing = true;
  connection.read_deadline_ns = 0;
  connection.in.begin = connection.in.end = 0;
  pending.keep_alive = false;
}

bool HttpSession::begin_streamed_reply(Connection& connection, Pending& pending, std::string_view head) {
  if (connection.http2) {
    connection.http2->begin_streamed_reply(pending, head);
  } else {
    connection.out.compact();
    if (head.size() > connection.out.space()) return false;
    std::memcpy(connection.out.data + connection.out.end, head.data(), head.size());
    connection.out.end += head.size();
  }
  pending.state = Pending::State::kStream;
  if (pending.tap != nullptr) note_streamed(*pending.tap, head);
  mark_dirty(connection);
  return true;
}

void HttpSession::end_streamed_reply(Connection& connection, Pending& pending) {
  stop_body(connection, pending);
  connection.stream = nullptr;
  if (pending.tap != nullptr) loop_.tap.close(connection, pending, {});
  pop(connection, pending);
  mark_dirty(connection);
}

void HttpSession::note_progress(Pending& pending) noexcept {
  // The timer is set to an earlier moment, and is set anew when that has come.
  pending.deadline_ns = loop_.now_ns + loop_.engine.options.request_timeout_ms * kMillisecondNs;
}

void HttpSession::cut(Connection& connection) {
  // A reset: a reply without a length ends where the connection does.
  const struct ::linger reset{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(connection.fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
  close(connection);
}

}  // namespace penstock::dataplane
