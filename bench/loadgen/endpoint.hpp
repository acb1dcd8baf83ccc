// Where a server answers.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>

namespace penstock::loadgen {

struct Endpoint {
  sockaddr_storage address{};
  socklen_t bytes = 0;
};

// std::runtime_error when the name is unknown.
[[nodiscard]] Endpoint resolve_tcp(const std::string& host, std::uint16_t port);
// std::invalid_argument when the path is too long.
[[nodiscard]] Endpoint resolve_unix(const std::string& path);

}  // namespace penstock::loadgen
