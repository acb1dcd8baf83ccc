#include "connection.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace penstock::loadgen {

Connection::Connection(Connection&& other) noexcept
    : is_queued(other.is_queued),
      fd_(std::exchange(other.fd_, -1)),
      state_(std::exchange(other.state_, State::kClosed)),
      unsent_(std::move(other.unsent_)),
      awaited_(std::move(other.awaited_)),
      reader_(std::move(other.reader_)) {}

bool Connection::open(const Endpoint& endpoint) {
  close();
  const int family = endpoint.address.ss_family;
  fd_ = ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return false;
  if (family != AF_UNIX) {
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  state_ = State::kConnecting;
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&endpoint.address), endpoint.bytes) == 0) {
    state_ = State::kOpen;
    return true;
  }
  if (errno == EINPROGRESS) return true;
  close();  // a Unix socket whose backlog is full says EAGAIN: the caller tries again later
  return false;
}

bool Connection::finish_connecting() noexcept {
  int error = 0;
  socklen_t bytes = sizeof error;
  if (::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0 || error != 0) return false;
  state_ = State::kOpen;
  return true;
}

void Connection::close() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
  state_ = State::kClosed;
  unsent_.clear();
  awaited_.clear();
  reader_.reset();
}

bool Connection::send(std::string_view request, std::size_t record) {
  awaited_.push_back(record);
  unsent_.push_back(request);
  return unsent_.size() > 1 || flush();
}

bool Connection::flush() noexcept {
  while (!unsent_.empty()) {
    std::string_view& bytes = unsent_.front();
    const ssize_t sent = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN || errno == EINTR;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
    if (bytes.empty()) unsent_.pop_front();
  }
  return true;
}

Connection::ReadResult Connection::receive(char* buffer, std::size_t bytes, std::string_view& received) noexcept {
  const ssize_t count = ::recv(fd_, buffer, bytes, 0);
  if (count > 0) {
    received = {buffer, static_cast<std::size_t>(count)};
    return ReadResult::kReply;
  }
  if (count < 0 && (errno == EAGAIN || errno == EINTR)) return ReadResult::kNothing;
  return ReadResult::kClosed;
}

Connection::ReadResult Connection::next_reply(std::string_view& received, Reply& reply) {
  if (received.empty()) return ReadResult::kNothing;
  switch (reader_.read(received, reply)) {
    case ReplyReader::Result::kReply:
      // A reply that nobody asked for: this stream and its requests no longer fit together.
      return awaited_.empty() ? ReadResult::kNotHttp : ReadResult::kReply;
    case ReplyReader::Result::kNeedMore:
      return ReadResult::kNothing;
    default:
      return ReadResult::kNotHttp;
  }
}

Connection::ReadResult Connection::last_reply(Reply& reply) {
  const bool is_whole = !awaited_.empty() && reader_.read_end(reply) == ReplyReader::Result::kReply;
  return is_whole ? ReadResult::kReply : ReadResult::kClosed;
}

}  // namespace penstock::loadgen
