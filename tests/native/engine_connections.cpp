// Connections as they come: pipelines cut at random bytes, clients that vanish, clients that do not read, large rows
// beside small ones. Forbidden outcomes: an answer to another request, answers out of order, a missing answer, a reply
// that is cut.
#include <cstdio>
#include <random>

#include "engine_fixture.hpp"

namespace {

using penstock::test::Client;
using penstock::test::Server;
using Random = std::mt19937;

struct Expected {
  int status;
  std::string body;  // empty: not compared
};

std::string number(int value) { return std::to_string(value) + ".0"; }

// One request of a random kind, and what must come back.
std::string make_request(Random& random, Expected& expected) {
  const int x = static_cast<int>(random() % 100000);
  const std::string body = "{\"model\":\"small\",\"inputs\":[" + std::to_string(x) + ",1,2,3]}";
  expected = {200,
              "{\"model\":\"small\",\"version\":\"1\",\"outputs\":{\"y\":[" + number(2 * x + 1) + ",3.0,5.0,7.0]}}"};
  const std::string head = "POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n";
  switch (random() % 6) {
    case 0: {  // chunked, in two pieces
      char first[16];
      char second[16];
      std::snprintf(first, sizeof first, "%x", 10u);
      std::snprintf(second, sizeof second, "%zx", body.size() - 10);
      return head + "Transfer-Encoding: chunked\r\n\r\n" + first + "\r\n" + body.substr(0, 10) + "\r\n" + second +
             "\r\n" + body.substr(10) + "\r\n0\r\n\r\n";
    }
    case 1:
      expected = {422, ""};
      return head + "Content-Length: 32\r\n\r\n{\"model\":\"small\",\"inputs\":[1,2]}";
    case 2:
      expected = {200, "{\"status\":\"live\"}"};
      return "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n";
    case 3: {  // raw both ways
      float row[4] = {static_cast<float>(x), 1, 2, 3};
      float answer[4] = {static_cast<float>(2 * x + 1), 3, 5, 7};
      expected = {200, std::string(reinterpret_cast<const char*>(answer), sizeof answer)};
      return "POST /predict?model=small HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
             "Accept: application/octet-stream\r\nContent-Length: 16\r\n\r\n" +
             std::string(reinterpret_cast<const char*>(row), sizeof row);
    }
    default:
      return head + "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n" + body;
  }
}

void pipelines(std::uint16_t port, unsigned seed, int rounds) {
  Random random(seed);
  Client client(port);
  for (int round = 0; round < rounds; ++round) {
    std::vector<Expected> expected(1 + random() % 60);
    std::string bytes;
    for (Expected& each : expected) bytes += make_request(random, each);
    std::string_view rest = bytes;
    while (!rest.empty()) {
      const std::size_t piece = std::min<std::size_t>(rest.size(), 1 + random() % (random() % 4 == 0 ? 20 : 4000));
      client.send(rest.substr(0, piece));
      rest.remove_prefix(piece);
    }
    for (const Expected& each : expected) {
      std::string body;
      CHECK(client.receive_reply(body) == each.status);
      CHECK(each.body.empty() || body == each.body);
    }
  }
}

// Leaves at a random moment, with requests under way and replies unread.
void vanishing(std::uint16_t port, unsigned seed, int rounds) {
  Random random(seed);
  for (int round = 0; round < rounds; ++round) {
    Client client(port);
    std::string bytes;
    Expected ignored;
    for (unsigned i = 0; i < 1 + random() % 20; ++i) bytes += make_request(random, ignored);
    client.send(std::string_view(bytes).substr(0, random() % bytes.size()));
    char byte = 0;
    if (random() % 2 == 0 && bytes.size() > 2000) static_cast<void>(::recv(client.fd(), &byte, 1, MSG_DONTWAIT));
  }
}

// 400 KB each way, read late: the replies wait in the body pool while small requests pass by on other connections.
void large_rows(std::uint16_t port, unsigned seed, int rounds) {
  Random random(seed);
  Client client(port);
  std::vector<float> row(Server::kLargeElements);
  for (int round = 0; round < rounds; ++round) {
    const std::size_t depth = 1 + random() % 3;
    std::vector<float> firsts;
    for (std::size_t i = 0; i < depth; ++i) {
      firsts.push_back(static_cast<float>(random() % 1000));
      for (std::size_t k = 0; k < row.size(); ++k) row[k] = firsts.back() + static_cast<float>(k % 7);
      client.send(
          "POST /predict?model=large HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
          "Accept: application/octet-stream\r\nContent-Length: 400000\r\n\r\n");
      client.send({reinterpret_cast<const char*>(row.data()), row.size() * sizeof(float)});
    }
    for (std::size_t i = 0; i < depth; ++i) {
      std::string body;
      CHECK(client.receive_reply(body) == 200);
      CHECK(body.size() == row.size() * sizeof(float));
      std::vector<float> answer(row.size());
      std::memcpy(answer.data(), body.data(), body.size());
      for (std::size_t k = 0; k < answer.size(); ++k)
        CHECK(answer[k] == 2 * (firsts[i] + static_cast<float>(k % 7)) + 1);
    }
  }
}

void run(std::uint32_t io_threads) {
  penstock::dataplane::EngineOptions options;
  options.io_threads = io_threads;
  Server server(options);
  const std::uint16_t port = server.port();
  std::vector<std::thread> clients;
  clients.emplace_back([port] { pipelines(port, 1, 150); });
  clients.emplace_back([port] { pipelines(port, 2, 150); });
  clients.emplace_back([port] { pipelines(port, 3, 150); });
  clients.emplace_back([port] { vanishing(port, 4, 300); });
  clients.emplace_back([port] { large_rows(port, 5, 12); });
  for (std::thread& client : clients) client.join();
  for (const auto& loop : server.engine().loops()) CHECK(loop->stats().lost_wakeups.get() == 0);
  // Every block has gone back: nobody is connected any more, or will not be in a moment.
  for (int i = 0; i < 10'000'000 && server.engine().state().pool.bytes_used() != 0; ++i) std::this_thread::yield();
  CHECK(server.engine().state().pool.bytes_used() == 0);
}

}  // namespace

int main() {
  run(1);
  run(3);
  return 0;
}
