// The relay to the control plane, against a control plane that hangs, dies, answers early and says too much.
#include "engine_control.hpp"

namespace {

using penstock::dataplane::EngineOptions;
using penstock::dataplane::kControlCallsMax;
using penstock::test::await;
using penstock::test::Client;
using penstock::test::ControlPlane;
using penstock::test::options_for;
using penstock::test::Server;

constexpr std::string_view kModels = "GET /models HTTP/1.1\r\nHost: a\r\n\r\n";

// So many calls, from clients that send sixteen each.
std::vector<std::unique_ptr<Client>> ask_many(std::uint16_t port, std::size_t calls, std::string_view request) {
  std::vector<std::unique_ptr<Client>> clients;
  for (std::size_t i = 0; i < calls; ++i) {
    if (i % 16 == 0) clients.push_back(std::make_unique<Client>(port));
    clients.back()->send(request);
  }
  return clients;
}

// A control plane that never answers is left alone once nobody waits: its places go to the next callers.
void places_of_abandoned_calls() {
  const ControlPlane plane;
  Server server(options_for(plane));
  const auto& active = server.engine().loops()[0]->stats().control_active;
  std::vector<int> calls;
  // The rounds differ: a place that the first gives up may go to its own last callers, before they go too.
  for (const std::string_view start : {"GET /models/a ", "GET /models/b "}) {
    const std::string request = std::string(start) + "HTTP/1.1\r\nHost: a\r\n\r\n";
    const auto clients = ask_many(server.port(), kControlCallsMax + 16, request);  // the last ones wait
    for (std::size_t i = 0; i < kControlCallsMax; ++i) calls.push_back(plane.accept(65536, start));
    CHECK(active.get() == kControlCallsMax);
    // A reset: a client that has only closed its side may still wait for answers.
    const linger reset{.l_onoff = 1, .l_linger = 0};
    for (const auto& client : clients)
      CHECK(::setsockopt(client->fd(), SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0);
  }
  await([&] { return active.get() == 0; });
  for (const int call : calls) ::close(call);
  std::string body;
  Client client(server.port());
  client.send(kModels);
  ControlPlane::answer(plane.accept(65536, "GET /models "), "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]");
  CHECK(client.receive_reply(body) == 200 && body == "[]");
}

// An answer that ends early is not passed on as if it were whole.
void cut_answer() {
  const ControlPlane plane;
  Server server(options_for(plane));
  Client client(server.port());
  for (const std::string_view answer : {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n[]", "HTTP/1.1 200 OK\r\nCon"}) {
    client.send(kModels);
    ControlPlane::answer(plane.accept(), answer);
    std::string body;
    CHECK(client.receive_reply(body) == 502);
  }
}

// A refusal that was sent before the body was read reaches the client. Meanwhile the body counts.
void early_answer() {
  const ControlPlane plane;
  Server server(options_for(plane));
  Client client(server.port());
  constexpr std::size_t kBodyBytes = 4u << 20;
  client.send("POST /models HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(kBodyBytes) + "\r\n\r\n" +
              std::string(kBodyBytes, 'x'));
  const int call = plane.accept(64);
  CHECK(server.engine().state().pool.bytes_used() >= kBodyBytes);
  ControlPlane::answer(call, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
  std::string body;
  CHECK(client.receive_reply(body) == 413 && body == "no");
  await([&] { return server.engine().state().pool.bytes_used() == 0; });
}

void whole_body() {
  const ControlPlane plane;
  Server server(options_for(plane));
  Client client(server.port());
  const std::string sent(1u << 20, 'x');
  client.send("POST /models HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(sent.size()) + "\r\n\r\n" + sent);
  const int call = plane.accept(1);
  std::string request;
  while (!request.ends_with(sent)) {
    char bytes[65536];
    const ssize_t received = ::recv(call, bytes, sizeof bytes, 0);
    CHECK(received > 0);
    request.append(bytes, static_cast<std::size_t>(received));
  }
  ControlPlane::answer(call, "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n");
  std::string head(22, '\0');
  client.receive(head.data(), head.size());
  CHECK(head.starts_with("HTTP/1.1 204"));
}

// Answers are held in the body pool: many large ones cannot take the server's memory.
void large_answer_without_memory() {
  const ControlPlane plane;
  EngineOptions options = options_for(plane);
  options.body_pool_bytes = 64 * 1024;
  Server server(options);
  Client client(server.port());
  client.send(kModels);
  std::thread thread([&plane] {
    ControlPlane::answer(plane.accept(),
                         "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n" + std::string(100'000, 'x'));
  });
  std::string body;
  CHECK(client.receive_reply(body) == 503);
  thread.join();
}

// A call that waited for a place and then finds nobody is refused at once, not with the next event.
void waiting_call_fails() {
  ControlPlane plane;
  EngineOptions options = options_for(plane);
  options.request_timeout_ms = options.idle_timeout_ms = 65'000;  // no turn of the timer wheel helps out before
  Server server(options);
  Client last(server.port());
  const auto clients = ask_many(server.port(), kControlCallsMax, kModels);
  std::vector<int> calls;
  for (std::size_t i = 0; i < kControlCallsMax; ++i) calls.push_back(plane.accept());
  last.send(kModels);
  await([&] { return server.engine().loops()[0]->stats().control_forwarded.get() == kControlCallsMax + 1; });
  plane.stop();
  const timeval patience{.tv_sec = 4, .tv_usec = 0};
  CHECK(::setsockopt(last.fd(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
  ::close(calls.front());
  std::string body;
  CHECK(last.receive_reply(body) == 502);
  for (std::size_t i = 1; i < calls.size(); ++i) ::close(calls[i]);
}

}  // namespace

int main(int argc, char** argv) {
  struct Case {
    const char* name;
    void (*run)();
  };
  for (const Case& each : {Case{"places_of_abandoned_calls", places_of_abandoned_calls}, Case{"cut_answer", cut_answer},
                           Case{"early_answer", early_answer}, Case{"whole_body", whole_body},
                           Case{"large_answer_without_memory", large_answer_without_memory},
                           Case{"waiting_call_fails", waiting_call_fails}}) {
    if (argc < 2 || std::string_view(argv[1]) == each.name) each.run();
  }
  return 0;
}
