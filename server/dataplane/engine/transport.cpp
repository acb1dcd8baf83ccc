#include "engine/transport.hpp"

namespace penstock::dataplane {

ssize_t tls_recv(Connection& connection, char* data, std::size_t bytes) noexcept {
  return connection.tls->receive(data, bytes);
}

ssize_t tls_send(Connection& connection, const char* data, std::size_t bytes) noexcept {
  return connection.tls->send(data, bytes);
}

}  // namespace penstock::dataplane
