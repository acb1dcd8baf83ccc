// Connections whose requests are streams of HTTP/2: how the session drives them.
#include <limits>

#include "engine/http_session.hpp"

namespace penstock::dataplane {
namespace {

// At a time: messages that are answered at once are read, answered and sent here, and the others have their turn.
constexpr std::size_t kSentBytesMax = 128 * 1024;

}  // namespace

// Whether a head that HTTP/1.1 refuses is the first that an HTTP/2 client says: then it is its connection from here on,
// or will be when the rest of it is there.
bool HttpSession::begins_http2(Connection& connection) {
  const std::string_view seen = connection.in.view().substr(0, kHttp2Preface.size());
  if (connection.last != 0 || !has_http2() || !kHttp2Preface.starts_with(seen)) return false;
  if (seen.size() < kHttp2Preface.size()) {
    connection.scanned = 0;
    if (connection.read_deadline_ns == 0)  // a part of it holds nobody's place
      expect_by(connection, connection.read_deadline_ns,
                loop_.now_ns + loop_.engine.options.head_timeout_ms * kMillisecondNs);
    return true;
  }
  connection.widen(kHttp2StreamsMax);
  connection.http2 = make_http2(loop_, *this, handler_, connection);
  connection.phase = Connection::Phase::kHttp2;
  connection.read_deadline_ns = 0;
  process_http2(connection);
  return true;
}

void HttpSession::process_http2(Connection& connection) {
  if (!connection.http2->receive(connection.in.view())) connection.closing = true;
  connection.in.begin = connection.in.end = 0;
  mark_dirty(connection);
}

void HttpSession::flush_http2(Connection& connection) {
  if (connection.postponed) return;  // what it has just answered has made it dirty again
  for (std::size_t sent = 0; connection.writable;) {
    if (connection.out.empty()) connection.http2->fill(connection.out);
    if (connection.out.empty()) break;
    const std::size_t bytes = send_bytes(connection, connection.out.data + connection.out.begin, connection.out.size());
    if (connection.fd < 0) return;
    connection.out.consume(bytes);
    sent += bytes;
    if (sent >= kSentBytesMax && connection.writable) {
      connection.postponed = true;
      postponed_.push_back(&connection);
      break;
    }
  }
  after_flush_http2(connection);
}

void HttpSession::end_http2_reply(Connection& connection, Pending& pending) {
  connection.http2->end_reply(pending);
  mark_dirty(connection);
}

void HttpSession::after_flush_http2(Connection& connection) {
  Http2Port& http2 = *connection.http2;
  if (connection.closing && http2.drain()) mark_dirty(connection);
  if (connection.peer_closed) {  // HTTP/2 has its own way to say that no more requests will come
    close(connection);
    return;
  }
  if (connection.writable && connection.out.empty()) {
    if (http2.is_finished()) {
      http2.abandon_all();
      connection.http2.reset();
      linger(connection);
      return;
    }
    if (http2.comes_to_rest()) expect_request(connection);
  }
  update_interest(connection);
}

void HttpSession::on_http2_timer(Connection& connection) {
  const std::uint64_t now = loop_.now_ns;
  const auto due = [now](std::uint64_t deadline_ns) { return deadline_ns != 0 && deadline_ns <= now; };
  std::uint64_t next = due(connection.write_deadline_ns) ? 0 : connection.http2->check_deadlines();
  if (next == 0) {
    loop_.stats.connections_timed_out.add();
    close(connection);
    return;
  }
  if (!connection.http2->has_streams() && connection.out.empty() && due(connection.idle_deadline_ns)) {
    connection.closing = true;
    mark_dirty(connection);
  }
  for (const std::uint64_t deadline_ns : {connection.write_deadline_ns, connection.idle_deadline_ns}) {
    if (deadline_ns > now) next = std::min(next, deadline_ns);
  }
  if (next == std::numeric_limits<std::uint64_t>::max())
    next = now + loop_.engine.options.idle_timeout_ms * kMillisecondNs;
  loop_.timers.arm(connection.timer, next);
}

}  // namespace penstock::dataplane
