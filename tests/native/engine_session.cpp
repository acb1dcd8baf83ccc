// The rules of a connection's life, one by one: interim replies, waiting for memory, lengths that overflow, descriptors
// that a forked child holds.
#include <sys/wait.h>

#include "engine_fixture.hpp"

namespace {

using penstock::dataplane::Engine;
using penstock::dataplane::EngineOptions;
using penstock::test::Client;
using penstock::test::Server;

constexpr std::string_view kHealth = "GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n";
constexpr std::string_view kLive = "{\"status\":\"live\"}";

// What was sent to the (only) loop before this call has been read when it returns.
void settle(std::uint16_t port) {
  for (int i = 0; i < 2; ++i) {
    Client client(port);
    client.send(kHealth);
    std::string body;
    CHECK(client.receive_reply(body) == 200 && body == kLive);
  }
}

std::string upload(std::size_t bytes, std::string_view fields = {}) {
  return "POST /predict?model=large HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\nContent-Length: " +
         std::to_string(bytes) + "\r\n" + std::string(fields) + "\r\n";
}

void expect_text(Client& client, std::string_view text) {
  std::string got(text.size(), '\0');
  client.receive(got.data(), got.size());
  CHECK(got == text);
}

// A client that did not wait for its 100 Continue gets none after the final reply.
void late_continue() {
  Server server;
  const std::uint32_t idle = server.engine().add_ring("idle", "1", [] {
    penstock::batcher::RingConfig config;
    config.schema = {penstock::RowLayout({{"x", penstock::DType::kFloat32, {1}}}),
                     penstock::RowLayout({{"y", penstock::DType::kFloat32, {1}}})};
    return config;
  }());
  server.engine().publish({{"small", "1", 0, true, true}, {"idle", "1", idle, true, true}});
  Client client(server.port());
  // Nobody serves "idle": its deadline is the answer, and meanwhile the next request cannot be answered.
  client.send(
      "POST /predict?model=idle HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
      "X-Request-Timeout-Ms: 300\r\nContent-Length: 4\r\n\r\n....");
  client.send(
      "POST /predict?model=small HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
      "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n");
  settle(server.port());
  client.send("abc");
  std::string body;
  CHECK(client.receive_reply(body) == 504);
  CHECK(client.receive_reply(body) == 422);
  client.send(kHealth);
  expect_text(client, "HTTP/1.1 200");
}

// The first in line for memory is refused in time as well.
void memory_wait_ends() {
  EngineOptions options;
  options.body_pool_bytes = 64 * 1024;
  options.body_timeout_ms = 200;
  Server server(options);
  Client holder(server.port());
  holder.send(upload(60'000));  // has 200 ms and a millisecond for 64 bytes: longer than who waits
  settle(server.port());
  Client waiter(server.port());
  waiter.send(upload(20'000));
  std::string body;
  CHECK(waiter.receive_reply(body) == 503);
}

// Who comes later waits behind who needs more, and who has gone keeps no place.
void memory_is_given_in_order() {
  EngineOptions options;
  options.body_pool_bytes = 90'000;
  Server server(options);
  const auto& waits = server.engine().loops()[0]->stats().memory_waits;
  auto holder = std::make_unique<Client>(server.port());
  holder->send(upload(60'000));
  settle(server.port());
  Client large(server.port());
  large.send(upload(50'000, "Expect: 100-continue\r\n"));
  settle(server.port());
  CHECK(waits.get() == 1);
  Client small(server.port());
  small.send(upload(20'000, "Expect: 100-continue\r\n"));
  settle(server.port());
  CHECK(waits.get() >= 2);
  holder.reset();
  expect_text(large, "HTTP/1.1 100 Continue\r\n\r\n");
  expect_text(small, "HTTP/1.1 100 Continue\r\n\r\n");
}

// A request that the server does not read at the moment is not late.
void unread_request_is_not_late() {
  EngineOptions options;
  options.head_timeout_ms = 500;
  Server server(options);
  const std::uint32_t idle = server.engine().add_ring("idle", "1", [] {
    penstock::batcher::RingConfig config;
    config.schema = {penstock::RowLayout({{"x", penstock::DType::kFloat32, {Server::kLargeElements}}}),
                     penstock::RowLayout({{"y", penstock::DType::kFloat32, {Server::kLargeElements}}})};
    return config;
  }());
  server.engine().publish({{"small", "1", 0, true, true}, {"idle", "1", idle, true, true}});
  Client client(server.port());
  // While a decode thread has the first body, the second request is read in part; then the reply owed is too large.
  client.send(
      "POST /predict?model=idle HTTP/1.1\r\nHost: a\r\nContent-Type: application/octet-stream\r\n"
      "X-Request-Timeout-Ms: 1200\r\nContent-Length: 400000\r\n\r\n" +
      std::string(400'000, 'x') + std::string(kHealth.substr(0, 20)));
  std::string body;
  CHECK(client.receive_reply(body) == 504);
  client.send(kHealth.substr(20));
  CHECK(client.receive_reply(body) == 200);
}

void huge_length() {
  Server server;
  for (const char* length : {"18446744073709551615", "18446744073709551500", "9223372036854775808"}) {
    Client client(server.port());
    client.send(std::string("POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: ") + length + "\r\n\r\n");
    client.send(kHealth);
    std::string body;
    CHECK(client.receive_reply(body) == 413);
    char byte = 0;
    CHECK(::recv(client.fd(), &byte, 1, 0) == 0);
  }
}

// Before there is any model, the size of a body is not what is wrong with it.
void body_before_models() {
  Engine engine({});
  const std::uint16_t port = engine.listen_tcp("127.0.0.1", 0);
  engine.start();
  Client client(port);
  client.send("POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n");
  std::string body;
  CHECK(client.receive_reply(body) == 503);
  engine.set_ready(true);
  Client later(port);
  later.send("POST /predict HTTP/1.1\r\nHost: a\r\nContent-Length: 20000\r\n\r\n");
  CHECK(later.receive_reply(body) == 404);
}

// A child that was forked and has not called exec yet holds every descriptor: closing one here ends nothing.
void forked_child_holds_descriptors() {
  Server server;
  auto client = std::make_unique<Client>(server.port());
  client->send("GET /health/live HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  std::string body;
  CHECK(client->receive_reply(body) == 200);
  char byte = 0;
  CHECK(::recv(client->fd(), &byte, 1, 0) == 0);  // the server lingers
  int pipe_fds[2];
  CHECK(::pipe(pipe_fds) == 0);
  const pid_t child = ::fork();
  CHECK(child >= 0);
  if (child == 0) {
    ::close(pipe_fds[1]);
    ::close(client->fd());
    while (::read(pipe_fds[0], &byte, 1) > 0) {
    }
    ::_exit(0);
  }
  ::close(pipe_fds[0]);
  client.reset();
  const auto& open = server.engine().loops()[0]->stats().connections_open;
  for (int i = 0; i < 10'000'000 && open.get() != 0; ++i) std::this_thread::yield();
  CHECK(open.get() == 0);
  // The place of the connection is taken anew: what is still known of the old one must not reach it.
  for (int i = 0; i < 20; ++i) settle(server.port());
  ::close(pipe_fds[1]);
  CHECK(::waitpid(child, nullptr, 0) == child);
}

// Only a socket is replaced: the path of a file must not cost the file.
void listening_spares_files() {
  char path[] = "/tmp/penstock-session-XXXXXX";
  const int fd = ::mkstemp(path);
  CHECK(fd >= 0);
  ::close(fd);
  Engine engine({});
  bool refused = false;
  try {
    engine.listen_unix(path);
  } catch (const std::system_error&) {
    refused = true;
  }
  CHECK(refused);
  CHECK(::access(path, F_OK) == 0);
  ::unlink(path);
}

}  // namespace

int main(int argc, char** argv) {
  struct Case {
    const char* name;
    void (*run)();
  };
  for (const Case& each :
       {Case{"late_continue", late_continue}, Case{"memory_wait_ends", memory_wait_ends},
        Case{"memory_is_given_in_order", memory_is_given_in_order}, Case{"huge_length", huge_length},
        Case{"unread_request_is_not_late", unread_request_is_not_late}, Case{"body_before_models", body_before_models},
        Case{"forked_child_holds_descriptors", forked_child_holds_descriptors},
        Case{"listening_spares_files", listening_spares_files}}) {
    if (argc < 2 || std::string_view(argv[1]) == each.name) each.run();
  }
  return 0;
}
