// Replies: in order, each in one write, never more than the client takes; and the life of a connection around them.
#include "engine/http_session.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <limits>

#include "engine/transport.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::uint64_t kLingerNs = 2'000 * kMillisecondNs;

// Congestion control paces and probes; on loopback there is nothing to pace for, and the default may be one that costs
// several per cent of the server's time in timers.
// False: a Unix socket.
bool tune_socket(int fd) noexcept {
  sockaddr_storage peer{};
  socklen_t bytes = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &bytes) != 0) return true;
  bool loopback = false;
  if (peer.ss_family == AF_INET) {
    loopback = (ntohl(reinterpret_cast<sockaddr_in&>(peer).sin_addr.s_addr) >> 24) == 127;
  } else if (peer.ss_family == AF_INET6) {
    loopback = IN6_IS_ADDR_LOOPBACK(&reinterpret_cast<sockaddr_in6&>(peer).sin6_addr);
  } else {
    return false;
  }
  const int on = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  if (loopback) ::setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "reno", 4);
  return true;
}

bool is_readable(int fd) noexcept {
  int bytes = 0;
  return ::ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

}  // namespace

void HttpSession::open(int fd, bool reserved, bool internal) {
  Connection* connection = nullptr;
  if (free_.empty()) {
    loop_.connections.push_back(std::make_unique<Connection>());
    connection = loop_.connections.back().get();
    connection->kind = WatchKind::kConnection;
    connection->index = static_cast<std::uint32_t>(loop_.connections.size() - 1);
    connection->memory = std::make_unique_for_overwrite<char[]>(2 * kConnectionBytes);
    connection->in.data = connection->memory.get();
    connection->out.data = connection->memory.get() + kConnectionBytes;
    connection->timer.owner = connection;
  } else {
    connection = free_.back();
    free_.pop_back();
  }
  connection->fd = fd;
  connection->reserved = reserved;
  connection->internal = internal;
  connection->stream = nullptr;
  connection->phase = Connection::Phase::kHead;
  connection->closing = connection->peer_closed = connection->owes_continue = connection->waited = false;
  connection->writable = true;
  connection->scanned = connection->wanted = 0;
  connection->read_deadline_ns = connection->write_deadline_ns = 0;
  connection->interest = EPOLLIN;
  const bool is_tcp = tune_socket(fd);
  epoll_event event{.events = EPOLLIN, .data = {.ptr = static_cast<Watch*>(connection)}};
  ::epoll_ctl(loop_.epoll, EPOLL_CTL_ADD, fd, &event);
  loop_.stats.connections_accepted.add();
  loop_.stats.connections_open.add();
  expect_request(*connection);
  if (is_tcp && loop_.tls) begin_tls(*connection);
}

char* HttpSession::begin_reply(Connection& connection, Pending& pending, std::size_t bytes_max) {
  if (connection.http2) [[unlikely]]
    return connection.http2->begin_reply(pending, bytes_max);
  if (pending.reply) return pending.reply.data();
  if (pending.id == connection.first) {
    if (connection.out.space() < bytes_max) connection.out.compact();
    if (connection.out.space() >= bytes_max) return connection.out.data + connection.out.end;
  }
  pending.reply = loop_.engine.pool.acquire_owed(bytes_max);
  return pending.reply.data();
}

void HttpSession::end_reply(Connection& connection, Pending& pending, std::size_t bytes, std::size_t begin) {
  if (pending.coding != Coding::kIdentity && hand_to_compressor(connection, pending, bytes, begin)) [[unlikely]]
    return;
  pending.state = Pending::State::kReady;
  pending.reply_begin = begin;
  pending.reply_end = begin + bytes;
  if (pending.tap != nullptr) [[unlikely]] {
    const char* const at = pending.reply ? pending.reply.data() + begin : connection.out.data + connection.out.end;
    loop_.tap.close(connection, pending, {at, bytes});
  }
  if (connection.http2) [[unlikely]] {
    end_http2_reply(connection, pending);
    return;
  }
  if (!pending.reply) {  // written in place
    connection.out.end += bytes;
    pop(connection, pending);
  }
  drain_ready(connection);
  mark_dirty(connection);
}

ResponseOptions HttpSession::response_options(const Pending& pending) const noexcept {
  return {.request_id = pending.request_id(),
          .date = loop_.date.view(),
          .keep_alive = pending.keep_alive,
          .head_only = pending.head_only,
          .http_1_0 = pending.http_1_0,
          .cors = pending.cors == nullptr ? std::string_view() : pending.cors->fields,
          .oip_error = pending.oip,
          .fields = pending.varies ? kVaryEncoding : std::string_view()};
}

void HttpSession::refuse(Connection& connection, Pending& pending, const Problem& problem, std::string_view allow) {
  ResponseOptions options = response_options(pending);
  options.allow = allow;
  const ProblemInfo& info = info_of(problem.code());
  if (info.status == 503 || info.status == 429) options.retry_after_s = std::max(problem.retry_after_s(), 1U);
  loop_.stats.responses[info.status].add();
  if (loop_.tap.is_on()) loop_.tap.note_problem(connection, pending, problem.code());
  if (connection.http2 && connection.http2->refuse(pending, problem)) {
    if (pending.tap != nullptr) loop_.tap.close(connection, pending, {});
    mark_dirty(connection);
    return;
  }
  char* out = begin_reply(connection, pending, problem_bytes_max(problem));
  end_reply(connection, pending, write_problem(out, problem, options));
}

void HttpSession::reply(Connection& connection, Pending& pending, unsigned status, std::string_view content_type,
                        std::string_view body) {
  loop_.stats.responses[status].add();
  char* out = begin_reply(connection, pending, kHeadBytesMax + body.size());
  std::size_t bytes = write_head(out, status, content_type, body.size(), response_options(pending));
  if (!pending.head_only) {
    if (!body.empty()) std::memcpy(out + bytes, body.data(), body.size());
    bytes += body.size();
  }
  end_reply(connection, pending, bytes);
}

void HttpSession::reply_without_body(Connection& connection, Pending& pending, unsigned status,
                                     const ResponseOptions& options) {
  loop_.stats.responses[status].add();
  char* out = begin_reply(connection, pending, kHeadBytesMax);
  end_reply(connection, pending, write_head(out, status, {}, 0, options));
}

// Moves replies whose turn has come into the connection's buffer, as far as they fit.
void HttpSession::drain_ready(Connection& connection) {
  while (connection.has_pending()) {
    Pending& pending = connection.slot(connection.first);
    if (pending.state != Pending::State::kReady) return;
    const std::size_t bytes = pending.reply_end - pending.reply_begin;
    if (connection.out.space() < bytes) connection.out.compact();
    if (connection.out.space() < bytes) return;
    std::memcpy(connection.out.data + connection.out.end, pending.reply.data() + pending.reply_begin, bytes);
    connection.out.end += bytes;
    pop(connection, pending);
  }
}

void HttpSession::pop(Connection& connection, Pending& pending) {
  pending.reply.reset();
  pending.state = Pending::State::kFree;
  connection.owed_bytes -= pending.owed_bytes;
  ++connection.first;
}

void HttpSession::mark_dirty(Connection& connection) {
  if (connection.dirty) return;
  connection.dirty = true;
  dirty_.push_back(&connection);
}

void HttpSession::flush_dirty() {
  // flush() may read further requests that were buffered, whose replies make the connection dirty again.
  for (std::size_t i = 0; i < dirty_.size(); ++i) {
    Connection& connection = *dirty_[i];
    connection.dirty = false;
    if (connection.fd >= 0) flush(connection);
  }
  dirty_.clear();
  for (Connection* const each : postponed_) {
    each->postponed = false;
    mark_dirty(*each);
  }
  postponed_.clear();
}

void HttpSession::flush(Connection& connection) {
  if (connection.http2) [[unlikely]] {
    flush_http2(connection);
    return;
  }
  while (connection.writable) {
    if (!connection.out.empty()) {
      connection.out.consume(send_bytes(connection, connection.out.data + connection.out.begin, connection.out.size()));
      if (connection.fd < 0) return;
      continue;
    }
    drain_ready(connection);
    if (!connection.out.empty()) continue;
    Pending& pending = connection.slot(connection.first);
    if (!connection.has_pending()) break;
    if (pending.state == Pending::State::kStream) [[unlikely]] {
      const bool pulled = connection.stream->pull();
      if (connection.fd < 0) return;
      if (!pulled) break;
      continue;
    }
    if (pending.state != Pending::State::kReady) break;
    // Too large for the buffer: straight from its block.
    pending.reply_begin +=
        send_bytes(connection, pending.reply.data() + pending.reply_begin, pending.reply_end - pending.reply_begin);
    if (connection.fd < 0) return;
    if (pending.reply_begin == pending.reply_end) pop(connection, pending);
  }
  after_flush(connection);
}

std::size_t HttpSession::send_bytes(Connection& connection, const char* data, std::size_t bytes) {
  const ssize_t sent = transport_send(connection, data, bytes);
  if (sent >= 0) {
    connection.write_deadline_ns = 0;
    // TLS writes a record at a time: whether there is room for another the next call says.
    if (static_cast<std::size_t>(sent) < bytes && !connection.tls) connection.writable = false;
  } else if (errno == EAGAIN) {
    connection.writable = false;
  } else if (errno != EINTR) {
    close(connection);
    return 0;
  }
  if (!connection.writable) {
    expect_by(connection, connection.write_deadline_ns,
              loop_.now_ns + loop_.engine.options.write_timeout_ms * kMillisecondNs);
  }
  return sent > 0 ? static_cast<std::size_t>(sent) : 0;
}

void HttpSession::after_flush(Connection& connection) {
  process(connection);  // a request may have been waiting for room
  if (connection.fd < 0) return;
  if (connection.writable && !connection.has_pending() && connection.out.empty()) {
    if (connection.peer_closed) {
      close(connection);
      return;
    }
    if (connection.closing && connection.phase != Connection::Phase::kLinger) {
      linger(connection);
      return;
    }
    if (connection.owes_continue) {
      connection.owes_continue = false;
      std::memcpy(connection.out.data, kContinueResponse.data(), kContinueResponse.size());
      connection.out.end = kContinueResponse.size();
      mark_dirty(connection);
    }
    expect_request(connection);
  }
  update_interest(connection);
}

// The last reply is out. Closing at once would reset the connection if the client is still sending, and take the reply
// from it.
void HttpSession::linger(Connection& connection) {
  connection.phase = Connection::Phase::kLinger;
  connection.in.begin = connection.in.end = 0;
  if (connection.tls) connection.tls->end();
  ::shutdown(connection.fd, SHUT_WR);
  expect_by(connection, connection.read_deadline_ns, loop_.now_ns + kLingerNs);
  update_interest(connection);
}

void HttpSession::close(Connection& connection) {
  if (connection.http2) connection.http2->abandon_all();
  connection.http2.reset();
  if (connection.tls) end_tls(connection);
  for (std::uint32_t id = connection.first; id != connection.last; ++id) {
    Pending& pending = connection.slot(id);
    if (pending.tap != nullptr) loop_.tap.abort(connection, pending);
    if (pending.state != Pending::State::kReady) handler_.abandon(connection, pending);
    pending.reply.reset();
    pending.state = Pending::State::kFree;
  }
  leave_memory_queue(connection);
  // close() alone does not take it out of the epoll set while a forked child, on its way to exec, holds the socket too.
  ::epoll_ctl(loop_.epoll, EPOLL_CTL_DEL, connection.fd, nullptr);
  ::close(connection.fd);
  connection.fd = -1;
  ++connection.generation;
  connection.first = connection.last = 0;
  connection.owed_bytes = 0;
  connection.in.begin = connection.in.end = connection.out.begin = connection.out.end = 0;
  connection.block.reset();
  loop_.timers.disarm(connection.timer);
  loop_.stats.connections_open.sub();
  if (!connection.internal) {
    loop_.engine.connections.fetch_sub(1, std::memory_order_relaxed);  // a bound, not a message
    loop_.connections_given.fetch_sub(1, std::memory_order_relaxed);   // read by the acceptor: likewise
  }
  closed_.push_back(&connection);
}

void HttpSession::recycle_closed() {
  free_.insert(free_.end(), closed_.begin(), closed_.end());
  closed_.clear();
}

void HttpSession::drain() {
  for (const auto& connection : loop_.connections) {
    // What was accepted may still need the control plane's connections; those end with the engine.
    if (connection->fd < 0 || connection->phase == Connection::Phase::kLinger || connection->internal) continue;
    if (connection->http2) {
      if (connection->http2->drain()) mark_dirty(*connection);
      continue;  // it is closed when what it owes is out
    }
    const bool reading = !connection->in.empty() || connection->phase != Connection::Phase::kHead;
    // What the kernel holds was sent while there was a server: closing now would reset the connection.
    if (!connection->has_pending() && connection->out.empty() && !reading && !is_readable(connection->fd))
      close(*connection);
  }
}

void HttpSession::on_timer(Connection& connection) {
  if (connection.tls && !connection.tls->is_open()) {
    on_handshake_timer(connection);
    return;
  }
  if (connection.http2) {
    on_http2_timer(connection);
    return;
  }
  const std::uint64_t now = loop_.now_ns;
  const auto due = [now](std::uint64_t deadline_ns) { return deadline_ns != 0 && deadline_ns <= now; };
  if (due(connection.write_deadline_ns) ||
      (due(connection.read_deadline_ns) && connection.phase == Connection::Phase::kLinger)) {
    loop_.stats.connections_timed_out.add();
    close(connection);
    return;
  }
  if (due(connection.read_deadline_ns) && connection.phase == Connection::Phase::kHead &&
      !connection.may_read_request()) {
    // Nothing is read at the moment, so nothing is late: the request is looked at anew when there is room for it.
    connection.read_deadline_ns = 0;
    connection.wanted = 0;
  }
  if (due(connection.read_deadline_ns) && connection.phase == Connection::Phase::kTurn) connection.read_deadline_ns = 0;
  if (due(connection.read_deadline_ns)) {
    Problem problem;
    if (connection.phase == Connection::Phase::kMemory) {
      problem.set(ProblemCode::kMemoryExhausted, "no memory became free for the body in time");
    } else {
      problem.set(ProblemCode::kRequestTimeout, "the request did not arrive completely in time");
    }
    loop_.stats.connections_timed_out.add();
    if (connection.phase == Connection::Phase::kStream) {
      refuse_stream(connection, problem);
    } else {
      refuse_connection(connection, problem);
    }
    if (connection.fd < 0) return;
  }
  std::uint64_t next = std::numeric_limits<std::uint64_t>::max();
  for (std::uint32_t id = connection.first; id != connection.last; ++id) {
    Pending& pending = connection.slot(id);
    if (pending.state == Pending::State::kReady || pending.state == Pending::State::kFree) continue;
    if (pending.deadline_ns > now) {
      next = std::min(next, pending.deadline_ns);
      continue;
    }
    if (pending.state == Pending::State::kStream) {
      loop_.stats.connections_timed_out.add();
      cut(connection);
      return;
    }
    handler_.abandon(connection, pending);
    Problem problem;
    problem.set(ProblemCode::kDeadlineExceeded, "no answer within %llu ms; the row may still run",
                static_cast<unsigned long long>((pending.deadline_ns - pending.arrival_ns) / kMillisecondNs));
    refuse(connection, pending, problem);
  }
  const bool idle = !connection.has_pending() && connection.in.empty() && connection.out.empty() &&
                    connection.phase == Connection::Phase::kHead;
  if (idle && due(connection.idle_deadline_ns)) {
    close(connection);
    return;
  }
  for (const std::uint64_t deadline_ns :
       {connection.read_deadline_ns, connection.write_deadline_ns, connection.idle_deadline_ns}) {
    if (deadline_ns > now) next = std::min(next, deadline_ns);
  }
  // Something is always armed: a connection that outlived its idle deadline by being busy is looked at again.
  if (next == std::numeric_limits<std::uint64_t>::max())
    next = now + loop_.engine.options.idle_timeout_ms * kMillisecondNs;
  loop_.timers.arm(connection.timer, next);
}

void HttpSession::expect_by(Connection& connection, std::uint64_t& deadline, std::uint64_t when_ns) {
  deadline = when_ns;
  loop_.timers.arm(connection.timer, when_ns);
}

// A reserved place is for an administrator who knows what to ask: it may not be sat on.
void HttpSession::expect_request(Connection& connection) {
  const EngineOptions& options = loop_.engine.options;
  const std::uint64_t idle_ms =
      connection.reserved ? std::min<std::uint64_t>(options.head_timeout_ms, 2'000) : options.idle_timeout_ms;
  expect_by(connection, connection.idle_deadline_ns, loop_.now_ns + idle_ms * kMillisecondNs);
}

void HttpSession::update_interest(Connection& connection) {
  using Phase = Connection::Phase;
  const bool reads = !connection.peer_closed && connection.phase != Phase::kMemory &&
                     connection.phase != Phase::kTurn &&
                     (connection.phase != Phase::kHead || connection.may_read_request()) &&
                     (connection.phase != Phase::kStream || connection.in.size() < kConnectionBytes);
  const std::uint32_t interest = (reads ? EPOLLIN : 0u) | (connection.writable ? 0u : EPOLLOUT);
  if (interest == connection.interest) return;
  const bool resumes = (interest & ~connection.interest & EPOLLIN) != 0;
  connection.interest = interest;
  if (connection.tls && resumes) note_unread(connection);
  epoll_event event{.events = interest, .data = {.ptr = static_cast<Watch*>(&connection)}};
  ::epoll_ctl(loop_.epoll, EPOLL_CTL_MOD, connection.fd, &event);
}

}  // namespace penstock::dataplane
