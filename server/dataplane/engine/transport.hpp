// Bytes of a connection, encrypted or not.
#pragma once

#include <sys/socket.h>
#include <sys/types.h>

#include <cstddef>

#include "engine/connection.hpp"

namespace penstock::dataplane {

// Apart, so that they cost a connection without TLS nothing but the branch.
[[nodiscard]] ssize_t tls_recv(Connection& connection, char* data, std::size_t bytes) noexcept;
[[nodiscard]] ssize_t tls_send(Connection& connection, const char* data, std::size_t bytes) noexcept;

[[nodiscard]] inline ssize_t transport_recv(Connection& connection, char* data, std::size_t bytes) noexcept {
  if (connection.tls) [[unlikely]]
    return tls_recv(connection, data, bytes);
  return ::recv(connection.fd, data, bytes, 0);
}

[[nodiscard]] inline ssize_t transport_send(Connection& connection, const char* data, std::size_t bytes) noexcept {
  if (connection.tls) [[unlikely]]
    return tls_send(connection, data, bytes);
  return ::send(connection.fd, data, bytes, MSG_NOSIGNAL);
}

}  // namespace penstock::dataplane
