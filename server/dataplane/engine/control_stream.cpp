#include "engine/control_stream.hpp"

#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstring>

#include "engine/control_proxy.hpp"
#include "http/fields.hpp"

namespace penstock::dataplane {
namespace {

constexpr std::size_t kWindowBytes = 64 * 1024;  // of a body, beside what the sockets hold
constexpr std::size_t kAnswerHeadBytesMax = 12 * 1024;
constexpr std::size_t kFrameBytesMax = 32;           // around a chunk, and the last one
constexpr std::size_t kPulledBytesMax = 128 * 1024;  // in a pass: the other connections have their turn

std::size_t write_size(char* out, std::size_t bytes) {
  const auto result = std::to_chars(out, out + 16, bytes, 16);
  std::memcpy(result.ptr, "\r\n", 2);
  return static_cast<std::size_t>(result.ptr - out) + 2;
}

}  // namespace

// --- the body
// ---------------------------------------------------------------------------------------------------------------------

std::size_t ControlStream::room() const noexcept {
  const std::size_t waiting = call_.outgoing.size() - call_.sent;
  return refuses_body_ || waiting >= kWindowBytes ? 0 : kWindowBytes - waiting;
}

void ControlStream::take(std::string_view bytes) {
  char size[kFrameBytesMax];
  call_.outgoing.append(size, write_size(size, bytes.size())).append(bytes).append("\r\n");
  if (call_.fd >= 0) watch(interest_ | EPOLLOUT);
}

void ControlStream::end() {
  body_ended_ = true;
  call_.outgoing.append("0\r\n\r\n");
  if (call_.fd >= 0) watch(interest_ | EPOLLOUT);
}

void ControlStream::send() {
  while (!refuses_body_ && call_.sent < call_.outgoing.size()) {
    const ssize_t sent =
        ::send(call_.fd, call_.outgoing.data() + call_.sent, call_.outgoing.size() - call_.sent, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EINTR) continue;
      if (errno == EAGAIN) break;
      refuses_body_ = true;  // maybe it has answered already
      break;
    }
    call_.sent += static_cast<std::size_t>(sent);
  }
  if (refuses_body_ || call_.sent == call_.outgoing.size()) {
    call_.outgoing.clear();
    call_.sent = 0;
    watch(interest_ & ~static_cast<std::uint32_t>(EPOLLOUT));
  }
  Connection* connection = nullptr;
  Pending* const pending = proxy_.find_pending(call_, connection);
  if (pending == nullptr) return;
  proxy_.session_.note_progress(*pending);
  if (call_.sent >= kWindowBytes / 2) {
    call_.outgoing.erase(0, call_.sent);
    call_.sent = 0;
  }
  if (!body_ended_ && room() > 0) proxy_.session_.resume_body(*connection, *pending);
}

// --- the answer
// -------------------------------------------------------------------------------------------------------------------

void ControlStream::on_event(std::uint32_t events) {
  if ((events & EPOLLOUT) != 0) send();
  if (call_.fd < 0 || (events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) return;
  if (answer_ == Answer::kHead) receive_head();
  if (call_.fd < 0) return;
  if (answer_ == Answer::kWhole) {
    proxy_.receive(call_);
    // It may go on reading the body otherwise, as long as nobody ends the call.
    if (call_.fd >= 0 && proxy_.has_whole_answer(call_)) proxy_.finish(call_, true);
    return;
  }
  if (answer_ == Answer::kHead) return;
  Connection* connection = nullptr;
  Pending* const pending = proxy_.find_pending(call_, connection);
  if (pending == nullptr) return;
  // The client takes nothing at the moment, or on a stream of HTTP/2 nobody knows before it is asked for more. An end
  // would be reported again and again: it is not listened to.
  if (!connection->writable || connection->http2) {
    watch((events & (EPOLLHUP | EPOLLERR)) != 0 ? 0 : interest_ & ~static_cast<std::uint32_t>(EPOLLIN));
  }
  proxy_.session_.resume_answer(*connection, *pending);
}

void ControlStream::receive_head() {
  char bytes[kAnswerHeadBytesMax];
  const ssize_t received = ::recv(call_.fd, bytes, sizeof bytes, 0);
  if (received < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (received <= 0) {
    proxy_.finish(call_, received == 0);
    return;
  }
  call_.incoming.append(bytes, static_cast<std::size_t>(received));
  const std::size_t head_end = call_.incoming.find("\r\n\r\n");
  if (head_end == std::string::npos) {
    if (call_.incoming.size() > kAnswerHeadBytesMax)
      proxy_.fail(call_, "the head of the control plane's answer is too long");
    return;
  }
  bool in_pieces = false;
  for_each_field(std::string_view(call_.incoming).substr(0, head_end), [&](std::string_view name,
                                                                           std::string_view value, std::string_view) {
    in_pieces =
        in_pieces || (equals_ignoring_case(name, "transfer-encoding") && equals_ignoring_case(value, "chunked"));
  });
  answer_ = in_pieces ? Answer::kPieces : Answer::kWhole;
  if (!in_pieces) return;
  Connection* connection = nullptr;
  Pending* const pending = proxy_.find_pending(call_, connection);
  if (pending == nullptr) {
    proxy_.close(call_);
  } else if (!relay_head(*connection, *pending, head_end)) {
    proxy_.fail(call_, "the control plane's answer has no head that can be relayed");
  } else {
    call_.incoming.erase(0, head_end + 4);
  }
}

bool ControlStream::relay_head(Connection& connection, Pending& pending, std::size_t head_end) {
  const std::string_view answer = call_.incoming;
  unsigned status = 0;
  if (answer.size() < 13 || !answer.starts_with("HTTP/1.1 ") ||
      std::from_chars(answer.data() + 9, answer.data() + 12, status).ec != std::errc{} || status < 200 ||
      status > 599) {
    return false;
  }
  const std::size_t line_end = answer.find("\r\n");
  std::string text(answer.substr(0, line_end + 2));
  for_each_field(answer.substr(line_end + 2, head_end - line_end), [&](std::string_view name, std::string_view,
                                                                       std::string_view line) {
    for (const std::string_view own : {"connection", "transfer-encoding", "content-length", "x-request-id"}) {
      if (equals_ignoring_case(name, own)) return;
    }
    text.append(line).append("\r\n");
  });
  text.append("X-Request-Id: ").append(pending.request_id()).append("\r\n");
  if (!pending.http_1_0) text.append("Transfer-Encoding: chunked\r\n");
  if (pending.cors != nullptr) text.append(pending.cors->fields);
  if (!pending.keep_alive) text.append("Connection: close\r\n");
  text.append("\r\n");
  if (!proxy_.session_.begin_streamed_reply(connection, pending, text)) return false;
  proxy_.session_.note_progress(pending);
  proxy_.loop_.stats.responses[status].add();
  return true;
}

bool ControlStream::pull() {
  Connection* found = nullptr;
  Pending* const pending = proxy_.find_pending(call_, found);
  if (pending == nullptr || call_.fd < 0) return false;
  Connection& connection = *found;
  Buffer& out = connection.out;
  char piece[kConnectionBytes];
  const Piece got = read(piece, out.space() - kFrameBytesMax);
  if (got.progress == Progress::kBroken) {
    proxy_.session_.cut(connection);  // which abandons the call
    return false;
  }
  if (got.progress == Progress::kNothing) return false;
  char* at = out.data + out.end;
  if (got.bytes > 0) {
    if (!pending->http_1_0) at += write_size(at, got.bytes);
    std::memcpy(at, piece, got.bytes);
    at += got.bytes;
    if (!pending->http_1_0) at = std::copy_n("\r\n", 2, at);
  }
  const bool ended = got.progress == Progress::kEnded;
  if (ended && !pending->http_1_0) at = std::copy_n("0\r\n\r\n", 5, at);
  out.end = static_cast<std::size_t>(at - out.data);
  if (ended) finish(connection, *pending);
  return true;
}

BodyStream::Piece ControlStream::read(char* out, std::size_t room) {
  Connection* connection = nullptr;
  Pending* const pending = proxy_.find_pending(call_, connection);
  if (pending == nullptr || call_.fd < 0) return {0, Progress::kBroken};
  if (pass_ns_ != proxy_.loop_.now_ns) {
    pass_ns_ = proxy_.loop_.now_ns;
    pulled_ = 0;
  }
  while (pulled_ < kPulledBytesMax) {
    const Piece piece = read_piece(out, room);
    Problem problem;
    const ChunkedDecoder::Step step = chunks_.decode(out, piece.bytes, problem);
    if (piece.progress == Progress::kBroken || step.status == ParseStatus::kRefused) {
      proxy_.loop_.stats.control_failed.add();
      return {0, Progress::kBroken};
    }
    if (piece.progress == Progress::kNothing) return piece;
    pulled_ += piece.bytes;
    proxy_.session_.note_progress(*pending);
    if (step.status == ParseStatus::kComplete) return {step.produced, Progress::kEnded};
    if (step.produced > 0) return {step.produced, Progress::kMore};
  }
  watch(interest_ | EPOLLIN);
  return {0, Progress::kNothing};
}

BodyStream::Piece ControlStream::read_piece(char* data, std::size_t bytes_max) {
  if (!call_.incoming.empty()) {  // came with the head
    const std::size_t bytes = std::min(bytes_max, call_.incoming.size());
    std::memcpy(data, call_.incoming.data(), bytes);
    call_.incoming.erase(0, bytes);
    return {bytes, Progress::kMore};
  }
  for (;;) {
    const ssize_t received = ::recv(call_.fd, data, bytes_max, 0);
    if (received > 0) return {static_cast<std::size_t>(received), Progress::kMore};
    if (received < 0 && errno == EINTR) continue;
    if (received == 0 || errno != EAGAIN) return {0, Progress::kBroken};  // it has not said that this was all
    watch(interest_ | EPOLLIN);
    return {0, Progress::kNothing};
  }
}

void ControlStream::finish(Connection& connection, Pending& pending) {
  proxy_.session_.end_streamed_reply(connection, pending);
  proxy_.close(call_);
}

void ControlStream::watch(std::uint32_t interest) {
  if (interest == interest_) return;
  const int operation = interest == 0 ? EPOLL_CTL_DEL : interest_ == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
  interest_ = interest;
  epoll_event event{.events = interest, .data = {.ptr = static_cast<Watch*>(&call_)}};
  ::epoll_ctl(proxy_.loop_.epoll, operation, call_.fd, &event);
}

}  // namespace penstock::dataplane
