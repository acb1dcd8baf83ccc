#include "engine/control_proxy.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "engine/tap_record.hpp"
#include "http/ascii.hpp"
#include "http/fields.hpp"

namespace penstock::dataplane {
namespace {

// Administration is not load: a few more calls waiting, then a refusal.
constexpr std::size_t kWaitingMax = 256;
constexpr std::size_t kAnswerBytesMax = 64u << 20;
// A change may take as long as a model takes to load (load_timeout_s), whatever predictions may take.
constexpr std::uint64_t kChangeNsMax = 3'600'000'000'000;

bool starts_ignoring_case(std::string_view text, std::string_view prefix) noexcept {
  return text.size() >= prefix.size() &&
         std::ranges::equal(text.substr(0, prefix.size()), prefix, {}, to_lower, to_lower);
}

// Fields that end at this hop (RFC 9110 7.6.1), that are written anew, that only the data plane may write, or that are
// secrets it has checked. A name
// with an underscore would become the same CGI variable as one with a hyphen.
bool is_relayed(std::string_view name, std::string_view nominated) noexcept {
  for (const std::string_view dropped : {"authorization", "x-api-key", "connection", "keep-alive", "te", "trailer",
                                         "upgrade", "expect", "transfer-encoding", "content-length", "content-encoding",
                                         "accept-encoding", "host", "x-request-id", "proxy-connection"}) {
    if (equals_ignoring_case(name, dropped)) return false;
  }
  const bool is_option =
      equals_ignoring_case(name, "x-penstock-reproducible") || equals_ignoring_case(name, "x-penstock-receipt");
  if (name.find('_') != std::string_view::npos || (starts_ignoring_case(name, "x-penstock-") && !is_option))
    return false;
  while (!nominated.empty()) {
    const std::string_view option = take_element(nominated);
    if (option.size() == name.size() && starts_ignoring_case(option, name)) return false;
  }
  return true;
}

// Of a request that is traced: what follows is the child of its span, and the vendors' part of a trace that is no trace
// goes with it.
bool is_replaced(std::string_view name, const TapRecord* tap) noexcept {
  if (tap == nullptr || !tap->is_traced()) return false;
  return equals_ignoring_case(name, "traceparent") ||
         ((tap->flags & TapRecord::kHasParent) == 0 && equals_ignoring_case(name, "tracestate"));
}

// The request as the control plane reads it, so written that a client cannot speak in the data plane's name. HTTP/1.0
// with the end of the stream as the end of the answer: nothing to frame. HTTP/1.1 for a request that is streamed, where
// half a body and half an answer must be known for what they are.
std::string serialise(const Request& request, const Pending& pending, const Principal& principal) {
  const RequestHead& head = request.head;
  std::string nominated;
  for_each_field(head.fields, [&](std::string_view name, std::string_view value, std::string_view) {
    if (equals_ignoring_case(name, "connection")) nominated.append(value).append(",");
  });
  std::string text;
  text.reserve(head.head_bytes + 256 + (request.block ? 0 : request.body.size()));
  text.append(head.method_name).append(" ").append(head.path);
  if (!head.query.empty()) text.append("?").append(head.query);
  text.append(request.streamed ? " HTTP/1.1\r\nHost: " : " HTTP/1.0\r\nHost: ").append(head.host).append("\r\n");
  for_each_field(head.fields, [&](std::string_view name, std::string_view, std::string_view line) {
    if (is_relayed(name, nominated) && !is_replaced(name, pending.tap)) text.append(line).append("\r\n");
  });
  // Whoever reads a body as it comes decompresses it, too, and compresses the answer.
  if (request.streamed) {
    if (!head.content_encoding.empty()) text.append("content-encoding: ").append(head.content_encoding).append("\r\n");
    if (pending.coding != Coding::kIdentity)
      text.append("x-penstock-coding: ").append(name_of(pending.coding)).append("\r\n");
  }
  if (pending.tap != nullptr && pending.tap->is_traced()) {
    char traceparent[kTraceparentBytes];
    write_traceparent(traceparent, pending.tap->trace_id, pending.tap->span_id, true);
    text.append("traceparent: ").append(traceparent, sizeof traceparent).append("\r\n");
  }
  text.append("x-penstock-request-id: ").append(pending.request_id());
  if (principal.role != Role::kNone) {
    text.append("\r\nx-penstock-principal: ").append(principal.id);
    text.append("\r\nx-penstock-role: ").append(name_of(principal.role));
  }
  text.append("\r\nConnection: close\r\n");
  if (request.streamed) return text.append("Transfer-Encoding: chunked\r\n\r\n");
  text.append("Content-Length: ").append(std::to_string(request.body.size())).append("\r\n\r\n");
  if (!request.block) text.append(request.body);
  return text;
}

// Whether the body is as long as its head says; `unless_said` when it does not say.
bool is_whole(std::string_view fields, std::string_view body, bool unless_said) noexcept {
  bool whole = unless_said;
  for_each_field(fields, [&](std::string_view name, std::string_view value, std::string_view) {
    std::uint64_t bytes = 0;
    if (equals_ignoring_case(name, "content-length"))
      whole =
          std::from_chars(value.data(), value.data() + value.size(), bytes).ec == std::errc{} && bytes == body.size();
  });
  return whole;
}

}  // namespace

ControlProxy::~ControlProxy() {
  for (const auto& call : calls_) {
    if (call->fd >= 0) ::close(call->fd);
  }
}

void ControlProxy::start(Connection& connection, Pending& pending, const Request& request, const Principal& principal) {
  Problem problem;
  if (loop_.engine.options.control_socket.empty()) {
    problem.set(ProblemCode::kNotFound, "no such route");
    session_.refuse(connection, pending, problem);
    return;
  }
  if (waiting_.size() >= kWaitingMax) {
    problem.set(ProblemCode::kControlPlaneUnavailable, "too many administrative requests wait already");
    session_.refuse(connection, pending, problem);
    return;
  }
  if (request.streamed && streams_ >= kControlStreamsMax) {
    problem.set(ProblemCode::kConnectionsExhausted, "%zu streamed requests are under way already", streams_);
    session_.refuse(connection, pending, problem);
    return;
  }
  auto call = std::make_unique<ControlCall>();
  call->kind = WatchKind::kControlCall;
  call->connection = connection.index;
  call->generation = connection.generation;
  call->request = pending.id;
  call->outgoing = serialise(request, pending, principal);
  if (request.block) {
    call->body = request.body;
    call->block = std::move(request.block);
  }
  pending.state = Pending::State::kControl;
  if (request.streamed) {
    call->stream = std::make_unique<ControlStream>(*this, *call);
    session_.attach(connection, pending, *call->stream);
    ++streams_;
  } else if (request.head.method != Method::kGet) {  // it may have a model loaded
    pending.deadline_ns = pending.arrival_ns + kChangeNsMax;
    loop_.timers.arm(connection.timer, pending.deadline_ns);
  }
  loop_.stats.control_forwarded.add();
  ControlCall& started = *call;
  calls_.push_back(std::move(call));
  if (active_ >= kControlCallsMax) {
    waiting_.push_back(&started);
    return;
  }
  if (!connect(started)) fail(started, "the control plane cannot be reached");
}

bool ControlProxy::connect(ControlCall& call) {
  ++active_;
  loop_.stats.control_active.add();
  const std::string& path = loop_.engine.options.control_socket;
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return false;
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  call.fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (call.fd < 0) return false;
  if (::connect(call.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return false;
  epoll_event event{.events = EPOLLIN | EPOLLOUT, .data = {.ptr = static_cast<Watch*>(&call)}};
  if (call.stream) call.stream->connected(event.events);
  return ::epoll_ctl(loop_.epoll, EPOLL_CTL_ADD, call.fd, &event) == 0;
}

void ControlProxy::abandon(Connection& connection, Pending& pending) {
  for (const auto& each : calls_) {
    ControlCall& call = *each;
    if (call.kind == WatchKind::kClosed || call.connection != connection.index ||
        call.generation != connection.generation || call.request != pending.id) {
      continue;
    }
    if (call.stream) session_.stop_body(connection, pending);
    close(call);
    return;
  }
}

void ControlProxy::on_event(ControlCall& call, std::uint32_t events) {
  if (call.fd < 0) return;
  if (call.stream) {
    call.stream->on_event(events);
    return;
  }
  if ((events & EPOLLOUT) != 0) send(call);
  if (call.fd >= 0 && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) receive(call);
}

void ControlProxy::send(ControlCall& call) {
  const std::size_t head_bytes = call.outgoing.size();
  while (call.sent < head_bytes + call.body.size()) {
    const std::string_view rest = call.sent < head_bytes ? std::string_view(call.outgoing).substr(call.sent)
                                                         : call.body.substr(call.sent - head_bytes);
    const ssize_t sent = ::send(call.fd, rest.data(), rest.size(), MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EAGAIN || errno == EINTR) return;
      break;  // it reads no more: maybe it has answered already
    }
    call.sent += static_cast<std::size_t>(sent);
  }
  std::string().swap(call.outgoing);
  call.body = {};
  call.block.reset();
  call.sent = 0;
  epoll_event event{.events = EPOLLIN, .data = {.ptr = static_cast<Watch*>(&call)}};
  ::epoll_ctl(loop_.epoll, EPOLL_CTL_MOD, call.fd, &event);
}

void ControlProxy::receive(ControlCall& call) {
  char bytes[16 * 1024];
  for (;;) {
    const ssize_t received = ::recv(call.fd, bytes, sizeof bytes, 0);
    if (received > 0) {
      call.incoming.append(bytes, static_cast<std::size_t>(received));
      if (call.incoming.size() > kAnswerBytesMax) {
        fail(call, "the control plane's answer is too large");
        return;
      }
      continue;
    }
    // An error ends the answer as well: what came before it is all of it when the control plane did not read the body.
    if (received == 0 || (errno != EAGAIN && errno != EINTR)) finish(call, received == 0);
    return;
  }
}

Pending* ControlProxy::find_pending(const ControlCall& call, Connection*& connection) noexcept {
  connection = loop_.find(call.connection, call.generation);
  if (connection == nullptr) return nullptr;
  Pending& pending = connection->slot(call.request);
  const bool waits = pending.state == Pending::State::kControl || pending.state == Pending::State::kStream;
  return pending.id == call.request && waits ? &pending : nullptr;
}

bool ControlProxy::has_whole_answer(const ControlCall& call) noexcept {
  const std::string_view answer = call.incoming;
  const std::size_t head_end = answer.find("\r\n\r\n");
  return head_end != std::string_view::npos && is_whole(answer.substr(0, head_end), answer.substr(head_end + 4), false);
}

// The answer has ended.
void ControlProxy::finish(ControlCall& call, bool closed_cleanly) {
  const std::string_view answer = call.incoming;
  const std::size_t head_end = answer.find("\r\n\r\n");
  unsigned status = 0;
  if (head_end == std::string_view::npos || answer.size() < 13 || !answer.starts_with("HTTP/1.") ||
      std::from_chars(answer.data() + 9, answer.data() + 12, status).ec != std::errc{} || status < 200 ||
      status > 599) {
    fail(call, "the control plane's answer was cut off");
    return;
  }
  Connection* connection = nullptr;
  Pending* pending = find_pending(call, connection);
  if (pending == nullptr) {
    close(call);
    return;
  }
  if (!pending->head_only && status != 304 &&
      !is_whole(answer.substr(0, head_end), answer.substr(head_end + 4), closed_cleanly)) {
    fail(call, "the control plane's answer was cut off");
    return;
  }
  relay(call, *connection, *pending, status);
  close(call);
}

// Gives the answer the data plane's framing and sends it on.
void ControlProxy::relay(ControlCall& call, Connection& connection, Pending& pending, unsigned status) {
  if (call.stream) session_.stop_body(connection, pending);
  const std::string_view answer = call.incoming;
  const std::size_t head_end = answer.find("\r\n\r\n");
  const std::size_t line_end = answer.find("\r\n");
  const std::string_view body = answer.substr(head_end + 4);
  std::string text(answer.substr(0, line_end));
  text.replace(0, 8, "HTTP/1.1").append("\r\n");
  for_each_field(answer.substr(line_end + 2, head_end - line_end),
                 [&](std::string_view name, std::string_view, std::string_view line) {
                   if (equals_ignoring_case(name, "connection") || equals_ignoring_case(name, "transfer-encoding") ||
                       equals_ignoring_case(name, "x-request-id")) {
                     return;
                   }
                   if (equals_ignoring_case(name, "content-length") && !pending.head_only) return;
                   text.append(line).append("\r\n");
                 });
  text.append("X-Request-Id: ").append(pending.request_id()).append("\r\n");
  if (!pending.head_only && status != 204 && status != 304)
    text.append("Content-Length: ").append(std::to_string(body.size())).append("\r\n");
  if (pending.cors != nullptr) text.append(pending.cors->fields);
  if (pending.varies) text.append(kVaryEncoding);
  if (!pending.keep_alive) text.append("Connection: close\r\n");
  text.append("\r\n");
  if (!pending.head_only) text.append(body);
  if (text.size() > kConnectionBytes) {
    // A client may ask for many of them and read none.
    pending.reply = loop_.engine.pool.try_acquire(text.size());
    if (!pending.reply) {
      Problem problem;
      problem.set(ProblemCode::kMemoryExhausted, "no memory is left for the answer of %zu bytes", text.size());
      session_.refuse(connection, pending, problem);
      return;
    }
  }
  loop_.stats.responses[status].add();
  char* out = session_.begin_reply(connection, pending, text.size());
  std::memcpy(out, text.data(), text.size());
  session_.end_reply(connection, pending, text.size());
}

void ControlProxy::fail(ControlCall& call, const char* what) {
  loop_.stats.control_failed.add();
  Connection* connection = nullptr;
  if (Pending* pending = find_pending(call, connection)) {
    if (call.stream) session_.stop_body(*connection, *pending);
    Problem problem;
    problem.set(ProblemCode::kControlPlaneUnavailable, "%s", what);
    session_.refuse(*connection, *pending, problem);
  }
  close(call);
}

void ControlProxy::close(ControlCall& call) {
  if (call.stream) {
    --streams_;
    if (Connection* const connection = loop_.find(call.connection, call.generation))
      session_.detach(*connection, connection->slot(call.request), *call.stream);
  }
  call.kind = WatchKind::kClosed;
  if (std::erase(waiting_, &call) != 0) return;
  if (call.fd >= 0) {
    ::epoll_ctl(loop_.epoll, EPOLL_CTL_DEL, call.fd, nullptr);  // as for a connection: close() alone may not do it
    ::close(call.fd);
  }
  call.fd = -1;
  --active_;
  loop_.stats.control_active.sub();
}

void ControlProxy::start_waiting() {
  while (!waiting_.empty() && active_ < kControlCallsMax) {
    ControlCall& call = *waiting_.front();
    waiting_.erase(waiting_.begin());
    if (!connect(call)) fail(call, "the control plane cannot be reached");
  }
}

void ControlProxy::recycle_closed() {
  if (calls_.empty()) return;
  start_waiting();
  std::erase_if(calls_, [](const std::unique_ptr<ControlCall>& call) { return call->kind == WatchKind::kClosed; });
}

}  // namespace penstock::dataplane
