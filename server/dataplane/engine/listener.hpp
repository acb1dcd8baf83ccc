// Listening sockets: TCP over IPv4 and IPv6, and Unix.
#pragma once

#include <cstdint>
#include <string>

namespace penstock::dataplane {

struct BoundSocket {
  int fd = -1;
  std::uint16_t port = 0;  // 0 for a Unix socket
};

// Binds and listens, non-blocking. `port` 0 takes a free one. std::system_error: EADDRINUSE, EACCES, an address nobody
// has.
[[nodiscard]] BoundSocket listen_tcp(const std::string& host, std::uint16_t port);
// A socket file that nobody listens on is replaced; EADDRINUSE when somebody does.
[[nodiscard]] BoundSocket listen_unix(const std::string& path);

}  // namespace penstock::dataplane
