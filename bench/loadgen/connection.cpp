#include "connection.hpp"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

namespace penstock::loadgen {
namespace {

// Requests that one call writes: pipelined ones cost a third of what they cost one by one.
constexpr std::size_t kPieces = 64;

}  // namespace

int Connection::open(const Endpoint& to) {
  close();
  has_answered = false;
  const int family = to.address.ss_family;
  fd_ = ::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return errno;
  if (family != AF_UNIX) {
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  }
  state_ = State::kConnecting;
  if (::connect(fd_, reinterpret_cast<const sockaddr*>(&to.address), to.bytes) == 0) {
    state_ = State::kOpen;
    return 0;
  }
  if (errno == EINPROGRESS) return 0;
  const int error = errno;  // EAGAIN of a Unix socket whose backlog is full: the caller tries again later
  close();
  return error;
}

int Connection::finish_connecting() noexcept {
  int error = 0;
  socklen_t bytes = sizeof error;
  if (::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &bytes) != 0) return errno;
  if (error == 0) state_ = State::kOpen;
  return error;
}

void Connection::close() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
  state_ = State::kClosed;
  unsent_.clear();
  awaited_.clear();
  reader_.reset();
}

void Connection::add(std::string_view request, std::size_t record) {
  awaited_.push_back(record);
  unsent_.push_back(request);
}

bool Connection::flush() noexcept {
  while (!unsent_.empty()) {
    std::array<iovec, kPieces> pieces;
    const std::size_t count = std::min(unsent_.size(), kPieces);
    for (std::size_t i = 0; i < count; ++i) pieces[i] = {const_cast<char*>(unsent_[i].data()), unsent_[i].size()};
    msghdr message{};
    message.msg_iov = pieces.data();
    message.msg_iovlen = count;
    const ssize_t sent = ::sendmsg(fd_, &message, MSG_NOSIGNAL);
    if (sent < 0) return errno == EAGAIN;  // a socket that never waits is never interrupted
    auto left = static_cast<std::size_t>(sent);
    while (!unsent_.empty() && left >= unsent_.front().size()) {
      left -= unsent_.front().size();
      unsent_.pop_front();
    }
    if (left > 0) unsent_.front().remove_prefix(left);
  }
  return true;
}

Connection::ReadResult Connection::receive(char* buffer, std::size_t bytes, std::string_view& received) noexcept {
  const ssize_t count = ::recv(fd_, buffer, bytes, 0);
  if (count > 0) {
    received = {buffer, static_cast<std::size_t>(count)};
    return ReadResult::kReply;
  }
  if (count == 0) return ReadResult::kClosed;
  return errno == EAGAIN ? ReadResult::kNothing : ReadResult::kReset;
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
