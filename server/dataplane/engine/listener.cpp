#include "engine/listener.hpp"

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>

namespace penstock::dataplane {
namespace {

constexpr int kBacklog = 4096;

[[noreturn]] void fail(int error, const std::string& what) {
  throw std::system_error(error, std::generic_category(), what);
}

// Owns the descriptor until release(): every failure below closes it.
class Socket {
 public:
  explicit Socket(int family) : fd_(::socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)) {
    if (fd_ < 0) fail(errno, "socket");
  }
  ~Socket() {
    if (fd_ >= 0) ::close(fd_);
  }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;
  [[nodiscard]] int fd() const noexcept { return fd_; }
  int release() noexcept {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void listen(const sockaddr* address, socklen_t bytes, const std::string& what) {
    if (::bind(fd_, address, bytes) != 0 || ::listen(fd_, kBacklog) != 0) fail(errno, what);
  }

 private:
  int fd_;
};

std::uint16_t port_of(int fd) {
  sockaddr_storage address{};
  socklen_t bytes = sizeof address;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &bytes) != 0) fail(errno, "getsockname");
  if (address.ss_family == AF_INET6) return ntohs(reinterpret_cast<sockaddr_in6&>(address).sin6_port);
  return ntohs(reinterpret_cast<sockaddr_in&>(address).sin_port);
}

}  // namespace

BoundSocket listen_tcp(const std::string& host, std::uint16_t port) {
  addrinfo hints{};
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE | AI_NUMERICSERV;
  addrinfo* found = nullptr;
  const int error = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), std::to_string(port).c_str(), &hints, &found);
  if (error != 0) fail(EADDRNOTAVAIL, host + ": " + ::gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> addresses(found, &::freeaddrinfo);

  Socket socket(addresses->ai_family);
  const int on = 1;
  ::setsockopt(socket.fd(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  // "::" serves IPv4 as well, whatever the system's default is.
  const int off = 0;
  if (addresses->ai_family == AF_INET6) ::setsockopt(socket.fd(), IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
  socket.listen(addresses->ai_addr, addresses->ai_addrlen, host + ":" + std::to_string(port));
  const std::uint16_t bound = port_of(socket.fd());
  return {socket.release(), bound};
}

BoundSocket listen_unix(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) fail(ENAMETOOLONG, path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const auto* generic = reinterpret_cast<const sockaddr*>(&address);
  {
    // A file left behind by a server that was killed refuses connections; a live one takes them.
    const Socket probe(AF_UNIX);
    if (::connect(probe.fd(), generic, sizeof address) == 0) fail(EADDRINUSE, path);
    const int error = errno;
    struct stat file{};
    // A file that is no socket refuses connections too, and is none of ours.
    if (error == ECONNREFUSED && ::lstat(path.c_str(), &file) == 0 && S_ISSOCK(file.st_mode)) ::unlink(path.c_str());
  }
  Socket socket(AF_UNIX);
  socket.listen(generic, sizeof address, path);
  return {socket.release(), 0};
}

}  // namespace penstock::dataplane
