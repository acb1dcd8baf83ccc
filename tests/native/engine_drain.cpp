// What was sent before a server drains is answered, whether the server had looked at it yet or not.
#include "engine_fixture.hpp"

namespace {

using penstock::dataplane::Engine;
using penstock::dataplane::EngineOptions;
using penstock::test::Client;

constexpr std::size_t kConnections = 100;
constexpr std::string_view kHealth = "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n";

// The kernel has accepted them, and no loop has. To close the queue that they are in would reset them.
void in_the_listeners_queue() {
  EngineOptions options;
  options.io_threads = 2;
  Engine engine(std::move(options));
  const std::uint16_t port = engine.listen_tcp("127.0.0.1", 0);
  std::vector<std::unique_ptr<Client>> clients;
  for (std::size_t i = 0; i < kConnections; ++i) {
    clients.push_back(std::make_unique<Client>(port));
    clients.back()->send(kHealth);
  }
  const Client silent(port);
  engine.drain();
  engine.start();
  for (const auto& client : clients) {
    std::string body;
    CHECK(client->receive_reply(body) == 200);
  }
  while (!engine.drained()) std::this_thread::yield();
  engine.stop();
}

}  // namespace

int main() {
  in_the_listeners_queue();
  return 0;
}
