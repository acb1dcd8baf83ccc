// Where a server answers.
#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <string>
#include <vector>

namespace penstock::loadgen {

struct Endpoint {
  sockaddr_storage address{};
  socklen_t bytes = 0;
};

// Every address of the name, at least one; std::runtime_error when it is unknown.
[[nodiscard]] std::vector<Endpoint> resolve_tcp(const std::string& host, std::uint16_t port);
// std::invalid_argument when the path is too long.
[[nodiscard]] Endpoint resolve_unix(const std::string& path);

}  // namespace penstock::loadgen
