// Connections are spread over the I/O loops evenly, however they arrive and whichever of them end.
#include <array>

#include "engine_fixture.hpp"

namespace {

using penstock::dataplane::EngineOptions;
using penstock::test::Client;
using penstock::test::Server;

constexpr std::uint32_t kLoops = 4;
constexpr std::size_t kConnections = 64;
constexpr std::string_view kHealth = "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n";

void ask(Client& client) {
  client.send(kHealth);
  std::string body;
  CHECK(client.receive_reply(body) == 200);
}

std::array<std::uint64_t, kLoops> open_connections(Server& server) {
  std::array<std::uint64_t, kLoops> open{};
  for (std::uint32_t i = 0; i < kLoops; ++i) open[i] = server.engine().loops()[i]->stats().connections_open.get();
  return open;
}

}  // namespace

int main() {
  EngineOptions options;
  options.io_threads = kLoops;
  Server server(options);
  constexpr std::array<std::uint64_t, kLoops> kEven{16, 16, 16, 16};

  // A burst: all are connected before anybody is answered.
  std::vector<std::unique_ptr<Client>> clients;
  for (std::size_t i = 0; i < kConnections; ++i) clients.push_back(std::make_unique<Client>(server.port()));
  for (const auto& client : clients) ask(*client);
  CHECK(open_connections(server) == kEven);

  // Which loop a client went to is not its to know, so some go at random; who comes then fills the gaps.
  for (std::size_t i = 0; i < kConnections; i += 3) clients[i].reset();
  const auto total = [&server] {
    std::uint64_t sum = 0;
    for (const std::uint64_t open : open_connections(server)) sum += open;
    return sum;
  };
  while (total() != kConnections - (kConnections + 2) / 3) std::this_thread::yield();
  for (auto& client : clients) {
    if (client == nullptr) client = std::make_unique<Client>(server.port());
  }
  for (const auto& client : clients) ask(*client);
  CHECK(open_connections(server) == kEven);

  server.engine().drain();
  while (!server.engine().drained()) std::this_thread::yield();
  CHECK(total() == 0);
  return 0;
}
